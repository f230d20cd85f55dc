"""Accuracy against budget (Snell et al. 2024, figure 3)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tts_eval.analysis import Row
from tts_eval.report.canvas import save, side_by_side


# Okabe and Ito's palette, which survives colour-blindness; dashes and markers survive black and white.
_STYLES = {
    "coverage": {"color": "#000000", "linestyle": ":", "marker": "^"},
    "best_of_n_weighted": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "best_of_n": {"color": "#009E73", "linestyle": "-.", "marker": "D"},
    "majority": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "mean": {"color": "#999999", "linestyle": "-", "marker": "x"},
}


def accuracy_figure(rows: Sequence[Row], path: Path) -> None:
    """Draws accuracy over budget, a panel a task and strategy, a line a selection rule, with 95 % intervals.

    Args:
        rows: As `tts_eval.analysis.accuracy_rows` returns them.
        path: Where to write; the suffix chooses PNG, SVG or PDF.

    Raises:
        TtsEvalError: If matplotlib is missing or the file can't be written.
    """
    figure, panels = _panels(rows)
    for axes, of_panel in panels:
        for index, (selection, style) in enumerate(_STYLES.items()):
            line = [row for row in of_panel if row.selection == selection]
            if line:
                budgets = [row.budget * 2 ** (0.05 * (index - 2)) for row in line]  # side by side, so that all show
                axes.errorbar(budgets, *_percents(line), label=selection, elinewidth=0.8, capsize=2, **style)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({row.budget for row in of_panel}))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("generations a problem (N)")
    _finish(figure, path)


def level_figure(rows: Sequence[Row], path: Path) -> None:
    """Draws accuracy at the largest budget by difficulty level, a panel a task and strategy, a bar a selection rule.

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
        shown = [selection for selection in reversed(_STYLES) if any(row.selection == selection for row in of_panel)]
        for index, selection in enumerate(shown):
            bars = [row for row in of_panel if row.selection == selection and row.budget == budget]
            places = [levels.index(row.level) + 0.8 * ((index + 0.5) / len(shown) - 0.5) for row in bars]
            heights, ends = _percents(bars)
            color, label = _STYLES[selection]["color"], selection if selection == "mean" else f"{selection}, N={budget}"
            axes.bar(places, heights, 0.8 / len(shown), yerr=ends, color=color, label=label, capsize=2)
        axes.set_xticks(range(len(levels)), [str(level) for level in levels])
        axes.set_xlabel("level")
    _finish(figure, path)


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


def _finish(figure: Any, path: Path) -> None:
    for axes in figure.axes:
        axes.set_ylim(bottom=0)
    # All panels have the same lines, and bars leave no room for a legend among them.
    figure.legend(*figure.axes[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=2)
    save(figure, path)
