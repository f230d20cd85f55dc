"""Paired statistics against hand counts, closed formulas and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from tts_eval.analysis.paired import detectable_difference, half_width, mcnemar, nested_bootstrap
from tts_eval.analysis.resampling import bootstrap_mean


def test_mcnemar_by_hand() -> None:
    one = np.array([True] * 5 + [False] + [True] * 30 + [False] * 20)
    other = np.array([False] * 5 + [True] + [True] * 30 + [False] * 20)
    found = mcnemar(one, other)
    assert (found.one_only, found.other_only) == (5, 1)
    assert found.p_value == pytest.approx(2 * (1 + 6) / 2**6)  # at most one of six coins, on either side


def test_mcnemar_without_a_difference() -> None:
    same = np.array([True, False, True])
    assert mcnemar(same, same).p_value == 1.0


@given(arrays(bool, (2, 30)))
def test_mcnemar_knows_no_order(answers: np.ndarray) -> None:
    there, back = mcnemar(*answers), mcnemar(*answers[::-1])
    assert (there.one_only, there.other_only) == (back.other_only, back.one_only)
    assert there.p_value == pytest.approx(back.p_value) and 0 < there.p_value <= 1


@given(arrays(float, st.integers(1, 12), elements=st.floats(-1, 1)), st.integers(0, 2))
def test_with_one_seed_the_nested_bootstrap_is_the_plain_one(values: np.ndarray, missing: int) -> None:
    nested = np.column_stack([values, *[np.full(len(values), np.nan)] * missing])
    found, plain = nested_bootstrap(nested, resamples=50, seed=3), bootstrap_mean(values, resamples=50, seed=3)
    for name in ("value", "low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(plain, name), abs=1e-12, nan_ok=True)


def test_seeds_that_differ_widen_the_interval() -> None:
    # All problems are equally hard, so only the seeds move the mean: a standard error of 0.5 / sqrt(2 * 100).
    values = np.tile([0.0, 1.0], (100, 1))
    found = nested_bootstrap(values, resamples=4000)
    assert found.value == 0.5
    assert bootstrap_mean(values.mean(axis=1)).low == 0.5
    expected = norm.ppf(0.975) * 0.5 / 200**0.5
    assert found.high - 0.5 == pytest.approx(expected, rel=0.1) and 0.5 - found.low == pytest.approx(expected, rel=0.1)


def test_missing_seeds_count_for_nothing() -> None:
    values = np.repeat([[np.nan, 1.0, 1.0], [0.0, np.nan, np.nan]], 3, axis=0)
    found = nested_bootstrap(values, resamples=400)
    whole = nested_bootstrap(np.repeat([[1.0], [0.0]], 3, axis=0), resamples=400)
    assert (found.value, found.low, found.high) == (0.5, whole.low, whole.high)  # however many seeds a problem has


def test_of_five_problems_nothing_can_be_told() -> None:
    of_five, of_six = (bootstrap_mean(np.ones(n)) for n in (5, 6))
    assert (of_five.value, of_six.value, of_six.low) == (1, 1, 1)
    assert np.isnan([of_five.low, of_five.high]).all()  # five heads of five have a p of 1 in 16


def spread(n: int, deviation: float) -> np.ndarray:
    """Differences with that standard deviation."""
    signs = np.tile([1.0, -1.0], n // 2)
    return signs * deviation / signs.std(ddof=1)


def test_the_detectable_difference_is_found_in_four_of_five_cases() -> None:
    difference = detectable_difference(spread(400, 0.5))
    assert difference == pytest.approx(2.8016 * 0.5 / 20, abs=1e-5)
    # Of means drawn around it, the share that is significantly above 0.
    error = 0.5 / 20
    assert norm.sf(norm.ppf(0.975) * error, loc=difference, scale=error) == pytest.approx(0.8)


def test_power_and_level_cost_problems() -> None:
    few = spread(100, 1.0)
    assert detectable_difference(few) == pytest.approx(2 * detectable_difference(spread(400, 1.0)))
    assert detectable_difference(few, power=0.9) > detectable_difference(few)
    assert detectable_difference(few, alpha=0.01) > detectable_difference(few)
    assert np.isnan(detectable_difference(few[:1]))


def test_half_width_of_one_accuracy() -> None:
    assert half_width(500) == pytest.approx(0.0438, abs=1e-4)
    assert half_width(100) / norm.ppf(0.975) == pytest.approx(0.05)
    assert half_width(500, 0.9) < half_width(500)
