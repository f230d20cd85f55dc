"""One table of a report, and how tables and their numbers are written."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
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


def to_csv(rows: Sequence[Any], digits: int | None = None) -> str:
    """Writes dataclass instances of one kind, at least one, under a header line; None is an empty cell.

    Args:
        rows: The lines.
        digits: How many of a float's are kept behind the point; None keeps all.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(rows[0])], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = asdict(row).items()
        writer.writerow({name: _rounded(value, digits) for name, value in values})
    return text.getvalue()


def _rounded(value: Any, digits: int | None) -> Any:
    return round(value, digits) if isinstance(value, float) and digits is not None else value


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
