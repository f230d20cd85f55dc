"""Probing, choosing, and searching with what is left: what is asked, what comes of it, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import World, ended
from test_transcripts import record, transcribe

from tts_eval.journal import Record
from tts_eval.search import adaptive, beam, best_of_n, dvts, optimal, rebase
from tts_eval.types import Outcome, Prefix, Sample, Score, Search


ROOT = Prefix()

SEARCHES: dict[str, Callable[[int], Search]] = {
    "best-of-n": lambda n: best_of_n(n, scored=True),
    "beam": lambda n: beam(n, 2, rounds=4),
    "lookahead": lambda n: beam(n, 2, lookahead=2, rounds=4),
    "dvts": lambda n: dvts(n, 2, rounds=4),
    "rebase": lambda n: rebase(n, rounds=4),
}


class Shifted(World):
    """The world in which the first children of the root are missing."""

    def __init__(self, seed: int, missing: int):
        super().__init__(seed)
        self.missing = missing

    def child(self, parent: Prefix, index: int, *, greedy: bool) -> Prefix:
        return super().child(parent, index + self.missing if parent == ROOT else index, greedy=greedy)


any_search = pytest.mark.parametrize("method", SEARCHES)
anything = given(seed=st.integers(), probes=st.integers(1, 6), left=st.integers(1, 9))


def solution(text: str, index: int) -> Prefix:
    return Prefix((index,), (text,), finish="eos")


def probed(method: str, probes: int, left: int) -> Search:
    return optimal(probes, lambda score, tried: SEARCHES[method](left))


def test_the_mean_of_the_probes_chooses_and_the_rest_of_the_budget_goes_to_the_choice() -> None:
    told: list[object] = []

    def choose(score: float, probes: tuple[Prefix, ...]) -> Search:
        told.extend((score, probes))
        return best_of_n(2, scored=True)

    search = optimal(3, choose, value=min)
    tried = tuple(solution(text, index) for index, text in enumerate("abc"))
    further = tuple(solution(text, index) for index, text in enumerate("de", start=3))
    assert search.send(None) == Sample((ROOT,), 3, "end", alive=(ROOT,), probe=True)
    assert search.send(tried) == Score(tried)
    # The second has no step, so no score.
    assert search.send(((0.9, 0.6), (), (0.3, 0.8))) == Sample((ROOT,), 2, "end", first=3)
    assert told == [pytest.approx(0.3), tried]
    assert search.send(further) == Score(further)
    assert ended(search, ((0.1,), (0.2,))) == Outcome(
        tried + further, ((0.9, 0.6), (), (0.3, 0.8), (0.1,), (0.2,)), generations=5
    )


def test_where_nothing_is_left_the_probes_are_all() -> None:
    world = World(0)
    outcome = world.run(optimal(4, lambda score, tried: None))
    other = World(0).run(best_of_n(4, scored=True))
    assert outcome == other and len(world.requests) == 2


@anything
def test_with_best_of_n_it_is_best_of_n_sample_by_sample(seed: int, probes: int, left: int) -> None:
    assert World(seed).run(probed("best-of-n", probes, left)) == World(seed).run(best_of_n(probes + left, scored=True))


@anything
def test_a_search_that_samples_in_batches_goes_on_from_the_probes(seed: int, probes: int, left: int) -> None:
    def in_twos(score: float, tried: tuple[Prefix, ...]) -> Search:
        return adaptive(left, 2, 1.0, lambda solutions: np.arange(len(solutions)), scored=True, seen=tried)

    assert World(seed).run(optimal(probes, in_twos)) == World(seed).run(best_of_n(probes + left, scored=True))


@any_search
@anything
def test_probes_come_first_and_nothing_is_sampled_twice(method: str, seed: int, probes: int, left: int) -> None:
    world, outcome, nodes = transcribe(probed(method, probes, left), seed)
    assert outcome.finals[:probes] == World(seed).run(best_of_n(probes, scored=True)).finals
    assert len(outcome.finals) == len({final.path for final in outcome.finals}) == probes + left
    assert outcome.step_scores == tuple(map(world.scores, outcome.finals))
    assert outcome.generations == probes + left * (3 if method == "lookahead" else 1)
    asked = [request for request in world.requests if isinstance(request, Sample)]
    assert [request.probe for request in asked] == [True] + [False] * (len(asked) - 1)
    first_steps = [node.path for node in nodes if len(node.path) == 1]
    assert sorted(first_steps) == [(index,) for index in range(probes + left)]
    assert len({node.key for node in nodes}) == len(nodes)
    whole = record(outcome, nodes)
    assert Record.from_json(json.loads(json.dumps(whole.to_json()))) == whole


@any_search
@anything
def test_the_search_goes_on_as_it_would_from_other_first_steps(method: str, seed: int, probes: int, left: int) -> None:
    """Only the numbers of its first steps differ; what it asks below them it asks as ever."""
    world, alone = World(seed), Shifted(seed, probes)
    outcome, other = world.run(probed(method, probes, left)), alone.run(SEARCHES[method](left))
    assert outcome.finals[probes:] == other.finals
    assert world.requests[3:] == alone.requests[1:]
