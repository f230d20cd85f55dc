"""Chains of revisions: what is asked in which order, and what holds for every shape."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from scripted import World, ended

from tts_eval.search import best_of_n, revise
from tts_eval.types import Outcome, Prefix, Sample, Score


ROOT = Prefix()


def shown(attempts: Sequence[str]) -> str:
    return "Q" + "".join(f"|{attempt}" for attempt in attempts)


def attempt(text: str, *path: int) -> Prefix:
    return Prefix(path, (text,), finish="eos")


def test_two_chains_of_four_that_see_two_attempts_each() -> None:
    search = revise(2, 4, shown, window=2, scored=True, history=True)
    rounds = [(attempt(f"a{n}", *([0] * (n + 1))), attempt(f"b{n}", 1, *([0] * n))) for n in range(4)]
    assert search.send(None) == Sample((ROOT,), 2, "end")
    for before, prompts in zip(rounds, [("Q|a0", "Q|b0"), ("Q|a0|a1", "Q|b0|b1"), ("Q|a1|a2", "Q|b1|b2")]):
        # Nothing but the place is left of an attempt: its text is in the prompt.
        places = tuple(Prefix(one.path) for one in before)
        assert search.send(before) == Sample(places, 1, "end", prompts=prompts)
    finals = tuple(one for chain in zip(*rounds) for one in chain)
    assert [final.text for final in finals] == ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"]
    read = ("Q", "Q|a0", "Q|a0|a1", "Q|a1|a2", "Q", "Q|b0", "Q|b0|b1", "Q|b1|b2")
    assert search.send(rounds[3]) == Score(finals, read)
    scores = tuple((float(n),) for n in range(8))
    assert ended(search, scores) == Outcome(finals, scores, generations=8, length=4)


def test_without_history_a_verifier_reads_each_attempt_after_the_problem_alone() -> None:
    search = revise(1, 2, shown, scored=True)
    first, second = attempt("a", 0), attempt("b", 0, 0)
    search.send(None)
    search.send((first,))
    assert search.send((second,)) == Score((first, second))


@given(
    seed=st.integers(),
    chains=st.integers(1, 5),
    length=st.integers(1, 7),
    window=st.integers(1, 6),
    scored=st.booleans(),
)
def test_every_attempt_continues_its_chain_and_sees_the_latest_of_it(
    seed: int, chains: int, length: int, window: int, scored: bool
) -> None:
    world = World(seed, letters=8, end=0.0)
    outcome = world.run(revise(chains, length, shown, window=window, scored=scored))
    finals = outcome.finals
    assert len(finals) == outcome.generations == chains * length and outcome.length == length
    assert [final.path for final in finals] == [(c, *[0] * n) for c in range(chains) for n in range(length)]
    assert (outcome.step_scores is not None) == scored
    for n, request in enumerate(world.sampled, start=1):
        seen = [finals[c * length + max(0, n - window) : c * length + n] for c in range(chains)]
        assert list(request.prompts) == [shown([one.text for one in chain]) for chain in seen]
    assert len(world.sampled) == length - 1


@given(seed=st.integers(), chains=st.integers(1, 5), longer=st.integers(2, 6), length=st.integers(1, 5))
def test_a_longer_run_begins_with_the_shorter_ones_attempts(seed: int, chains: int, longer: int, length: int) -> None:
    long = World(seed).run(revise(chains, longer, shown, scored=False)).finals
    short = World(seed).run(revise(chains, min(length, longer), shown, scored=False))
    each = short.length
    assert short.finals == tuple(long[c * longer + n] for c in range(chains) for n in range(each))


@given(seed=st.integers(), n=st.integers(1, 9), scored=st.booleans())
def test_with_a_length_of_one_it_is_best_of_n(seed: int, n: int, scored: bool) -> None:
    worlds = World(seed), World(seed)
    assert worlds[0].run(revise(n, 1, shown, scored=scored)) == worlds[1].run(best_of_n(n, scored=scored))
    assert worlds[0].requests == worlds[1].requests
