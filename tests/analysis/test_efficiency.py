"""Efficiency factors by hand, and the laws that they obey."""

from __future__ import annotations

import json
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.analysis.efficiency import Efficiency, Factor, efficiency


BUDGETS = [1, 4, 16, 64]


def flat(accuracy: float | list[float]) -> np.ndarray:
    """Three problems that are all the same, so that every draw is the data."""
    return np.tile(accuracy, (3, 1))


def measured(accuracy: float, budget: float, curve: list[float], budgets: list[float] | None = None) -> Efficiency:
    found = efficiency(flat(accuracy)[:, 0], budget, flat(curve), budgets or BUDGETS, resamples=20)
    assert found.low == found.factor == found.high
    return found


@pytest.mark.parametrize(
    ("accuracy", "curve", "reached"),
    [
        (0.3, [0.1, 0.2, 0.3, 0.4], 16),
        (0.35, [0.1, 0.2, 0.3, 0.4], 32),  # half way from 2^4 to 2^6
        (0.125, [0.1, 0.2, 0.3, 0.4], 2**0.5),
        (0.4, [0.1, 0.2, 0.3, 0.4], 64),
        (0.1, [0.1, 0.2, 0.3, 0.4], 1),
        (0.2, [0.1, 0.3, 0.1, 0.4], 2),  # first reached on the way up to 0.3, then lost, then reached again
        (0.3, [0.1, 0.3, 0.3, 0.4], 4),
        (0.15, [0.1, 0.1, 0.2, 0.2], 8),
    ],
)
def test_where_the_baseline_first_gets_there(accuracy: float, curve: list[float], reached: float) -> None:
    found = measured(accuracy, 8, curve)
    assert found.factor.value == pytest.approx(reached / 8)
    assert not found.factor.at_least and not found.factor.at_most
    assert (found.budget, found.accuracy, found.n) == (8, pytest.approx(accuracy), 3)


def test_bounds_where_the_baseline_was_not_measured() -> None:
    assert measured(0.5, 16, [0.1, 0.2, 0.3, 0.4]).factor == Factor(4.0, at_least=True)
    assert measured(0.05, 16, [0.1, 0.2, 0.3, 0.4]).factor == Factor(1 / 16, at_most=True)
    assert measured(0.5, 16, [0.4], [64]).factor == Factor(4.0, at_least=True)
    assert measured(0.4, 16, [0.4], [64]).factor == Factor(4.0)
    assert json.dumps(astuple(measured(0.5, 16, [0.4], [64]).factor)) == "[4.0, true, false]"


def test_the_last_bit_of_a_sum_is_no_bound() -> None:
    assert measured(0.4 + 1e-15, 64, [0.1, 0.2, 0.3, 0.4]).factor == Factor(pytest.approx(1))
    assert measured(0.1 - 1e-15, 1, [0.1, 0.2, 0.3, 0.4]).factor == Factor(pytest.approx(1))


def test_the_paper_s_claim() -> None:
    # Section 6: compute-optimal search at 16 generations does what best-of-N does at 64.
    assert measured(0.33, 16, [0.105, 0.2, 0.29, 0.33]).factor.value == pytest.approx(4)


def test_an_interval_may_be_open_on_either_side() -> None:
    # Half of the problems are won by budget 16 only, and the method wins a half of its own: the data say 16.
    baseline = np.repeat([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]], 10, axis=0)
    method = np.tile([1.0, 0.0], 10)
    found = efficiency(method, 1, baseline, BUDGETS)
    assert found.factor == Factor(pytest.approx(16))
    assert found.high == Factor(64.0, at_least=True)  # in many draws the method wins more
    assert 1 < found.low.value < 16 and not found.low.at_most
    worse = efficiency(np.array([0.0] * 19 + [1.0]), 1, np.tile([[0.02, 1.0]], (20, 1)), [1, 2])
    assert worse.low == Factor(1.0, at_most=True)  # a third of the draws lack the only problem that it wins
    assert worse.high.value < 2 and not worse.high.at_least


def test_both_are_drawn_together() -> None:
    # The method is the baseline at 4, a little better on every problem: how hard the drawn problems are cancels out.
    hard = np.random.default_rng(0).random(40)[:, None] / 2
    baseline = hard + np.array([0.0, 0.1, 0.2, 0.3])
    found = efficiency(baseline[:, 1] + 0.05, 4, baseline, BUDGETS)
    assert found.low.value == pytest.approx(2) and found.high.value == pytest.approx(2)


curves = st.lists(st.integers(1, 20), min_size=2, max_size=5)  # what each budget adds


@given(curves, st.integers(0, 3), st.integers(0, 5))
def test_a_baseline_is_as_efficient_as_itself(rises: list[int], place: int, seed: int) -> None:
    place = min(place, len(rises) - 1)
    curve = np.cumsum(rises) / 100
    noise = np.random.default_rng(seed).random((7, 1)) * np.linspace(0.5, 1, 7)[:, None]
    baseline = noise * curve  # still strictly increasing, for every draw
    budgets = [3**i for i in range(len(rises))]
    found = efficiency(baseline[:, place].copy(), budgets[place], baseline, budgets, resamples=30)
    for factor in (found.factor, found.low, found.high):
        assert factor == Factor(pytest.approx(1))


@given(st.integers(0, 99), st.floats(0.1, 10), st.floats(0.2, 5))
def test_units_do_not_matter(seed: int, of_budgets: float, of_accuracies: float) -> None:
    rng = np.random.default_rng(seed)
    method, baseline = rng.random(6), rng.random((6, 4))
    one = efficiency(method, 8, baseline, BUDGETS, resamples=30)
    scaled = [of_budgets * budget for budget in BUDGETS]
    other = efficiency(method * of_accuracies, 8 * of_budgets, baseline * of_accuracies, scaled, resamples=30)
    for name in ("factor", "low", "high"):
        assert astuple(getattr(other, name)) == pytest.approx(astuple(getattr(one, name)))
