"""One table of a report, and how tables and their numbers are written."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any


DETECTABLE = "detectable: the smallest true difference that would show in four of five cases"
"""What a column of that name holds."""


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
    """Writes dataclass instances of one kind, at least one, under a header line; None and NaN are empty cells.

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


def known(row: Any) -> dict[str, Any]:
    """A dataclass instance for JSON, which has no NaN: what isn't known is null."""
    return {name: None if value != value else value for name, value in asdict(row).items()}


def _rounded(value: Any, digits: int | None) -> Any:
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else value if digits is None else round(value, digits)


def percent(value: float, low: float | None = None, high: float | None = None, sign: str = "") -> str:
    """A share in percent, with its interval where it has one."""
    known = [value] if low is None or high is None or math.isnan(low) else [value, low, high]
    shown, *ends = (f"{round(100 * number, 1) + 0.0:{sign}.1f}" for number in known)  # + 0.0 makes 0 of -0
    return f"{shown} [{', '.join(ends)}]" if ends else shown


def points(value: float | None) -> str:
    """A difference in points without an interval; empty where it isn't known."""
    return "" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def detectable(values: Iterable[float | None]) -> str:
    """What the comparisons of a table could have shown, as a sentence."""
    known = sorted(value for value in values if value is not None and not math.isnan(value))
    if not known:
        return ""
    ends = dict.fromkeys((points(known[0]), points(known[-1])))
    return f"Differences of {' to '.join(ends)} points would show in four of five cases."


def count(value: float | None) -> str:
    """A mean number of tokens and the like; empty where it isn't known."""
    return "" if value is None else f"{value:,.0f}"


def flops(value: float | None) -> str:
    """FLOPs, or tokens of a model's life; empty where they aren't known."""
    return "" if value is None else f"{value:.2e}"
