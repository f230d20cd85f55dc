"""The compute-optimal policy: what is chosen, what it is worth on problems that had no part in the choice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.analysis.curves import Curve
from tts_eval.analysis.policies import choice_shares, cross_validate, in_sample, options_at, random_half


def test_the_better_strategy_of_each_bin_is_chosen_and_scored_on_the_other_half() -> None:
    bins = np.array([1] * 4 + [2] * 4)
    values = np.array([[1.0, 0.0]] * 4 + [[0.0, 0.5]] * 4)

    found = cross_validate(values, bins)

    assert found.values == pytest.approx([1.0] * 4 + [0.5] * 4)
    assert found.chosen == pytest.approx(np.eye(2))
    assert found.spread == 0
    assert in_sample(values, bins, 2).tolist() == [0, 1]


def test_strategies_at_random_gain_nothing_unless_they_are_chosen_on_the_problems_that_score_them() -> None:
    """The acceptance test of the project: it fails when a fold chooses for itself."""
    held_out, flattered = [], []
    for draw in range(200):
        random = np.random.default_rng(draw)
        values, bins = random.random((100, 6)).round(), np.repeat(np.arange(1, 6), 20)
        baseline = values[:, 0].mean()
        held_out.append(cross_validate(values, bins, splits=5, seed=draw).values.mean() - baseline)
        flattered.append(values[np.arange(100), in_sample(values, bins, 5)[bins - 1]].mean() - baseline)

    def interval(gains: list[float]) -> tuple[float, float]:
        error = 1.96 * np.std(gains, ddof=1) / len(gains) ** 0.5
        return float(np.mean(gains) - error), float(np.mean(gains) + error)

    low, high = interval(held_out)
    assert low < 0 < high
    assert interval(flattered)[0] > 0.05


@given(st.integers(0, 100), st.integers(3, 9))
def test_a_problem_has_no_part_in_the_choice_that_scores_it(seed: int, n: int) -> None:
    """With a value of (1, 0) it shows how often the first option was chosen for it, with (0, 1) how often the other."""
    random = np.random.default_rng(seed)
    values, bins = random.random((n, 2)), random.integers(1, 3, n)
    ours = [np.vstack([one, values[1:]]) for one in ([[1.0, 0.0]], [[0.0, 1.0]])]

    shares = [cross_validate(of, bins, splits=7, seed=seed).values[0] for of in ours]

    assert sum(shares) == pytest.approx(1)


@given(st.integers(0, 50))
def test_the_order_of_options_changes_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    values, bins = random.random((12, 3)).round(1), random.integers(1, 4, 12)
    order = random.permutation(3)

    one, other = cross_validate(values, bins, splits=3), cross_validate(values[:, order], bins, splits=3)

    assert one.values == pytest.approx(other.values)
    assert one.chosen[:, order] == pytest.approx(other.chosen)


def test_ties_share_and_a_bin_of_one_problem_gets_the_mean_of_all_options() -> None:
    assert choice_shares(np.array([[1.0, 1.0, 0.0]])).tolist() == [0.5, 0.5, 0.0]
    alone = cross_validate(np.array([[1.0, 0.0]]), np.array([1]), splits=10)
    assert alone.values == pytest.approx([0.5])


def test_a_bin_without_a_problem_has_what_is_best_on_all() -> None:
    values, bins = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), np.array([1, 3, 3])
    assert in_sample(values, bins, 5).tolist() == [0, 1, 1, 1, 1]


def test_halves_part_every_bin_and_differ_from_split_to_split() -> None:
    bins = np.repeat([1, 2], [10, 7])
    halves = [random_half(bins, split, 0) for split in range(20)]

    assert {int(half[:10].sum()) for half in halves} == {5}
    assert {int(half[10:].sum()) for half in halves} == {3, 4}
    assert len({half.tobytes() for half in halves}) > 10


def test_a_strategy_may_be_chosen_at_a_budget_that_pays_for_it() -> None:
    """A lookahead of 3 costs four times its solutions: at 16 generations it has 4."""
    sampled = Curve("best-of-n", {}, (1.0, 4.0, 16.0), (1, 4, 16), ("a",), np.array([[0.1, 0.4, 0.6]]))
    lookahead = Curve("lookahead", {}, (4.0, 16.0, 64.0), (1, 4, 16), ("a",), np.array([[0.2, 0.5, 0.9]]))

    assert [(o.name, o.cost, o.values[0]) for o in options_at([sampled, lookahead], 16)] == [
        ("best-of-n", 16.0, 0.6),
        ("lookahead", 16.0, 0.5),
    ]
    assert [o.name for o in options_at([sampled, lookahead], 2)] == ["best-of-n"]
