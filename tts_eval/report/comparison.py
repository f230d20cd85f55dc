"""Strategies beside each other in a table and a picture (Snell et al. 2024, figure 3)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from tts_eval.analysis.comparison import Comparison
from tts_eval.report.canvas import draw_lines
from tts_eval.report.table import DETECTABLE, percent, points


_LEGEND = (
    "Accuracy in percent [95 % Wilson interval over the problems]; difference to {against} at the same N in percentage "
    "points\n[95 % interval, paired bootstrap over the problems]; {detectable}.\n"
)


def comparison_table(rows: Sequence[Comparison]) -> str:
    """Markdown: a table a task and level, a line a strategy and budget."""
    blocks = []
    for (task, level), group in itertools.groupby(
        sorted(rows, key=lambda row: (row.task, str(row.level))), key=lambda row: (row.task, row.level)
    ):
        of_table = list(group)
        lines = [
            [
                row.strategy,
                row.budget,
                percent(row.accuracy, row.low, row.high),
                percent(row.difference, row.difference_low, row.difference_high, "+"),
                points(row.detectable),
            ]
            for row in of_table
        ]
        head = ["strategy", "N", "accuracy", "difference", "detectable"]
        title = task if level is None else f"{task}, {level}"
        table = tabulate(lines, head, "github", disable_numparse=True)
        blocks.append(f"### {title}, {of_table[0].n} problems, {of_table[0].selection}\n\n{table}\n")
    return "\n".join([*blocks, _LEGEND.format(against=rows[0].against, detectable=DETECTABLE)])


def comparison_figure(rows: Sequence[Comparison], path: Path) -> None:
    """Draws accuracy over the budget, a panel a task and level, a line a strategy.

    Args:
        rows: As `tts_eval.analysis.comparison.compare` returns them.
        path: Where to write; the suffix chooses PNG, SVG or PDF.

    Raises:
        TtsEvalError: If matplotlib is missing or the file can't be written.
    """
    panels = []
    for key in dict.fromkeys((row.task, row.level) for row in rows):
        of_panel = [row for row in rows if (row.task, row.level) == key]
        lines = {
            strategy: [(row.budget, row.accuracy, row.low, row.high) for row in of_panel if row.strategy == strategy]
            for strategy in dict.fromkeys(row.strategy for row in of_panel)
        }
        title = key[0] if key[1] is None else f"{key[0]}, {key[1]}"
        panels.append((f"{title}, {of_panel[0].n} problems", {name: sorted(line) for name, line in lines.items()}))
    draw_lines(panels, "N", "accuracy", path)
