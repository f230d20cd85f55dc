"""What all figures share: panels side by side, lines with bands, and a file that may refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from tts_eval.types import TtsEvalError


# Okabe and Ito's palette, which survives colour-blindness; dashes and markers survive black and white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "D", "^", "v", "x", "P")
_DASHES = ("-", "--", "-.", ":")
_HATCHES = ("", "///", "...")
_MARKED = 16  # points of a line; more would hide it
_TITLE, _LEGEND = 60, 48  # most characters of a line, which a panel has room for

_NO_STARS: Mapping[str, str] = {}

Point = tuple[float, float, float, float]
"""Where it is, an accuracy, and the ends of its interval."""

Panel = tuple[str, Mapping[str, Sequence[Point]]]
"""A title, and the lines by name."""


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


def draw_lines(panels: Sequence[Panel], x: str, y: str, path: Path) -> None:
    """Writes `lines_figure`.

    Args:
        panels: Side by side.
        x: What the points' places are.
        y: What the shares are of.
        path: Where to write; the suffix chooses PNG, SVG or PDF.

    Raises:
        TtsEvalError: If matplotlib is missing or the file can't be written.
    """
    save(lines_figure(panels, x, y), path)


def lines_figure(panels: Sequence[Panel], x: str, y: str, stars: Mapping[str, str] = _NO_STARS) -> Any:
    """Draws shares as lines with bands, over a logarithmic axis.

    Args:
        panels: Side by side.
        x: What the points' places are.
        y: What the shares are of.
        stars: Lines that are drawn as single points, each in the colour of another line, and not named in the legend.

    Returns:
        A matplotlib figure.

    Raises:
        TtsEvalError: If matplotlib is missing.
    """
    figure, all_axes = side_by_side(max(1, len(panels)), 5.2, 4.2)
    for axes, (title, lines) in zip(all_axes, panels, strict=False):
        for index, (name, points) in enumerate(lines.items()):
            places, values, lows, highs = (list(column) for column in zip(*points, strict=True))
            if name in stars:
                colour = _COLOURS[list(lines).index(stars[name]) % 7]
                look = {"color": colour, "marker": "*", "markersize": 10, "linestyle": "none", "elinewidth": 0.8}
                axes.errorbar(places, values, _whiskers(values, lows, highs), capsize=2, **look)
                continue
            look = {"color": _COLOURS[index % 7], "linestyle": _DASHES[index % 4]}
            if len(points) <= _MARKED:
                look["marker"] = _MARKERS[index % 7]
            axes.plot(places, values, label=fill(name, _LEGEND), markersize=4, **look)
            axes.fill_between(places, lows, highs, color=look["color"], alpha=0.12, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}")
        axes.set_title(fill(title, _TITLE), fontsize="medium")
        axes.set_xlabel(x)
        axes.set_ylabel(f"{y} in percent, 95 % interval")
        axes.legend(frameon=False, fontsize="small").set_in_layout(False)  # a long name doesn't narrow its panel
    return figure


def _whiskers(values: Any, lows: Any, highs: Any) -> Any:
    """The lengths of error bars, [2, points]; rounding may put the end of a bootstrap's interval a hair inside."""
    return np.maximum(0, [np.subtract(values, lows), np.subtract(highs, values)])


def bars_figure(panels: Sequence[Panel], ticks: Sequence[str], y: str) -> Any:
    """Draws shares as groups of bars with intervals.

    Args:
        panels: Side by side; a point's place is its group, from 0.
        ticks: The names of the groups.
        y: What the shares are of.

    Returns:
        A matplotlib figure.

    Raises:
        TtsEvalError: If matplotlib is missing.
    """
    figure, all_axes = side_by_side(max(1, len(panels)), 5.2, 4.2)
    names = list(dict.fromkeys(name for _, lines in panels for name in lines))
    for axes, (title, lines) in zip(all_axes, panels, strict=False):
        width = 0.85 / max(1, len(lines))
        for index, (name, points) in enumerate(lines.items()):
            places, values, lows, highs = (np.array(column) for column in zip(*points, strict=True))
            axes.bar(
                places + width * (index - (len(lines) - 1) / 2),
                values,
                width,
                yerr=_whiskers(values, lows, highs),
                label=fill(name, _LEGEND),
                color=_COLOURS[names.index(name) % 7],
                hatch=_HATCHES[names.index(name) // 7 % 3],
                edgecolor="white",
                error_kw={"elinewidth": 0.8, "capsize": 1.5},
            )
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_xticks(range(len(ticks)), ticks)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
        axes.set_title(fill(title, _TITLE), fontsize="medium")
        axes.set_ylabel(f"{y} in percent, 95 % interval")
    legend_below(figure, [fill(name, _LEGEND) for name in names], ncols=4, fontsize="small")
    return figure


def legend_below(figure: Any, names: Sequence[str], **look: Any) -> None:
    """Names what any of the panels shows once, below all of them, in the order of `names`."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found.update(zip(labels, handles, strict=True))
    shown = [name for name in names if name in found]
    figure.legend([found[name] for name in shown], shown, frameon=False, loc="outside lower center", **look)
