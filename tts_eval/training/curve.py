"""The training curve: a table and a figure."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Evaluation:
    """One row of the curve.

    Attributes:
        step: Batches trained on so far.
        train_loss: Mean over the batches since the row before.
        validation_loss: Mean over the labels of the held-out questions.
        validation_auroc: Within questions, whether the score at the end of a solution tells right from wrong (see
            `tts_eval.analysis.discrimination`); None where no held-out question has both.
    """

    step: int
    train_loss: float
    validation_loss: float
    validation_auroc: float | None = None


def write_curve(rows: Sequence[Evaluation], path: Path) -> None:
    """Writes the rows as CSV with a header line; no AUROC is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Evaluation)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def draw_curve(rows: Sequence[Evaluation], kept: int, path: Path, loss: str) -> None:
    """Draws losses and AUROC over steps.

    Args:
        rows: The curve.
        kept: The step whose weights were kept; there is a line at it.
        path: Its suffix chooses PNG, SVG or PDF.
        loss: What the loss is called.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    steps = [row.step for row in rows]
    lines = axes.plot(steps, [row.train_loss for row in rows], color="#999999", linestyle="--", label="training loss")
    lines += axes.plot(
        steps, [row.validation_loss for row in rows], color="#0072B2", marker="o", markersize=3, label="validation loss"
    )
    lines.append(axes.axvline(kept, color="#000000", linewidth=0.8, linestyle=":", label="kept"))
    axes.set_xlabel("step")
    axes.set_ylabel(loss)
    scored = [(row.step, row.validation_auroc) for row in rows if row.validation_auroc is not None]
    if scored:
        right = axes.twinx()
        at, aurocs = zip(*scored, strict=True)
        lines += right.plot(at, aurocs, color="#D55E00", marker="s", markersize=3, label="validation AUROC")
        right.set_ylabel("AUROC within questions")
        right.set_ylim(top=1.02)
    axes.legend(handles=lines, frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)
