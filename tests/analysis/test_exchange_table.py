"""Test-time compute against a larger model: at which budget, who wins, and from which R on."""

from __future__ import annotations

import numpy as np
import pytest

from tts_eval.analysis.curves import at_budget
from tts_eval.analysis.exchange import exchange, total_flops, worth_it_from
from tts_eval.analysis.flops import ACCOUNTINGS


V1 = ACCOUNTINGS["v1"]
COSTS = [1.0, 4.0, 16.0, 64.0, 256.0]


def curve(*accuracies: float, n: int = 200) -> np.ndarray:
    """Problems that are solved for certain from some budget on, so that the means are these."""
    return np.array([[float(problem < accuracy * n) for accuracy in accuracies] for problem in range(n)])


def test_between_two_budgets_accuracy_is_linear_in_the_logarithm() -> None:
    values = np.array([[0.0, 0.2, 0.6, 0.6, 0.6]])
    assert at_budget(values, COSTS, 8)[0] == pytest.approx([0.4])
    assert at_budget(values, COSTS, 16)[0] == pytest.approx([0.6])
    assert at_budget(values, COSTS, 1000) == (pytest.approx([0.6]), 256)
    assert at_budget(values, COSTS, 0.5) == (pytest.approx([0.0]), 1)


def test_the_paper_s_three_ratios_compare_at_256_64_and_16_generations() -> None:
    values, larger = curve(0.1, 0.2, 0.3, 0.5, 0.7), curve(0.5)[::-1, 0]

    rows = exchange("s", values, COSTS, larger, times=14.2, ratios=(0.164, 0.795, 22), accounting=V1)

    assert [round(row.budget) for row in rows] == [256, 64, 16]
    assert [row.accuracy for row in rows] == pytest.approx([0.7, 0.5, 0.3], abs=0.01)
    assert [row.verdict for row in rows] == ["win", "tie", "lose"]
    assert rows[2].gain == pytest.approx(-0.4, abs=0.02)
    assert rows[2].gain_low < rows[2].gain < rows[2].gain_high < 0  # type: ignore[operator]
    assert not any(row.at_least for row in rows)


def test_more_than_equal_flops_is_no_win() -> None:
    values, costs = curve(0.5, 0.9), [64.0, 256.0]
    for accuracy, verdict in ((0.1, None), (0.5, None), (0.8, "lose")):
        (row,) = exchange("s", values, costs, curve(accuracy)[::-1, 0], times=14.2, ratios=(22,), accounting=V1)
        assert (round(row.budget), row.measured, row.at_most, row.verdict) == (16, 64, True, verdict)


def test_fewer_than_equal_flops_is_no_loss() -> None:
    values, costs = curve(0.5, 0.6), [1.0, 4.0]
    for accuracy, verdict in ((0.3, "win"), (0.6, None), (0.9, None)):
        (row,) = exchange("s", values, costs, curve(accuracy)[:, 0], times=14.2, ratios=(0.16,), accounting=V1)
        assert (row.measured, row.at_least, row.verdict) == (4, True, verdict)


def test_of_five_problems_no_verdict_is_won() -> None:
    for n, verdict in ((5, "tie"), (6, "win")):
        right, wrong = np.ones((n, 1)), np.zeros(n)
        (row,) = exchange("s", right, [16.0], wrong, times=14.2, ratios=(22,), accounting=V1)
        assert (row.difference, row.verdict, np.isnan(row.difference_low)) == (1, verdict, n < 6)


def test_what_was_not_run_is_measured_at_the_largest_budget_and_says_so() -> None:
    (row,) = exchange("s", curve(0.1, 0.2), [1, 4], curve(0.5)[:, 0], times=14.2, ratios=(0.16,), accounting=V1)
    assert (row.measured, row.at_least) == (4, True)
    assert row.budget > 250


def test_a_larger_model_that_solves_nothing_has_no_relative_gain() -> None:
    (row,) = exchange("s", curve(0.1, 0.2), [1, 4], np.zeros(200), times=2, ratios=(1,), accounting=V1)
    assert (row.gain, row.gain_low, row.gain_high, row.verdict) == (None, None, None, "win")


def test_from_which_ratio_on_the_larger_model_is_worth_it() -> None:
    values = curve(0.1, 0.2, 0.3, 0.5, 0.7)

    def found(larger: float) -> tuple[float | None, float | None]:
        row = worth_it_from("s", values, COSTS, curve(larger)[:, 0], times=14.2, accounting=V1)
        return row.budget, row.ratio

    assert found(0.5) == (pytest.approx(64), pytest.approx(0.795, abs=0.001))
    assert found(0.2) == (pytest.approx(4), None)  # cheaper than the larger model's inference alone
    assert found(0.05) == (1, None)
    assert found(0.9) == (None, None)

    # Nothing below 64 was run, so less may do, and the larger model be worth it later still.
    bound = worth_it_from("s", values[:, 3:], COSTS[3:], curve(0.2)[:, 0], times=14.2, accounting=V1)
    assert (bound.budget, bound.at_least) == (64, True) and bound.ratio == pytest.approx(0.795, abs=0.001)
    assert not worth_it_from("s", values, COSTS, curve(0.5)[:, 0], times=14.2, accounting=V1).at_least


def test_total_flops_of_both_models_are_equal() -> None:
    for row in total_flops(1000, 1e6, times=14.2, ratios=(0.16, 22), accounting=V1):
        assert row.pretraining + row.inference == pytest.approx(row.larger_pretraining + row.larger_inference)
        assert row.pretraining == 6e9
