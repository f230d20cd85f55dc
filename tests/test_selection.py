"""Late selection against plain definitions of the same rules."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.selection import (
    AGGREGATIONS,
    SELECTIONS,
    aggregate,
    as_classes,
    candidate_scores,
    coverage,
    expected_correctness,
    select,
    winners,
)
from tts_eval.types import Candidate, TtsEvalError


# Eighths add up exactly, so that the plain definitions below meet the same ties.
eighths = st.integers(-8, 8).map(lambda i: i / 8)
pools = st.lists(st.tuples(st.integers(-1, 3), eighths), min_size=1, max_size=6)


def arrays(pool: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([c for c, _ in pool]), np.array([s for _, s in pool])


def plain_winners(pool: list[tuple[int, float]], selection: str) -> set[int]:
    votes: dict[int, float] = defaultdict(float)
    for answer, score in pool:
        if answer == -1:
            continue
        if selection == "majority":
            votes[answer] += 1
        elif selection == "best_of_n_weighted":
            votes[answer] += score
        else:
            votes[answer] = max(votes.get(answer, -math.inf), score)
    return {answer for answer, vote in votes.items() if vote == max(votes.values())}


def candidate(
    step_scores: tuple[float, ...] | None, outcome_score: float | None, answer: str | None = "1"
) -> Candidate:
    return Candidate("", answer, ("",) * len(step_scores or ()), step_scores, outcome_score, None, 1, "eos", 0, 0)


@pytest.mark.parametrize(
    ("how", "expected"), [("last", 0.25), ("min", 0.25), ("prod", 0.125), ("mean", 1.75 / 3), ("max", 1.0)]
)
def test_aggregate(how: str, expected: float) -> None:
    assert aggregate((0.5, 1.0, 0.25), how) == pytest.approx(expected)
    assert aggregate((0.5,), how) == 0.5


def test_unknown_names_list_the_choices() -> None:
    with pytest.raises(TtsEvalError, match="unknown aggregation 'sum'; choose from last, min, prod, mean, max"):
        aggregate((1.0,), "sum")
    with pytest.raises(
        TtsEvalError, match="unknown selection 'vote'; choose from majority, best_of_n, best_of_n_weighted"
    ):
        select(np.array([0]), None, "vote")
    with pytest.raises(TtsEvalError, match="best_of_n needs verifier scores"):
        select(np.array([0]), None, "best_of_n")


def test_candidate_scores() -> None:
    stepwise, outcome, both = candidate((0.5, 0.2), None), candidate(None, 0.7), candidate((0.1,), 0.9)
    unparsable, empty = candidate(None, None, answer=None), candidate((), None, answer=None)
    scores = candidate_scores([stepwise, outcome, both, unparsable, empty], "min")
    np.testing.assert_array_equal(scores, [0.2, 0.7, 0.1, np.nan, np.nan])
    assert candidate_scores([stepwise, candidate(None, None)], "last") is None
    for how in AGGREGATIONS:
        assert candidate_scores([both], how) == [0.1]


def test_as_classes() -> None:
    assert as_classes([7, None, 3, 7]).tolist() == [0, -1, 1, 0]
    assert as_classes([None]).tolist() == [-1]


@given(pools, st.sampled_from(SELECTIONS), st.data())
def test_winners_of_many_subsets_match_the_definition(
    pool: list[tuple[int, float]], selection: str, data: st.DataObject
) -> None:
    classes, scores = arrays(pool)
    k = data.draw(st.integers(1, len(pool)))
    subsets = np.array(list(itertools.combinations(range(len(pool)), k)))
    found = winners(classes, scores, subsets, selection)
    for row, subset in zip(found, subsets, strict=True):
        assert set(np.flatnonzero(row)) == plain_winners([pool[i] for i in subset], selection)


@given(pools, st.sampled_from(SELECTIONS), st.data())
def test_expected_correctness_is_the_mean_over_tied_answers_in_any_order(
    pool: list[tuple[int, float]], selection: str, data: st.DataObject
) -> None:
    right = data.draw(st.sets(st.integers(0, 3)))
    order = data.draw(st.permutations(range(len(pool))))
    values = []
    for some in (pool, [pool[i] for i in order]):
        classes, scores = arrays(some)
        winning = winners(classes, scores, np.arange(len(some))[None], selection)
        values.append(expected_correctness(winning, classes, np.isin(classes, list(right)))[0])
    tied = plain_winners(pool, selection)
    assert values[0] == values[1] == pytest.approx(len(tied & right) / max(len(tied), 1))


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), min_size=2, max_size=12), st.data())
def test_order_of_summation_breaks_no_tie(pool: list[tuple[int, float]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(pool))))
    classes, scores = arrays(pool)
    everything = np.arange(len(pool))[None]
    np.testing.assert_array_equal(
        winners(classes, scores, everything, "best_of_n_weighted"),
        winners(classes[order], scores[order], everything, "best_of_n_weighted"),
    )


def test_sums_that_differ_by_rounding_tie() -> None:
    classes, scores = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
    assert sum(scores[:3]) != sum(scores[3:])
    assert winners(classes, scores, np.arange(6)[None], "best_of_n_weighted").tolist() == [[True, True]]


@given(pools, st.sampled_from(SELECTIONS))
def test_select_picks_a_winner(pool: list[tuple[int, float]], selection: str) -> None:
    classes, scores = arrays(pool)
    pick = select(classes, scores, selection)
    tied = plain_winners(pool, selection)
    if pick is None:
        assert not tied
        return
    assert classes[pick] == next(answer for answer, _ in pool if answer in tied), "the tied answer that comes first"
    members = [i for i, (answer, _) in enumerate(pool) if answer == classes[pick]]
    assert pick == max(members, key=lambda i: (scores[i], -i)), "its best member, the first on a tie"


def test_unparsable_answers_never_vote_and_never_win() -> None:
    classes, scores = np.array([-1, -1, 0]), np.array([0.9, np.nan, 0.1])
    assert [select(classes, scores, selection) for selection in SELECTIONS] == [2, 2, 2]
    nothing = np.array([-1, -1])
    for selection in SELECTIONS:
        assert select(nothing, np.array([np.nan, 0.3]), selection) is None
        winning = winners(nothing, np.zeros(2), np.array([[0], [1]]), selection)
        assert expected_correctness(winning, nothing, np.zeros(2, dtype=bool)).tolist() == [0.0, 0.0]


def test_majority_needs_no_scores() -> None:
    assert select(np.array([0, 1, 1]), None, "majority") == 1
    assert select(np.array([0, 1, 1]), np.array([0.0, 0.2, 0.7]), "majority") == 2


def test_a_negative_sum_beats_an_absent_answer() -> None:
    classes, scores = np.array([0, 1]), np.array([-3.0, 1.0])
    assert winners(classes, scores, np.array([[0]]), "best_of_n_weighted").tolist() == [[True, False]]


@given(st.integers(1, 7), st.data())
def test_coverage_is_the_mean_over_all_subsets(n: int, data: st.DataObject) -> None:
    correct = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    k = data.draw(st.integers(1, n))
    subsets = list(itertools.combinations(correct, k))
    assert coverage(correct, k) == pytest.approx(Counter(map(any, subsets))[True] / len(subsets))


def test_coverage_of_large_pools_is_exact() -> None:
    n, c, k = 2048, 3, 512
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert coverage(np.arange(n) < c, k) == pytest.approx(float(exact), abs=1e-12)
    assert coverage(np.zeros(4, dtype=bool), 4) == 0.0
    assert coverage(np.ones(4, dtype=bool), 1) == 1.0


def test_a_pool_without_any_answer_has_no_scores_unless_a_verifier_gave_some() -> None:
    unscored = Candidate("t", None, ("t",), None, None, None, 1, "eos", 0, 0)
    assert candidate_scores([unscored, unscored], "last") is None
    scored = dataclasses.replace(unscored, step_scores=(0.5,))
    assert candidate_scores([scored, scored], "last") is not None


def test_solutions_without_a_step_dont_cost_a_pool_its_scores() -> None:
    """A policy may end at once; a process verifier then has nothing to score, but there is one."""
    empty = Candidate("", None, (), (), None, None, 1, "eos", 0, 0)
    scores = candidate_scores([empty, empty], "last")
    assert scores is not None
    for selection in SELECTIONS:
        assert select(as_classes([None, None]), scores, selection) is None
