"""What `tts-eval verify` found, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from tts_eval.analysis.bootstrap import Estimate
from tts_eval.analysis.calibration import Depth, ScoreMeasures, SolutionMeasures
from tts_eval.analysis.processbench import FirstErrorMeasures


@dataclass(frozen=True)
class Verification:
    """A verifier on one data set.

    Attributes:
        name: The data.
        questions: How many questions.
        solutions: How many solutions.
        unit: What a score is of.
        first_errors: Where the first wrong steps are known.
        scores: Where scores have labels.
        whole: Where it is known which solutions end right, one line an aggregation.
    """

    name: str
    questions: int
    solutions: int
    unit: str
    first_errors: FirstErrorMeasures | None
    scores: ScoreMeasures | None
    whole: Sequence[SolutionMeasures]


def to_markdown(found: Verification) -> str:
    """A heading and a table for each kind of measure that there is."""
    blocks = [f"### {found.name}: {found.questions:,} questions, {found.solutions:,} solutions"]
    if found.first_errors is not None:
        blocks.append(_first_errors(found.first_errors))
    if found.scores is not None:
        blocks.append(_scores(found.scores, found.unit))
        if len(found.scores.depths) > 1:
            blocks.append(_depths(found.scores.depths))
    if found.whole:
        blocks.append(_whole(found.whole))
    if len(blocks) == 1:
        blocks.append("Nothing to measure: its labels are of steps, and an outcome verifier scores whole solutions.")
    return "\n\n".join(blocks) + "\n"


def _first_errors(found: FirstErrorMeasures) -> str:
    row = [
        f"{found.threshold:.4g}",
        _percent(found.erroneous),
        found.erroneous_n,
        _percent(found.correct),
        found.correct_n,
        _percent(found.f1),
    ]
    header = ["threshold", "accuracy on erroneous", "n", "accuracy on correct", "n", "F1"]
    how = "was given" if found.tuned_on is None else f"was chosen on {found.tuned_on} other solutions"
    return f"First wrong step, in percent [95 % interval]; the threshold {how}\n\n{_table([row], header)}"


def _scores(found: ScoreMeasures, unit: str) -> str:
    row = [
        f"{found.n:,}",
        f"{found.label:.3f}",
        _number(found.brier),
        _number(found.calibration_error),
        _number(found.auroc),
    ]
    header = [f"{unit}s", "mean label", "Brier score", "calibration error", "AUROC pooled"]
    return f"Score of a {unit} against its label\n\n{_table([row], header)}"


def _depths(depths: Sequence[Depth]) -> str:
    rows = [[depth.step, f"{depth.n:,}", f"{depth.label:.3f}", _number(depth.auroc)] for depth in depths]
    return f"By depth\n\n{_table(rows, ['step', 'n', 'mean label', 'AUROC'])}"


def _whole(found: Sequence[SolutionMeasures]) -> str:
    rows = [
        [one.aggregation or "score", f"{one.n:,}", f"{one.correct:,}", _area(one.pooled), _area(one.within), one.mixed]
        for one in found
    ]
    header = ["aggregation", "solutions", "correct", "AUROC pooled", "AUROC within problems", "problems with both"]
    return f"Correct against incorrect solutions [95 % interval]\n\n{_table(rows, header)}"


def _table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    return tabulate(rows, header, "github", disable_numparse=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _area(found: Estimate | None) -> str:
    return "" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _percent(found: Estimate | None) -> str:
    return "" if found is None else f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
