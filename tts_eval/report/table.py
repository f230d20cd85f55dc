"""One table of a report, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: Of its CSV file.
        title: Its heading.
        note: What the columns mean.
        heads: The columns.
        cells: Line by line.
        rows: The numbers behind it, dataclasses of one kind.
    """

    name: str
    title: str
    note: str
    heads: Sequence[str]
    cells: Sequence[Sequence[str]]
    rows: Sequence[Any]


def percent(value: float, low: float | None = None, high: float | None = None, sign: str = "") -> str:
    """A share in percent, with its interval."""
    shown = f"{100 * value:{sign}.1f}"
    return shown if low is None or high is None else f"{shown} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def count(value: float | None) -> str:
    """A mean number of tokens and the like; empty where it isn't known."""
    return "" if value is None else f"{value:,.0f}"


def flops(value: float | None) -> str:
    """FLOPs, or tokens of a model's life; empty where they aren't known."""
    return "" if value is None else f"{value:.2e}"
