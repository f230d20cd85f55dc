"""Rollouts of every step prefix, traced by hand, and that what else runs changes no label."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tts_eval.labels import label_problem
from tts_eval.scheduler import Scheduler
from tts_eval.search import Rollouts, monte_carlo, step_prefixes
from tts_eval.types import Finish, Prefix, Problem, Sample, Usage


def solution(text: str, *path: int, finish: Finish | None = "eos") -> Prefix:
    """A finished solution: one token a character, a step a line, and an end token without text."""
    steps = tuple(text.splitlines(keepends=True))
    tokens = (*map(ord, text), 0)
    ends = [sum(map(len, steps[: index + 1])) for index in range(len(steps))]
    return Prefix(path, steps, tokens, len(tokens), -1.0, finish, (*ends[:-1], len(tokens)))


def ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def has_digit(text: str) -> bool:
    return text[-1:].isdigit()


def test_a_run_traced_by_hand() -> None:
    search = monte_carlo(4, 2, parsable=has_digit)
    assert next(search) == Sample((Prefix(),), 4, "end")
    # Two begin alike, one states no answer, one is a single step.
    sampled = (solution("a\nb\n1", 0), solution("x\ny", 1), solution("a\nc\n2", 2), solution("3", 3))
    request = search.send(sampled)
    assert [prefix.text for prefix in request.prefixes] == ["a\n", "a\nb\n", "a\nc\n"]
    assert [prefix.tokens for prefix in request.prefixes] == [ids("a\n"), ids("a\nb\n"), ids("a\nc\n")]
    assert [prefix.path for prefix in request.prefixes] == [(0, 0, -1), (0, 1, -1), (2, 1, -1)]
    assert all(prefix.finish is None and prefix.token_count == len(prefix.tokens) for prefix in request.prefixes)
    assert (request.n, request.until, request.temperature) == (2, "end", None)
    ends = tuple(solution(prefix.text + str(n), *prefix.path, n) for prefix in request.prefixes for n in (0, 1))
    with pytest.raises(StopIteration) as done:
        search.send(ends)
    outcome = done.value.value
    assert outcome.solutions == sampled and outcome.kept == (sampled[0], sampled[2], sampled[3])
    assert outcome.rollouts == {ids("a\n"): ends[0:2], ids("a\nb\n"): ends[2:4], ids("a\nc\n"): ends[4:6]}
    assert outcome.generations == 4 + 6


@pytest.mark.parametrize("sampled", [("x", "y"), ("1", "2")])
def test_without_a_prefix_to_roll_out_there_is_no_second_request(sampled: Sequence[str]) -> None:
    search = monte_carlo(2, 3, parsable=has_digit)
    next(search)
    with pytest.raises(StopIteration) as done:
        search.send(tuple(solution(text, index) for index, text in enumerate(sampled)))
    assert done.value.value.rollouts == {} and done.value.value.generations == 2
    assert len(done.value.value.kept) == (2 if sampled[0].isdigit() else 0)


def test_a_cut_prefix_shares_its_path_with_no_node_of_a_search() -> None:
    cut = step_prefixes(solution("a\nb\nc\n1", 5))
    assert [prefix.path for prefix in cut] == [(5, 0, -1), (5, 1, -1), (5, 2, -1)]
    assert [prefix.step_ends for prefix in cut] == [(2,), (2, 4), (2, 4, 6)]
    assert min(solution("a", 5).path) >= 0


class Policy:
    """Writes one of two letters a step and a digit last, by the path alone; answers in random order and portions."""

    tokens_written = None

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.waiting: list[tuple[int, Problem, Sample]] = []

    def check(self, problem: Problem) -> None: ...
    def release(self, ticket: int) -> None: ...

    def submit(self, ticket: int, problem: Problem, request: Sample) -> None:
        self.waiting.append((ticket, problem, request))

    def poll(self) -> list[tuple[int, tuple[Prefix, ...], Usage]]:
        self.random.shuffle(self.waiting)
        count = self.random.randint(1, 4)
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        return [(ticket, self.answer(problem, request), Usage()) for ticket, problem, request in taken]

    def answer(self, problem: Problem, request: Sample) -> tuple[Prefix, ...]:
        return tuple(
            self.extend(problem, parent, (*parent.path, child))
            for parent in request.prefixes
            for child in range(request.n)
        )

    def extend(self, problem: Problem, parent: Prefix, path: tuple[int, ...]) -> Prefix:
        chosen = random.Random(hashlib.sha256(f"{problem.uid} {path}".encode()).digest())
        steps = "".join(f"{chosen.choice('ab')}\n" for _ in range(3 - len(parent.steps)))
        return solution(parent.text + steps + chosen.choice("0011x"), *path)


PROBLEMS = [Problem(f"p{index}", "prompt", (), 99) for index in range(12)]


def labels(in_flight: int, seed: int) -> dict[str, object]:
    searches = ((problem, monte_carlo(6, 4, parsable=has_digit)) for problem in PROBLEMS)
    found = {}
    for finished in Scheduler(Policy(seed), in_flight=in_flight).run(searches):
        if finished is not None:
            problem, outcome, usage = finished
            usage = replace(usage, seconds=0.0)
            found[problem.uid] = label_problem(
                problem, "1", outcome, usage, prompt_tokens=6, extract=lambda text: text[-1], grade=equal
            )
    return found


def equal(pairs: Sequence[tuple[str, str | None]]) -> list[bool]:
    return [gold == answer for gold, answer in pairs]


EXPECTED = labels(len(PROBLEMS), 0)


@given(in_flight=st.integers(1, 20), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_labels_do_not_depend_on_what_else_runs(in_flight: int, seed: int) -> None:
    assert labels(in_flight, seed) == EXPECTED


def test_equal_prefixes_have_equal_labels_and_are_rolled_out_once() -> None:
    rolled_out = 0
    for problem in PROBLEMS:
        search = monte_carlo(6, 4, parsable=has_digit)
        request = search.send(Policy(0).answer(problem, next(search)))
        assert len({prefix.tokens for prefix in request.prefixes}) == len(request.prefixes)
        rolled_out += len(request.prefixes)
        with pytest.raises(StopIteration) as done:
            search.send(Policy(0).answer(problem, request))
        outcome: Rollouts = done.value.value
        value = {}
        for kept, labelled in zip(outcome.kept, EXPECTED[problem.uid].solutions, strict=True):
            for index in range(3):
                value.setdefault(kept.text[: 2 * index + 2], labelled.labels[index])
                assert value[kept.text[: 2 * index + 2]] == labelled.labels[index]
    assert rolled_out < sum(3 * len(problem.solutions) for problem in EXPECTED.values())
