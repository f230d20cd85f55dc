"""Calibration and discrimination against examples worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.analysis.bootstrap import bootstrap
from tts_eval.analysis.calibration import (
    JudgedSolution,
    brier_score,
    calibration_error,
    reliability,
    score_measures,
    solution_measures,
)
from tts_eval.analysis.discrimination import auroc, auroc_within
from tts_eval.report.calibration import calibration_figure
from tts_eval.types import TtsEvalError


SCORES = np.array([0.02, 0.08, 0.55, 1.0])
LABELS = np.array([0.0, 0.5, 0.25, 1.0])


def judged(question: str, scores: tuple[float, ...], correct: bool | None, *labels: float | None) -> JudgedSolution:
    return JudgedSolution(question, scores, labels or (None,) * len(scores), correct)


def test_bins_by_hand() -> None:
    bins = reliability(SCORES, LABELS)
    assert [(b.low, b.high, b.count) for b in bins] == [(0.0, 0.1, 2), (0.5, 0.6, 1), (0.9, 1.0, 1)]
    assert [b.score for b in bins] == pytest.approx([0.05, 0.55, 1.0])
    assert [b.label for b in bins] == pytest.approx([0.25, 0.25, 1.0])
    assert calibration_error(bins) == pytest.approx((2 * 0.2 + 0.3 + 0.0) / 4)


def test_brier_takes_soft_labels_as_they_are() -> None:
    assert brier_score(SCORES, LABELS) == pytest.approx((0.02**2 + 0.42**2 + 0.3**2) / 4)
    assert brier_score(LABELS, LABELS) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_bins_lose_nothing(pairs: list[tuple[float, float]]) -> None:
    scores, labels = np.array(pairs).T
    bins = reliability(scores, labels)
    assert sum(b.count for b in bins) == len(pairs)
    assert sum(b.count * b.label for b in bins) == pytest.approx(labels.sum(), abs=1e-9)
    assert all(b.low - 1e-12 <= b.score <= b.high + 1e-12 for b in bins)
    assert calibration_error(bins) <= np.abs(scores - labels).mean() + 1e-12


def test_scores_pooled_and_by_depth() -> None:
    found = score_measures(
        [
            judged("a", (0.9, 0.8), True, 1.0, 0.75),
            judged("a", (0.2, 0.4, 0.1), False, 0.5, 0.25, None),  # a label of one half is right
            judged("b", (0.3, 0.6), None, 0.0, None),
        ]
    )
    assert found is not None and (found.n, found.label) == (5, 0.5)
    assert found.auroc == pytest.approx(4 / 6)  # right: .9 .8 .2; wrong: .4 .3
    assert [(depth.step, depth.n, depth.label) for depth in found.depths] == [(1, 3, 0.5), (2, 2, 0.5)]
    assert [depth.auroc for depth in found.depths] == [0.5, 1.0]
    assert found.brier == pytest.approx((0.1**2 + 0.05**2 + 0.3**2 + 0.15**2 + 0.3**2) / 5)


def test_scores_that_are_no_probabilities_have_no_calibration() -> None:
    found = score_measures([judged("a", (-0.5, 0.5), True, 0.0, 1.0)])
    assert found is not None and found.auroc == 1.0
    assert (found.brier, found.calibration_error, found.bins) == (None, None, ())


def test_no_labels_no_measures() -> None:
    assert score_measures([judged("a", (0.5,), True)]) is None
    assert solution_measures([judged("a", (0.5,), None)], ["last"]) == []


SOLUTIONS = [
    judged("easy", (0.2, 0.9), True),
    judged("easy", (0.7, 0.8), False),
    judged("hard", (0.3, 0.3), True),
    judged("hard", (0.1, 0.4), False),
    judged("known", (0.9, 0.9), True),
    judged("unknown", (0.9, 0.9), None),
]


def test_solutions_by_hand() -> None:
    last, low = solution_measures(SOLUTIONS, ["last", "min"], resamples=200)
    assert (last.n, last.correct, last.mixed) == (5, 3, 2)
    assert last.pooled is not None and last.within is not None and low.pooled is not None and low.within is not None
    # last: right .9 .3 .9, wrong .8 .4; within: easy won, hard lost.
    assert (last.pooled.value, last.within.value) == (pytest.approx(4 / 6), 0.5)
    # min: right .2 .3 .9, wrong .7 .1; within: easy lost, hard won.
    assert (low.pooled.value, low.within.value) == (pytest.approx(4 / 6), 0.5)
    assert (last.within.low, last.within.high) == (0.0, 1.0)


def test_the_difficulty_of_problems_counts_pooled_only() -> None:
    """A verifier that only knows which problems are hard: good pooled, worthless within."""
    solutions = [
        judged(f"{level}{i}", (0.9 if level == "easy" else 0.1,), k < right)
        for level, right in (("easy", 9), ("hard", 1))
        for i in range(20)
        for k in range(10)
    ]
    (found,) = solution_measures(solutions, [None], resamples=50)
    assert found.pooled is not None and found.within is not None
    assert found.pooled.value == pytest.approx(0.9) and found.within.value == 0.5


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.booleans()), min_size=1, max_size=20
    )
)
def test_values_are_those_of_the_discrimination_module(rows: list[tuple[str, float, bool]]) -> None:
    (found,) = solution_measures([judged(q, (score,), right) for q, score, right in rows], [None], resamples=5)
    questions, scores, right = zip(*rows, strict=True)
    assert (found.pooled and found.pooled.value) == pytest.approx(auroc(scores, right))
    assert (found.within and found.within.value) == pytest.approx(auroc_within(questions, scores, right))


def test_bootstrap_interval_has_the_width_of_a_mean() -> None:
    values = np.array([0.0, 1.0] * 100)
    found = bootstrap(200, lambda drawn: float(values[drawn].mean()))
    assert found is not None and found.value == 0.5
    half = 1.96 * 0.5 / 200**0.5
    assert 0.5 - found.low == pytest.approx(half, rel=0.15) and found.high - 0.5 == pytest.approx(half, rel=0.15)


def test_bootstrap_without_a_value() -> None:
    assert bootstrap(3, lambda drawn: None) is None
    # Draws without a value don't count.
    found = bootstrap(2, lambda drawn: 1.0 if len(set(drawn.tolist())) == 2 else None)
    assert found is not None and (found.low, found.high) == (1.0, 1.0)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_figure(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"figure.{suffix}"
    bins = reliability(SCORES, LABELS)
    calibration_figure([("one", bins), ("two", bins[:1])], path)
    assert path.stat().st_size > 1000
    with pytest.raises(TtsEvalError, match="that can be written"):
        calibration_figure([("one", bins)], tmp_path / "nowhere" / "figure.png")
