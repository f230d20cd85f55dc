"""Accuracy by budget: unbiased, exact where it can be, and the same whatever else is in the journal."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tts_eval.analysis import (
    MEASURES,
    Pool,
    PoolSet,
    accuracy_rows,
    by_level,
    differences,
    pool_budgets,
    wilson_interval,
)
from tts_eval.selection import SELECTIONS, candidate_scores, expected_correctness, winners
from tts_eval.types import Candidate


def pool(classes: list[int], scores: list[float] | None, right: set[int], uid: str = "a", seed: int = 0) -> Pool:
    candidates = tuple(
        Candidate(
            text="",
            answer=None if answer == -1 else str(answer),
            steps=("", ""),
            step_scores=None if scores is None else (1.0, scores[i]),
            outcome_score=None,
            logprob=None,
            tokens=1,
            finish="eos",
            chain=i,
            attempt=0,
        )
        for i, answer in enumerate(classes)
    )
    return Pool(uid, seed, None, candidates, np.array(classes), np.array([answer in right for answer in classes]))


def pool_set(*pools: Pool, independent: bool = True, budget: int = 4) -> PoolSet:
    return PoolSet("toy", "best_of_n", budget, independent, pools)


def random_pool(rng: np.random.Generator, n: int, uid: str = "a") -> Pool:
    return pool(rng.integers(-1, 4, n).tolist(), rng.random(n).tolist(), {0}, uid)


def by_selection(rows: list, budget: int) -> dict[str, float]:
    return {row.selection: row.accuracy for row in rows if row.budget == budget}


@pytest.mark.parametrize(("n", "expected"), [(1, [1]), (4, [1, 2, 4]), (6, [1, 2, 4, 6])])
def test_budgets_of_independent_pools(n: int, expected: list[int]) -> None:
    longer = pool([0] * (n + 3), None, {0}, "b")
    assert pool_budgets(pool_set(pool([0] * n, None, {0}), longer)) == expected


def test_budget_of_a_joint_search_is_its_own() -> None:
    joint = pool_set(pool([0, 1], [0.9, 0.1], {0}), independent=False, budget=16)
    assert pool_budgets(joint) == [16]
    assert by_selection(accuracy_rows(joint), 16) == {
        "mean": 0.5,
        "majority": 0.5,
        "best_of_n": 1.0,
        "best_of_n_weighted": 1.0,
        "coverage": 1.0,
    }


def test_rows() -> None:
    first = pool([0, 1, 1, -1], [0.9, 0.5, 0.5, 0.99], {0})
    second = pool([0, 0, 1, 2], [0.1, 0.2, 0.9, 0.1], {1}, "b")
    rows = accuracy_rows(pool_set(first, second), aggregations=("last", "min"))
    assert len(rows) == 3 * (3 + 2 * 2)
    assert [row.selection for row in rows[:7]] == [
        "mean",
        "majority",
        *["best_of_n"] * 2,
        *["best_of_n_weighted"] * 2,
        "coverage",
    ]
    assert [row.aggregation for row in rows[:7]] == [None, None, "last", "min", "last", "min", None]
    assert all(row.n == 2 and row.low <= row.accuracy <= row.high for row in rows)
    # Budget 4: majority takes 1 and 0, best_of_n 0 and 1, the weighted vote 1 (0.5 + 0.5) and 1.
    assert by_selection(rows, 4) == {
        "mean": 0.25,
        "majority": 0.0,
        "best_of_n": 1.0,
        "best_of_n_weighted": 0.5,
        "coverage": 1.0,
    }
    assert set(by_selection(rows, 1).values()) == {0.25}, "with one candidate there is nothing to select"


def test_without_scores_only_what_needs_none() -> None:
    scored, unscored = pool([0, 1], [0.5, 0.5], {0}), pool([0, 1], None, {0}, "b")
    rows = accuracy_rows(pool_set(scored, unscored))
    assert {row.selection for row in rows} == {"mean", "majority", "coverage"}
    assert accuracy_rows(pool_set(unscored), measures=["best_of_n"]) == []


@given(st.integers(1, 7), st.integers(0, 2**32), st.sampled_from(SELECTIONS), st.data())
def test_every_budget_is_the_mean_over_all_its_subsets(n: int, seed: int, selection: str, data: st.DataObject) -> None:
    one = random_pool(np.random.default_rng(seed), n)
    k = data.draw(st.integers(1, n))
    scores = candidate_scores(one.candidates, "last")
    plain = [
        expected_correctness(winners(one.classes, scores, np.array([subset]), selection), one.classes, one.correct)[0]
        for subset in itertools.combinations(range(n), k)
    ]
    (row,) = accuracy_rows(pool_set(one), measures=[selection], budgets=[k])
    assert row.accuracy == pytest.approx(np.mean(plain))


def test_resampling_estimates_the_full_enumeration() -> None:
    rng = np.random.default_rng(0)
    many = pool_set(*(random_pool(rng, 12, str(i)) for i in range(20)))
    exact = accuracy_rows(many, measures=SELECTIONS, budgets=[6], resamples=1000)
    estimates = [accuracy_rows(many, measures=SELECTIONS, budgets=[6], resamples=100, seed=s) for s in range(30)]
    for i, row in enumerate(exact):
        values = [rows[i].accuracy for rows in estimates]
        assert np.std(values) > 0
        assert abs(np.mean(values) - row.accuracy) < 4 * np.std(values) / np.sqrt(len(values))


def test_a_problem_counts_the_same_in_any_company() -> None:
    rng = np.random.default_rng(1)
    a, b = random_pool(rng, 40, "a"), random_pool(rng, 40, "b")
    alone = [accuracy_rows(pool_set(one), resamples=50) for one in (a, b)]
    together = accuracy_rows(pool_set(b, a), resamples=50)
    for row, first, second in zip(together, *alone, strict=True):
        assert row.accuracy == pytest.approx((first.accuracy + second.accuracy) / 2)
    assert together == accuracy_rows(pool_set(b, a), resamples=50)
    assert together != accuracy_rows(pool_set(b, a), resamples=50, seed=1)
    assert alone[0] != accuracy_rows(pool_set(replace(a, uid="c")), resamples=50), "each problem has its own subsets"


def test_seeds_are_averaged_within_their_problem() -> None:
    rows = accuracy_rows(
        pool_set(pool([0], None, {0}), pool([1], None, {0}, seed=1), pool([0], None, {0}, "b")), measures=["mean"]
    )
    assert [(row.accuracy, row.n) for row in rows] == [(0.75, 2)]


@pytest.mark.parametrize(("right", "n"), [(0, 5), (3, 10), (10, 10), (220, 500)])
def test_wilson_interval(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 2000), st.floats(0, 1))
def test_an_accuracy_is_within_its_interval(n: int, accuracy: float) -> None:
    """Also 0 and 1, whose ends rounding would put a hair inside."""
    for one in (0.0, accuracy, 1.0):
        low, high = wilson_interval(one, n)
        assert 0 <= low <= one <= high <= 1


def test_measures_hold_every_selection() -> None:
    assert set(MEASURES) == {*SELECTIONS, "mean", "coverage"}


def test_a_difference_is_taken_problem_by_problem() -> None:
    """Best-of-N is right wherever the majority is and on two problems more: each alone varies, the gain less."""
    won = [pool([0, 1, 1], [0.9, 0.2, 0.3], {0}, f"won {i}") for i in range(2)]
    even = [pool([0, 0, 1], [0.9, 0.8, 0.1], {i % 2}, f"even {i}") for i in range(8)]
    pools = pool_set(*won, *even)
    (found,) = differences(pools, "majority", measures=("majority", "best_of_n"), budgets=[3])
    assert (found.selection, found.against, found.aggregation, found.n) == ("best_of_n", "majority", "last", 10)
    assert found.difference == pytest.approx(0.2)
    # A draw of ten problems has k of the two that were won with a binomial chance: 2.5 % and 97.5 % of it are 0 and 5.
    assert (found.low, found.high) == pytest.approx((0.0, 0.5))
    assert found == differences(pools, "majority", measures=("best_of_n",), budgets=[3])[0]


def test_levels_come_in_their_order() -> None:
    levels = [10, 2, "Level 5", None, 2]
    pools = pool_set(*(replace(pool([0], None, {0}, str(i)), level=level) for i, level in enumerate(levels)))
    parts = by_level(pools)
    assert [level for level, _ in parts] == ["Level 5", 2, 10, None]
    assert [pool.uid for pool in parts[1][1].pools] == ["1", "4"]
