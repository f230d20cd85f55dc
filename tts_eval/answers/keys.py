"""What one answer may be equal to, told from a few numbers: lets `Grader.group` compare few pairs by sympy."""

from __future__ import annotations

import math
from typing import Any, NamedTuple


# math-verify compares after rounding to 6 places; the second is for large values, which are evaluated to 15 digits.
_ABSOLUTE, _RELATIVE = 1e-5, 1e-9


class Key(NamedTuple):
    """One answer as the worker (`describe.py`) sees it.

    Attributes:
        readable: Whether sympy can read it. If not, it equals its own text only.
        text: What math-verify falls back on: equal texts are equal.
        values: The numbers in it: of a number itself, of a list, set, tuple or matrix each entry, of an interval or
            inequality the ends, of an equation the right side; letters stand for fixed numbers. Unordered, without
            repetitions. None if they aren't known: the answer may equal anything.
        equation: None for what isn't an equation; the letter of `letter = term`; "" for other equations.
        is_set: Whether it is a set or an interval, which can be the solutions of an equation.
    """

    readable: bool
    text: str
    values: tuple[complex, ...] | None
    equation: str | None
    is_set: bool

    @classmethod
    def from_json(cls, parts: dict[str, Any]) -> Key:
        """Returns the key that `to_json` made this of."""
        values = parts["values"]
        return cls(**{**parts, "values": None if values is None else tuple(complex(*value) for value in values)})

    def to_json(self) -> dict[str, Any]:
        """Returns the key as JSON can hold it."""
        values = None if self.values is None else [(value.real, value.imag) for value in self.values]
        return {**self._asdict(), "values": values}


def compatible(a: Key, b: Key) -> bool:
    """Returns whether two answers might be equal; if not, sympy needn't be asked."""
    if a.text and a.text == b.text:
        return True
    if not a.readable or not b.readable:
        return False
    if a.values is None or b.values is None:
        return True
    if a.equation is not None and b.equation is not None and not (a.equation and a.equation == b.equation):
        return True  # 2x = 10 and x = 5 have different right sides
    if (a.equation == "" and b.is_set) or (b.equation == "" and a.is_set):
        return True  # x^2 = 4 and {2, -2}
    return _covers(a.values, b.values) and _covers(b.values, a.values)


def _covers(some: tuple[complex, ...], others: tuple[complex, ...]) -> bool:
    return all(any(_near(one, other) for other in others) for one in some)


def _near(one: complex, other: complex) -> bool:
    if one == other:
        return True
    distance = abs(one - other)
    return math.isfinite(distance) and distance <= _ABSOLUTE + _RELATIVE * abs(one)
