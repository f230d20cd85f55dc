"""A figure of the report as data: what it draws, what it says, and the numbers behind it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tts_eval.report.canvas import Panel, bars_figure, lines_figure


@dataclass(frozen=True)
class Chart:
    """One figure.

    Attributes:
        number: That of the paper's figure, with a letter where it has parts.
        title: What it shows.
        caption: What was run: models, problems, seeds and cost.
        panels: Side by side.
        x: What the points' places are.
        y: What the values are, as shares.
        ticks: Names of the groups of bars; empty for lines.
        stars: See `tts_eval.report.canvas.lines_figure`.
    """

    number: str
    title: str
    caption: str
    panels: Sequence[Panel]
    x: str
    y: str = "accuracy"
    ticks: Sequence[str] = ()
    stars: Mapping[str, str] = field(default_factory=dict)

    def figure(self) -> Any:
        """Draws it with matplotlib.

        Raises:
            TtsEvalError: If matplotlib is missing.
        """
        if self.ticks:
            return bars_figure(self.panels, self.ticks, self.y)
        return lines_figure(self.panels, self.x, self.y, self.stars)

    @property
    def numbers(self) -> list[ChartRow]:
        """Every value that it shows."""
        return [
            ChartRow(self.number, title, name, self.ticks[int(place)] if self.ticks else f"{place:.6g}", *ends)
            for title, lines in self.panels
            for name, points in lines.items()
            for place, *ends in points
        ]


@dataclass(frozen=True)
class ChartRow:
    """One value of a figure.

    Attributes:
        figure: The figure's number.
        panel: The panel's title.
        line: The line's or the bar's name.
        x: Where it is.
        value: A share, or a difference of such.
        low: Lower end of its 95 % interval.
        high: Its upper end.
    """

    figure: str
    panel: str
    line: str
    x: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Missing:
    """A figure for which the runs hold no data.

    Attributes:
        number: That of the paper's figure.
        title: What it would show.
        command: What would make the data.
    """

    number: str
    title: str
    command: str


def as_svg(figure: Any, name: str) -> str:
    """A figure as an SVG element that can stand in a page among others.

    Args:
        figure: A matplotlib figure.
        name: Tells its inner names from those of other figures; the same name gives the same text.
    """
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
