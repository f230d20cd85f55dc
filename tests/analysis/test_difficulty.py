"""Difficulty bins of every kind, and how far they depend on the samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.analysis import Pool, PoolSet
from tts_eval.analysis.difficulty import (
    bins_of,
    mean_scores,
    quantile_bins,
    quantile_thresholds,
    stability,
    threshold_bins,
)
from tts_eval.types import Candidate


def pool(uid: str, right: int, wrong: int, score: float | None = None, level: int | None = None, seed: int = 0) -> Pool:
    scores = None if score is None else (0.0, score)
    candidate = Candidate("", "1", ("", ""), scores, None, None, 1, "eos", 0, 0)
    correct = np.array([True] * right + [False] * wrong)
    return Pool(uid, seed, level, (candidate,) * len(correct), np.zeros(len(correct), dtype=int), correct)


def pools(*of: Pool) -> PoolSet:
    return PoolSet("toy", "best-of-n", 4, True, of)


TEN = pools(*(pool(f"p{k}", 10 - k, k, score=k / 10, level=k % 2) for k in range(10)))


def test_oracle_bins_cut_by_pass_rate_and_predicted_ones_by_the_verifier() -> None:
    assert list(bins_of("oracle", TEN).values()) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert list(bins_of("predicted", TEN).values()) == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert list(bins_of("absolute", TEN).values()) == [1, 1, 1, 1, 1, 1, 2, 2, 2, 2]
    assert list(bins_of("level", TEN).values()) == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]


def test_what_the_samples_dont_tell_is_empty() -> None:
    bare = pools(pool("a", 1, 1), pool("b", 1, 0))
    assert bins_of("predicted", bare) == bins_of("level", bare) == {} and mean_scores(bare) == {}
    assert stability("predicted", bare) is None


def test_seeds_of_a_problem_are_averaged() -> None:
    two = pools(pool("a", 1, 0, score=0.2), pool("a", 0, 1, score=0.4, seed=1), pool("b", 0, 1, score=0.1))
    assert mean_scores(two) == {"a": pytest.approx(0.3), "b": pytest.approx(0.1)}
    assert bins_of("absolute", two) == {"a": 1, "b": 3}


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_thresholds_cut_as_the_quantiles_do(counts: list[int]) -> None:
    rates = {str(place): count / 40 for place, count in enumerate(counts)}
    thresholds = quantile_thresholds(rates)
    assert list(thresholds) == sorted(thresholds, reverse=True)
    assert threshold_bins(rates, thresholds) == quantile_bins(rates)


def test_more_samples_make_bins_more_stable() -> None:
    def of(samples: int) -> float:
        right = [samples * k // 20 for k in range(20)]
        found = stability("oracle", pools(*(pool(str(k), of_k, samples - of_k) for k, of_k in enumerate(right))))
        assert found is not None and sum(found.problems) == 20 and found.same <= found.near <= 1
        return found.same

    assert of(20) < of(2000)

    # Four seeds of five samples say as much as one of twenty.
    parts = [pool(str(k), k >= 4 * part, 1, seed=part) for k in range(20) for part in range(4)]
    whole = [pool(str(k), sum(k >= 4 * part for part in range(4)), 4) for k in range(20)]
    seeds, one = (stability("oracle", pools(*sorted(of, key=lambda pool: pool.uid))) for of in (parts, whole))
    assert seeds is not None and one is not None and abs(seeds.same - one.same) < 0.1
    certain = stability("level", TEN)
    assert certain is not None and certain.same == 1
