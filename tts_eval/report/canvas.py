"""What all figures share: panels side by side, and a file that may refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tts_eval.types import TtsEvalError


def side_by_side(panels: int, width: float, height: float) -> tuple[Any, Sequence[Any]]:
    """An empty figure, and the axes of its panels.

    Args:
        panels: How many.
        width: Of each, in inches.
        height: Of each, in inches.

    Raises:
        TtsEvalError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TtsEvalError("figures need matplotlib: pip install 'tts-eval[report]'") from error
    figure = Figure(figsize=(width * panels, height), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def save(figure: Any, path: Path) -> None:
    """Writes a figure; the suffix chooses PNG, SVG or PDF.

    Raises:
        TtsEvalError: If the file can't be written.
    """
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise TtsEvalError(f"figure {path}: {error}; name a .png, .svg or .pdf that can be written") from error
