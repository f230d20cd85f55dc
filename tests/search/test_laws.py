"""What holds for every step-wise search, whatever policy and verifier say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import World

from tts_eval.search import beam, dvts, rebase
from tts_eval.types import Sample, Score, Search


Make = Callable[[int, int, int], Search]
"""From budget, width and rounds."""

METHODS: dict[str, Make] = {
    "beam": lambda n, m, rounds: beam(n, m, rounds=rounds),
    "lookahead-1": lambda n, m, rounds: beam(n, m, lookahead=1, rounds=rounds),
    "lookahead-3": lambda n, m, rounds: beam(n, m, lookahead=3, rounds=rounds),
    "dvts": lambda n, m, rounds: dvts(n, m, rounds=rounds),
    "rebase": lambda n, m, rounds: rebase(n, rounds=rounds),
    "rebase-hot": lambda n, m, rounds: rebase(n, softmax_temperature=5.0, rounds=rounds),
}

any_search = pytest.mark.parametrize("method", METHODS)
anything = given(
    seed=st.integers(),
    n=st.integers(1, 16),
    width=st.integers(1, 20),
    rounds=st.integers(1, 6),
    letters=st.integers(1, 3),
    end=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)


@any_search
@anything
def test_n_solutions_end_and_each_keeps_its_place(
    method: str, seed: int, n: int, width: int, rounds: int, letters: int, end: float
) -> None:
    world = World(seed, letters, end)
    outcome = world.run(METHODS[method](n, width, rounds))
    finals = outcome.finals
    assert len(finals) == n == len({final.path for final in finals})
    assert all(len(final.steps) == rounds for final in finals if final.finish is None)
    # Every solution that ended is final, once: none was dropped, cloned or gone on from.
    assert sorted(f.path for f in finals if f.finish) == sorted(f.path for f in world.ended)
    assert outcome.step_scores == tuple(map(world.scores, finals))
    assert world.requests[-1] == Score(finals)


@any_search
@anything
def test_there_are_never_more_than_n(
    method: str, seed: int, n: int, width: int, rounds: int, letters: int, end: float
) -> None:
    ended = 0

    def watch(request: Sample | Score, reply: tuple[object, ...]) -> None:
        nonlocal ended
        if isinstance(request, Sample) and not request.lookahead:
            assert ended + len(reply) == n
            ended += sum(prefix.finish is not None for prefix in reply)
            assert len({prefix.path for prefix in reply}) == len(reply)
        elif isinstance(request, Sample):
            assert ended + len(request.prefixes) <= n

    World(seed, letters, end).run(METHODS[method](n, width, rounds), watch=watch)


@any_search
@anything
def test_the_cost_is_the_papers(
    method: str, seed: int, n: int, width: int, rounds: int, letters: int, end: float
) -> None:
    world = World(seed, letters, end)
    k = int(method.partition("-")[2]) if method.startswith("lookahead") else 0
    assert world.run(METHODS[method](n, width, rounds)).generations == n * (k + 1)
    assert len(world.sampled) <= rounds - 1
    assert sum(isinstance(r, Sample) and r.lookahead for r in world.requests) <= k * (rounds - 1)


@any_search
def test_with_a_budget_of_one_nothing_is_chosen(method: str) -> None:
    world = World(2, end=0)
    (final,) = world.run(METHODS[method](1, 4, 5)).finals
    assert final.path == (0, 0, 0, 0, 0) and final.finish is None
