"""What `tts-eval revisions measure` found, as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tabulate import tabulate

from tts_eval.analysis.chain_attempts import ATTEMPT_MEASURES, AttemptRow
from tts_eval.analysis.chain_ratios import BestShape
from tts_eval.analysis.chain_shapes import ShapeDifference, ShapeRow
from tts_eval.report.table import detectable, percent


_Line: TypeAlias = AttemptRow | ShapeRow | ShapeDifference | BestShape


@dataclass(frozen=True)
class ChainMeasures:
    """All that was measured.

    Attributes:
        attempts: What attempts are worth.
        ratios: Accuracy by shape.
        differences: Between selections, where they were asked for.
        best: The best shape by budget.
    """

    attempts: list[AttemptRow]
    ratios: list[ShapeRow]
    differences: list[ShapeDifference]
    best: list[BestShape]


def to_markdown(found: ChainMeasures) -> str:
    """A heading for each family of runs, and below it a table for each kind of measure that there is."""
    tables: list[tuple[Sequence[_Line], Callable[[Any], str]]] = [
        (found.attempts, _attempts),
        (found.ratios, _accuracies),
        (found.ratios, _gains),
        (found.differences, _differences),
        (found.best, _best),
    ]
    blocks = []
    for task, strategy in dict.fromkeys((row.task, row.strategy) for row in found.attempts):
        blocks.append(f"### {task}, {strategy}")
        for rows, table in tables:
            of_family = [row for row in rows if (row.task, row.strategy) == (task, strategy)]
            if of_family:
                blocks.append(table(of_family))
    return "\n\n".join(blocks) + "\n"


def _attempts(rows: Sequence[AttemptRow]) -> str:
    """One line an attempt; of many, the later ones at powers of two."""
    shown = [row for row in rows if row.attempt is None or row.attempt <= 8 or row.attempt.bit_count() == 1]
    lines = _pivot(
        shown,
        lambda row: (row.level, row.n, "2, 3, ..." if row.attempt is None else row.attempt, row.chains or ""),
        lambda row: (row.measure, _percent(row.value, row.low, row.high, signed=row.measure == "gain")),
        ATTEMPT_MEASURES,
    )
    return _table(_ATTEMPTS, lines, [*_PROBLEMS, "attempt", "chains", *ATTEMPT_MEASURES])


def _accuracies(rows: Sequence[ShapeRow]) -> str:
    measures = list(dict.fromkeys(row.selection for row in rows))
    lines = _pivot(rows, _shape, lambda row: (row.selection, _percent(row.accuracy, row.low, row.high)), measures)
    return _table(_ACCURACIES, lines, [*_SHAPE, *measures])


def _gains(rows: Sequence[ShapeRow]) -> str:
    measures = list(dict.fromkeys(row.selection for row in rows))
    known = [row for row in rows if row.gain is not None and row.length > 1]
    lines = _pivot(
        known, _shape, lambda row: (row.selection, _percent(row.gain, row.gain_low, row.gain_high, True)), measures
    )
    seen = detectable(row.detectable for row in known)
    return _table(f"{_GAINS} {seen}", lines, [*_SHAPE, *measures]) if known else _NO_GAINS


def _differences(rows: Sequence[ShapeDifference]) -> str:
    measures = list(dict.fromkeys(row.selection for row in rows))
    lines = _pivot(
        rows, _shape, lambda row: (row.selection, _percent(row.difference, row.low, row.high, True)), measures
    )
    caption = f"{_DIFFERENCES.format(rows[0].against)} {detectable(row.detectable for row in rows)}"
    return _table(caption, lines, [*_SHAPE, *measures])


def _best(rows: Sequence[BestShape]) -> str:
    lines = [
        [
            *(_name(row.level), row.n, row.budget, row.selection, f"{row.length} x {row.chains}"),
            f"{row.ratio_low:.3g} to {row.ratio_high:.3g}",
            f"{100 * row.often:.0f}",
            f"{100 * row.accuracy:.1f}",
            _percent(row.over_sequential, row.over_sequential_low, row.over_sequential_high, signed=True),
            _percent(row.over_parallel, row.over_parallel_low, row.over_parallel_high, signed=True),
            _percent(row.held_out, row.held_out_low, row.held_out_high, signed=True),
        ]
        for row in rows
    ]
    heads = ["budget", "selection", "length x chains", "ratio", "often", "accuracy"]
    return _table(_BEST, lines, [*_PROBLEMS, *heads, "over one chain", "over parallel", "mixing, held out"])


_ATTEMPTS = """\
Attempts: accuracy of each; gain over the first; of those right before, how many it broke, and of the others how many it
mended; how answers change. In percent [95 % interval]."""

_ACCURACIES = "Accuracy by shape, in percent [95 % Wilson interval]."

_GAINS = "The same less as many first attempts in parallel, in points [95 % interval, paired bootstrap]."

_NO_GAINS = "No run tells of so many first attempts in parallel, so nothing is compared with them."

_DIFFERENCES = "Selections less {}, in points [95 % interval, paired bootstrap]."

_BEST = """\
Best shape: 95 % interval of the best ratio (length / chains); in how many of the bootstrap's draws this shape is best;
its accuracy, and how much more that is than in one chain and in chains of one attempt, all flattered by the choice;
what mixing gains over the better pure shape on problems that had no part in the choice. In percent and points."""

_PROBLEMS = ("problems", "n")
_SHAPE = (*_PROBLEMS, "budget", "length x chains")


def _shape(row: ShapeRow | ShapeDifference) -> tuple[Any, ...]:
    return row.level, row.n, row.budget, f"{row.length} x {row.chains}"


def _pivot(
    rows: Sequence[Any],
    key: Callable[[Any], tuple[Any, ...]],
    cell: Callable[[Any], tuple[str, str]],
    columns: Sequence[str],
) -> list[list[Any]]:
    """Lines of a table from rows of one number each: rows with the same key are one line."""
    lines: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in rows:
        column, text = cell(row)
        lines.setdefault(key(row), {})[column] = text
    return [[_name(level), *rest, *(cells.get(c, "") for c in columns)] for (level, *rest), cells in lines.items()]


def _name(level: Any) -> str:
    return "all" if level is None else str(level)


def _percent(value: float | None, low: float | None, high: float | None, signed: bool = False) -> str:
    if value is None or low is None or high is None:
        return ""
    return percent(value, low, high, "+" if signed else "")


def _table(caption: str, lines: Sequence[Sequence[Any]], heads: Sequence[str]) -> str:
    return f"{caption}\n\n{tabulate(lines, heads, 'github', disable_numparse=True)}"
