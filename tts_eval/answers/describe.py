"""Describes an answer by numbers, in the worker process: what takes long or much is ended there as any question is."""

from __future__ import annotations

import cmath
import zlib
from collections.abc import Iterator
from typing import Any

from tts_eval.answers.keys import Key


DIGITS = 15


def describe(expressions: list[Any]) -> Key:
    """Returns the key of an answer.

    Args:
        expressions: What math-verify's `parse` made of it: an expression if it could read one, then the text.
    """
    text = next((one.strip() for one in expressions if isinstance(one, str)), "")
    read = [one for one in expressions if not isinstance(one, str)]
    if len(read) != 1:
        return Key(bool(read), text, None, None, False)
    equation, value = _right_side(read[0])
    try:
        values = tuple(dict.fromkeys(_values(value)))
    except Exception:  # noqa: BLE001 - sympy raises anything; what it can't evaluate may still equal something
        return Key(True, text, None, None, False)
    return Key(True, text, values, equation, _is_set(value))


def _right_side(expression: Any) -> tuple[str | None, Any]:
    """The kind of equation (see `Key`), and what math-verify compares with an answer that is none."""
    from math_verify.grader import is_equation, take_last_relation
    from sympy import Eq, Symbol

    if not is_equation(expression):
        return None, expression
    last = take_last_relation(expression)
    if isinstance(expression, Eq) and isinstance(last.lhs, Symbol) and last.lhs not in last.rhs.free_symbols:
        return last.lhs.name, last.rhs
    return "", last.rhs


def _is_set(expression: Any) -> bool:
    from sympy import Set

    return isinstance(expression, Set)


def _values(expression: Any) -> Iterator[complex]:
    """The numbers in an expression. Raises any exception where they can't be told."""
    from math_verify.grader import is_equation, is_relation, unwrap_fcs
    from sympy import Expr, FiniteSet, MatrixBase, MatrixExpr, Set, Tuple

    if isinstance(expression, (FiniteSet, Tuple)):
        for entry in expression.args:
            yield from _values(_entry(entry) if is_equation(entry) else entry)
    elif isinstance(expression, Set):
        # Evaluated, for (0, 1] and [1, 2) together are one interval.
        for part in _parts(expression):
            yield from _values(part) if isinstance(part, FiniteSet) else (_number(part.start), _number(part.end))
    elif is_relation(expression):
        inequality = unwrap_fcs(expression)
        if len(inequality.free_symbols) != 1 or is_equation(expression):
            raise ValueError("no interval")
        yield from _values(inequality.as_set())
    elif isinstance(expression, (MatrixBase, MatrixExpr)):
        for entry in expression.doit().flat():
            yield _number(entry)
    elif isinstance(expression, Expr):
        yield _number(expression)
    else:
        raise TypeError(type(expression))


def _entry(equation: Any) -> Any:
    """What `x = 1` in a list stands for. Other equations can be written with other right sides."""
    letter, value = _right_side(equation)
    if not letter or value.free_symbols:
        raise ValueError("an equation that may have other forms")
    return value


def _parts(expression: Any) -> list[Any]:
    from sympy import FiniteSet, Interval, S, Union

    whole = Union(*expression.args) if isinstance(expression, Union) else expression
    if whole is S.EmptySet:
        return []
    parts = list(whole.args) if isinstance(whole, Union) else [whole]
    if not all(isinstance(part, (Interval, FiniteSet)) for part in parts):
        raise TypeError("an unusual set")
    return parts


def _number(expression: Any) -> complex:
    """Evaluates a term; letters have fixed values. Raises any exception where that gives no reliable number."""
    from sympy import S

    if expression in (S.Infinity, S.NegativeInfinity):
        return complex(float(expression))
    points = {symbol: _point(symbol.name) for symbol in expression.free_symbols}
    # `evalf` with values, not `subs`: that would build the expression anew, and work out 9^(9^9) on the way.
    value = expression.evalf(DIGITS, subs=points)
    if not all(part.is_Number for part in value.as_real_imag()):
        value = expression.doit().evalf(DIGITS, subs=points)
    for part in value.as_real_imag():
        if not part.is_Number or (getattr(part, "_prec", DIGITS) == 1 and abs(part) > 1e-9):
            raise ValueError("too few digits are certain")
    number = complex(value)
    if not cmath.isfinite(number):
        raise ValueError("too large, or no number")
    return number


def _point(name: str) -> Any:
    """The value of a letter: positive and the same in all workers.

    A word is the product of its letters, and `e` is Euler's number: math-verify compares these as text.
    """
    from sympy import E, Mul, Rational

    fixed = (E if letter == "e" else Rational(300 + zlib.crc32(letter.encode()) % 997, 997) for letter in name.lower())
    return Mul(*fixed)
