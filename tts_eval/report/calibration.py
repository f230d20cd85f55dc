"""Reliability: the labels of steps against the scores that a verifier gave them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tts_eval.analysis.calibration import Bin
from tts_eval.report.canvas import save, side_by_side


def calibration_figure(panels: Sequence[tuple[str, Sequence[Bin]]], path: Path) -> None:
    """Draws mean label over mean score, a panel a data set; the area of a dot shows its bin's share of the scores.

    Args:
        panels: A title and the bins of `tts_eval.analysis.calibration.reliability`.
        path: Where to write; the suffix chooses PNG, SVG or PDF.

    Raises:
        TtsEvalError: If matplotlib is missing or the file can't be written.
    """
    figure, all_axes = side_by_side(len(panels), 4.2, 4.0)
    for axes, (title, bins) in zip(all_axes, panels, strict=True):
        scores, labels = [b.score for b in bins], [b.label for b in bins]
        total = sum(b.count for b in bins)
        axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", label="calibrated")
        axes.plot(scores, labels, color="#0072B2", linewidth=1)
        axes.scatter(scores, labels, [20 + 400 * b.count / total for b in bins], color="#0072B2", alpha=0.7)
        axes.set_title(f"{title}, {total:,} scores")
        axes.set_xlabel("mean score of a bin")
        axes.set_ylabel("mean label")
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_aspect("equal")
        axes.legend(frameon=False, loc="lower right")
    save(figure, path)
