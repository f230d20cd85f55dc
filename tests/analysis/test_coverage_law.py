"""The law of coverage on curves that follow it, and on real ones; and the selection gap by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from tts_eval.analysis.coverage_law import coverage_law, selection_gap
from tts_eval.selection import coverage


BUDGETS = [1, 2, 4, 8, 16, 32, 64]


def simulated(problems: int, seed: int = 0) -> np.ndarray:
    """Coverage of problems whose pass@1 is spread out, hard ones included, [problems, budgets]."""
    rng = np.random.default_rng(seed)
    correct = rng.random((problems, 64)) < rng.beta(0.4, 1.5, problems)[:, None]
    return np.array([[coverage(of, k) for k in BUDGETS] for of in correct])


@given(st.floats(0.3, 4), st.floats(0.15, 1.2))
def test_a_curve_that_follows_the_law_gives_it_back(a: float, b: float) -> None:
    curve = np.exp(-a * np.array(BUDGETS, dtype=float) ** -b)
    found = coverage_law(np.tile(curve, (3, 1)), BUDGETS, resamples=2)
    assert found is not None
    assert (found.a.value, found.b.value) == pytest.approx((a, b), rel=1e-3)
    assert found.r_squared == pytest.approx(1)
    assert (found.a.low, found.b.high) == pytest.approx((a, b), rel=1e-3)  # all problems are the same
    assert found.coverage([1, 1000]) == pytest.approx([np.exp(-a), np.exp(-a * 1000**-b)], abs=1e-3)


def test_samples_of_problems_of_all_kinds() -> None:
    found = coverage_law(simulated(200), BUDGETS)
    assert found is not None and found.n == 200
    assert found.r_squared > 0.98
    assert found.a.low < found.a.value < found.a.high and found.b.low < found.b.value < found.b.high
    fewer = coverage_law(simulated(50), BUDGETS)
    assert fewer is not None and fewer.b.high - fewer.b.low > 1.3 * (found.b.high - found.b.low)


def test_curves_at_the_edges() -> None:
    none_at_one = coverage_law(np.array([[0.0, 0.5, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0]]), BUDGETS[:4], resamples=20)
    assert none_at_one is not None and np.isfinite([none_at_one.a.value, none_at_one.b.value]).all()
    all_at_two = coverage_law(np.array([[0.5, 1.0, 1.0, 1.0]]), BUDGETS[:4], resamples=20)
    assert all_at_two is not None and all_at_two.coverage([1, 2]) == pytest.approx([0.5, 1.0], abs=1e-3)


@pytest.mark.parametrize("curve", [[0.1, 0.4], [0.0, 0.5, 1.0, 1.0], [0.4, 0.4, 0.4], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
def test_curves_that_tell_nothing(curve: list[float]) -> None:
    assert coverage_law(np.array([curve]), BUDGETS[: len(curve)]) is None


def test_draws_that_tell_nothing_do_not_count() -> None:
    grows = np.exp(-1.5 * np.array(BUDGETS, dtype=float) ** -0.5)
    found = coverage_law(np.array([grows, np.zeros(7)]), BUDGETS, resamples=50)
    assert found is not None
    # A quarter of the draws has the first problem only, and a quarter the second, which has no law.
    assert (found.a.low, found.b.high) == pytest.approx((1.5, 0.5), abs=1e-3)
    assert 1.5 < found.a.high < 3 and 0.1 < found.b.low < 0.5


def test_the_selection_gap_by_hand() -> None:
    right_somewhere = np.repeat([[0.5, 1.0], [0.5, 1.0], [0.0, 0.0]], 2, axis=0)
    selected = np.repeat([[0.5, 1.0], [0.5, 0.25], [0.0, 0.0]], 2, axis=0)
    one, both = selection_gap(right_somewhere, selected, [1, 2])
    assert (one.budget, one.gap, one.low, one.high) == (1, 0, 0, 0)
    assert (both.coverage, both.selected, both.gap) == pytest.approx((2 / 3, 1.25 / 3, 0.25))
    # Both copies of the problem with a gap are drawn k times of six, k by the binomial of 1/3.
    assert (both.low, both.high, both.n) == (0.0, pytest.approx(0.75 * binom.ppf(0.975, 6, 1 / 3) / 6), 6)
