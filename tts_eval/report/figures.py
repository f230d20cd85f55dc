"""Accuracy against budget (Snell et al. 2024, figure 3)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from tts_eval.analysis import Row
from tts_eval.types import TtsEvalError


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
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TtsEvalError("figures need matplotlib: pip install 'tts-eval[report]'") from error
    runs = itertools.groupby(rows, key=lambda row: (row.task, row.strategy, row.n))
    panels = [(key, list(of_run)) for key, of_run in runs]
    figure = Figure(figsize=(5.2 * len(panels), 3.8), layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, ((task, strategy, n), of_panel) in zip(all_axes, panels, strict=True):
        for index, (selection, style) in enumerate(_STYLES.items()):
            line = [row for row in of_panel if row.selection == selection]
            if line:
                budgets = [row.budget * 2 ** (0.05 * (index - 2)) for row in line]  # side by side, so that all show
                below = [100 * (row.accuracy - row.low) for row in line]
                above = [100 * (row.high - row.accuracy) for row in line]
                accuracy = [100 * row.accuracy for row in line]
                axes.errorbar(budgets, accuracy, [below, above], label=selection, elinewidth=0.8, capsize=2, **style)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({row.budget for row in of_panel}))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_title(f"{task}, {strategy}, {n} problems")
        axes.set_xlabel("generations a problem (N)")
        axes.set_ylabel("accuracy in percent, 95 % interval")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise TtsEvalError(f"figure {path}: {error}; name a .png, .svg or .pdf that can be written") from error
