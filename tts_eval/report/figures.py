"""Accuracy against budget (Snell et al. 2024, figure 3)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tts_eval.analysis import Row
from tts_eval.report.canvas import legend_below, save, side_by_side


# Okabe and Ito's palette, which survives colour-blindness; dashes and markers survive black and white.
_STYLES = {
    "coverage": {"color": "#000000", "linestyle": ":", "marker": "^"},
    "best_of_n_weighted": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "best_of_n": {"color": "#009E73", "linestyle": "-.", "marker": "D"},
    "majority": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "mean": {"color": "#999999", "linestyle": "-", "marker": "x"},
}

# Several aggregations of one selection share its colour; the first looks as it does alone.
_MARKERS = ("", "v", "P", "*", "h")
_HATCHES = ("", "///", "...", "xxx", "ooo")


@dataclass(frozen=True)
class _Column:
    """What has a line or bars of its own.

    Attributes:
        selection: The rule.
        aggregation: How step scores became one score, or None.
        label: In the legend.
        place: Of the aggregation among those shown, from 0.
        shift: The same as a share of their number, below 1.
    """

    selection: str
    aggregation: str | None
    label: str
    place: int
    shift: float

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the rows that belong to it."""
        return [row for row in rows if (row.selection, row.aggregation) == (self.selection, self.aggregation)]


def accuracy_figure(rows: Sequence[Row], path: Path) -> None:
    """Draws accuracy over budget, a panel a task and strategy, a line a selection rule and aggregation, with intervals.

    Args:
        rows: As `tts_eval.analysis.accuracy_rows` returns them.
        path: Where to write; the suffix chooses PNG, SVG or PDF.

    Raises:
        TtsEvalError: If matplotlib is missing or the file can't be written.
    """
    figure, panels = _panels(rows)
    for axes, of_panel in panels:
        for column in _columns(rows):
            line = column.rows(of_panel)
            if line:
                step = list(_STYLES).index(column.selection) - 2 + column.shift
                budgets = [row.budget * 2 ** (0.05 * step) for row in line]  # side by side, so that all show
                style = {**_STYLES[column.selection], **({"marker": _MARKERS[column.place]} if column.place else {})}
                axes.errorbar(budgets, *_percents(line), label=column.label, elinewidth=0.8, capsize=2, **style)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({row.budget for row in of_panel}))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("generations a problem (N)")
    _finish(figure, rows, path)


def level_figure(rows: Sequence[Row], path: Path) -> None:
    """Draws accuracy at the largest budget by level, a panel a task and strategy, a bar a selection and aggregation.

    Args:
        rows: Those of `accuracy_rows`, with levels.
        path: Where to write; the suffix chooses PNG, SVG or PDF.

    Raises:
        TtsEvalError: If matplotlib is missing or the file can't be written.
    """
    figure, panels = _panels(rows)
    for axes, of_panel in panels:
        budget = max(row.budget for row in of_panel)
        levels = list(dict.fromkeys(row.level for row in of_panel))
        shown = [column for column in _columns(rows) if column.rows(of_panel)]
        shown.sort(key=lambda column: -list(_STYLES).index(column.selection))
        for index, column in enumerate(shown):
            bars = [row for row in column.rows(of_panel) if row.budget == budget]
            places = [levels.index(row.level) + 0.8 * ((index + 0.5) / len(shown) - 0.5) for row in bars]
            heights, ends = _percents(bars)
            look = {"color": _STYLES[column.selection]["color"], "hatch": _HATCHES[column.place]}
            axes.bar(places, heights, 0.8 / len(shown), yerr=ends, label=column.label, capsize=2, **look)
        axes.set_xticks(range(len(levels)), [str(level) for level in levels])
        axes.set_xlabel("level")
        axes.set_title(f"{axes.get_title()}, N={budget}")
    _finish(figure, rows, path)


def _columns(rows: Sequence[Row]) -> list[_Column]:
    """What is shown, the selections as their styles are ordered; of several aggregations each has its name."""
    hows = list(dict.fromkeys(row.aggregation for row in rows if row.aggregation is not None))
    found = []
    for selection in _STYLES:
        for how in dict.fromkeys(row.aggregation for row in rows if row.selection == selection):
            place = 0 if how is None else hows.index(how)
            label = selection if how is None or len(hows) == 1 else f"{selection} ({how})"
            found.append(_Column(selection, how, label, place, place / max(1, len(hows))))
    return found


def _panels(rows: Sequence[Row]) -> tuple[Any, list[tuple[Any, list[Row]]]]:
    """A figure, and its axes with the rows that belong on each."""
    runs = [(key, list(of_run)) for key, of_run in itertools.groupby(rows, key=lambda row: (row.task, row.strategy))]
    figure, all_axes = side_by_side(len(runs), 5.2, 3.8)
    panels = []
    for axes, ((task, strategy), of_run) in zip(all_axes, runs, strict=True):
        n = sum({row.level: row.n for row in of_run}.values())
        axes.set_title(f"{task}, {strategy}, {n} problems")
        axes.set_ylabel("accuracy in percent, 95 % interval")
        panels.append((axes, of_run))
    return figure, panels


def _percents(rows: Sequence[Row]) -> tuple[list[float], list[list[float]]]:
    """Accuracies, and how far their intervals reach below and above."""
    below = [100 * (row.accuracy - row.low) for row in rows]
    above = [100 * (row.high - row.accuracy) for row in rows]
    return [100 * row.accuracy for row in rows], [below, above]


def _finish(figure: Any, rows: Sequence[Row], path: Path) -> None:
    for axes in figure.axes:
        axes.set_ylim(bottom=0)
    legend_below(figure, [column.label for column in _columns(rows)], ncols=2)  # bars leave no room among them
    save(figure, path)
