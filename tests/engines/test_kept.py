"""Prefixes kept across steps: they save reading and change nothing, whatever is dropped and whenever."""

from __future__ import annotations

import functools
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from searching import METHODS, Asked, Results, assert_same, search_all, total
from tiny import decode, encode, tiny_engine, tiny_model

from tts_eval.engines.kept import KeptPrefixes, Node
from tts_eval.engines.stops import split_steps
from tts_eval.types import Decoding, Problem, Search


MODEL = tiny_model()
DECODING = Decoding(temperature=1.0, seed=5, step_delimiter="\n", max_step_tokens=9)
SOME = 25_000  # bytes: the prefixes of some, but not of all of the problems below

every_method = pytest.mark.parametrize("method", METHODS)


def problem(index: int) -> Problem:
    letters = random.Random(index)
    return Problem(f"p{index}", "".join(letters.choice("abcdefgh ") for _ in range(4 + index % 13)), ("ab",), 40)


PROBLEMS = [problem(index) for index in range(5)]


def tiny_results(
    method: str, problems: list[Problem] = PROBLEMS, *, kept: int | None = None, max_rows: int | None = None
) -> Results:
    return search_all(tiny_engine(MODEL, DECODING, max_rows, kept), searches(method, problems))


def searches(method: str, problems: list[Problem] = PROBLEMS) -> list[tuple[Problem, Search]]:
    return [(p, METHODS[method](6, 4)) for p in problems]


expected = functools.cache(tiny_results)
"""With everything kept."""


@every_method
def test_what_is_kept_changes_nothing_but_the_cost(method: str) -> None:
    nothing, some = tiny_results(method, kept=0), tiny_results(method, kept=SOME)
    assert_same(nothing, expected(method))
    assert_same(some, expected(method))
    costs = [total(results) for results in (nothing, some, expected(method))]
    if method != "best-of-n":
        assert costs[0].prefill_tokens > costs[1].prefill_tokens > costs[2].prefill_tokens
    # Where nothing is kept, samples of one prefix still share what was read of it.
    assert len({cost.prefill_tokens + cost.reused_tokens for cost in costs}) == 1


@every_method
@pytest.mark.parametrize("max_rows", [None, 1, 3])
def test_with_others_is_as_alone_and_nothing_is_read_twice_while_it_lives(method: str, max_rows: int | None) -> None:
    asked = Asked()
    engine = tiny_engine(MODEL, DECODING, max_rows)
    together = search_all(engine, searches(method), watcher=asked)
    assert_same(together, expected(method))
    for p in PROBLEMS:
        # The prompt once; of a prefix that was written here only the last token has not been read yet.
        assert together[p.uid][1].prefill_tokens == len(encode(p.prompt)) + asked.extended[p.uid]
    assert (asked.extended.total() > 0) == (method != "best-of-n")
    if max_rows is None:
        for p in PROBLEMS[:3]:
            assert_same({p.uid: together[p.uid]}, tiny_results(method, [p]))


def test_searches_of_several_kinds_and_depths_share_batches() -> None:
    """Some are at their first step while others are at their last, and their problems come and go."""
    names = list(METHODS)
    kinds = [(problem(index), METHODS[names[index % len(names)]], 2 + index % 4) for index in range(10)]
    engine = tiny_engine(MODEL, DECODING)
    together = search_all(engine, [(p, make(2 + rounds, rounds)) for p, make, rounds in kinds], in_flight=4)
    for p, make, rounds in kinds:
        assert_same({p.uid: together[p.uid]}, search_all(engine, [(p, make(2 + rounds, rounds))]))


@every_method
def test_running_out_of_memory_in_the_middle_changes_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = expected(method)
    forward, sizes = MODEL.forward, []

    def short_of_memory(input_ids: torch.Tensor, **kwargs: object) -> object:
        if input_ids.shape[1] == 1:
            sizes.append(len(input_ids))
            if len(sizes) in (6, 20):
                raise torch.OutOfMemoryError("no memory for that")
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(MODEL, "forward", short_of_memory)
    assert_same(tiny_results(method), undisturbed)
    assert len(sizes) > 30


@pytest.mark.parametrize("method", [name for name in METHODS if name != "best-of-n"])
@pytest.mark.parametrize("place", [1, 5, 9])
def test_running_out_of_memory_while_a_row_leaves_counts_it_once(
    method: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = expected(method)
    engine = tiny_engine(MODEL, DECODING)
    kind = type(engine._batch.cache)
    take, calls = kind.take, 0

    def short_of_memory(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == place:
            raise torch.OutOfMemoryError("no memory for that")
        return take(*args)

    monkeypatch.setattr(kind, "take", short_of_memory)
    assert_same(search_all(engine, searches(method)), undisturbed)
    assert calls > place


def test_running_out_of_memory_between_two_steps_halves_the_batch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """No row is left then: the batch is what is read of the kept prefixes."""
    engine = tiny_engine(MODEL, DECODING)
    forward, between = MODEL.forward, 0

    def short_of_memory(input_ids: torch.Tensor, **kwargs: object) -> object:
        nonlocal between
        if input_ids.shape[1] == 1 and not engine._batch.rows and not between:
            between = engine._batch.cache.row_count
            raise torch.OutOfMemoryError("no memory for that")
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(MODEL, "forward", short_of_memory)
    assert_same(search_all(engine, searches("beam")), expected("beam"))
    assert between > 3 and engine._max_rows == between // 2


@every_method
def test_steps_are_those_of_the_whole_text(method: str) -> None:
    """Sampled step by step or at once, a solution is cut alike; only blank lines are the next step's, or the last's."""
    decoding = Decoding(temperature=1.0, seed=5, step_delimiter="\n", max_step_tokens=100)
    results = search_all(tiny_engine(MODEL, decoding), [(p, METHODS[method](8, 20)) for p in PROBLEMS])
    finals = [final for outcome, _ in results.values() for final in outcome.finals]
    assert max(len(final.steps) for final in finals) > 2 and not all(final.text.strip() for final in finals)
    for final in finals:
        assert [step.strip() for step in final.steps] == [step.strip() for step in split_steps(final.text, "\n")]
        assert len(final.step_ends) == len(final.steps)
        assert final.step_ends[-1:] == ((len(final.tokens),) if final.steps else ())


def test_a_stop_string_across_steps_ends_a_solution_where_it_is_complete() -> None:
    """Such as a blank line where a newline ends a step, or one and `Problem:` where a blank line does."""
    stopping = [replace(p, stop=("\na", "\nc", "e\nb", "h\nf")) for p in PROBLEMS]
    results = search_all(tiny_engine(MODEL, DECODING), searches("beam", stopping))
    finals = [final for outcome, _ in results.values() for final in outcome.finals]
    stopped = {stop: [f for f in finals if decode(f.tokens).endswith(stop)] for stop in stopping[0].stop}
    assert len(list(filter(None, stopped.values()))) > 1
    for final in finals:
        written = decode(final.tokens)
        assert (final.finish == "stop") == any(final in ended for ended in stopped.values())
        assert not any(stop in written[:-1] for stop in stopping[0].stop)


def stretch(tokens: int) -> torch.Tensor:
    """Keys and values of so many tokens, 8 bytes each."""
    return torch.zeros(2, 1, tokens, 1)


def test_a_shared_stretch_counts_once_and_goes_with_its_last_user() -> None:
    kept = KeptPrefixes(10_000)
    root = kept.node(None, stretch(10))
    kept.keep(0, (1,), kept.node(root, stretch(3)))
    kept.keep(0, (2,), kept.node(root, stretch(4)))
    del root
    assert kept.size == 8 * (10 + 3 + 4)
    node = kept.find(0, (1,))
    assert node is not None and [part.shape[2] for part in node.stretches()] == [10, 3]
    kept.retain(0, [(1,)])
    assert kept.find(0, (2,)) is None and kept.size == 8 * (10 + 3)
    kept.drop(0)
    assert kept.size == 8 * (10 + 3), "somebody still reads it"
    del node
    assert kept.size == 0


def test_prefixes_are_those_of_their_own_search() -> None:
    kept = KeptPrefixes(10_000)
    kept.keep(0, (1,), kept.node(None, stretch(3)))
    kept.keep(1, (1,), kept.node(None, stretch(5)))
    kept.retain(1, [])
    assert kept.find(0, (1,)) is not None and kept.find(1, (1,)) is None and kept.find(2, (1,)) is None
    assert kept.size == 8 * 3


def test_beyond_the_limit_the_search_that_was_idle_the_longest_loses_its_prefixes() -> None:
    kept = KeptPrefixes(8 * 10)
    for ticket in (0, 1, 2):
        kept.keep(ticket, (1,), kept.node(None, stretch(3)))
    kept.retain(0, [(1,)])  # 1 is idle now
    kept.keep(2, (2,), kept.node(None, stretch(3)))
    assert [kept.find(ticket, (1,)) is not None for ticket in (0, 1, 2)] == [True, False, True]
    assert kept.size <= 8 * 10
    kept.keep(3, (1,), kept.node(None, stretch(11)))
    assert kept.size == 0


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["keep", "keep", "retain", "drop"]), st.integers(0, 3), st.integers(0, 5)), max_size=40
)


@given(actions=ACTIONS, limit=st.sampled_from([0, 100, 400, 10_000]))
def test_the_size_is_that_of_what_can_be_found_and_within_the_limit(
    actions: list[tuple[str, int, int]], limit: int
) -> None:
    kept = KeptPrefixes(limit)
    for action, ticket, token in actions:
        if action == "keep":
            before = kept.find(ticket, (token - 1,))
            kept.keep(ticket, (token,), kept.node(before, stretch(token + 1)))
            del before
        elif action == "retain":
            kept.retain(ticket, [(token,), (token + 1,)])
        else:
            kept.drop(ticket)
        found = [kept.find(ticket, (token,)) for ticket in range(4) for token in range(6)]
        reachable: set[Node] = set()
        for node in found:
            while node is not None:
                reachable.add(node)
                node = node.before
        del found, node
        assert kept.size == sum(node.kv.nbytes for node in reachable) <= limit
        reachable.clear()
    kept.clear()
    assert kept.size == 0
