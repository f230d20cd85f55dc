"""Compares answers that sympy has read, in the worker process: math-verify's `verify`, and what the policy adds."""

from __future__ import annotations

from itertools import product
from typing import Any


def equal(gold: list[Any], answer: list[Any]) -> bool:
    """Returns whether two answers are equal.

    Args:
        gold: What math-verify's `parse` made of it: an expression if it could read one, then the text.
        answer: The same of the answer.
    """
    from math_verify import verify

    # What has no solution is equal for math-verify: `f(2) = 5` and `f(2) = 7`.
    if _is_statement(gold) and _is_statement(answer):
        return _same_equation(gold[0], answer[0])
    pair = _in_order(gold, answer), _in_order(answer, gold)
    if verify(*pair, allow_set_relation_comp=True, timeout_seconds=None):
        return True
    return any(_same_equation(one, other) for one, other in product(*pair))


def union(parts: list[list[Any]]) -> Any:
    """Returns the set of what solves one of several inequalities in the same letter.

    Raises:
        ValueError: If the parts are anything else. What sympy can't solve raises other exceptions.
    """
    from math_verify.grader import is_equation, is_relation, unwrap_fcs
    from sympy import Union

    inequalities = [unwrap_fcs(part[0]) for part in parts if part and is_relation(part[0]) and not is_equation(part[0])]
    letters = {letter for inequality in inequalities for letter in inequality.free_symbols}
    if len(inequalities) != len(parts) or len(letters) != 1:
        raise ValueError("no union")
    return Union(*(inequality.as_set() for inequality in inequalities))


def _in_order(answer: list[Any], other: list[Any]) -> list[Any]:
    """Makes a bare list a tuple where the other answer is one.

    math-verify sorts it where the tuple isn't the gold, and drops what is in it twice.
    """
    from latex2sympy2_extended.sets import FiniteSet
    from sympy import Tuple

    if not any(_is_tuple(one) for one in other):
        return answer
    return [Tuple(*one._unsorted_args) if isinstance(one, FiniteSet) else one for one in answer]


def _is_tuple(expression: Any) -> bool:
    """Whether it is `(2, 1)`, or `(1, 2)`, which is read as an interval; `(x, y) = (1, 2)` is one, too."""
    from sympy import Eq, Interval, Tuple

    value = expression.rhs if isinstance(expression, Eq) else expression
    return isinstance(value, Tuple) or (isinstance(value, Interval) and bool(value.left_open and value.right_open))


def _is_statement(answer: list[Any]) -> bool:
    """Whether it is an equation without unknowns."""
    from sympy import Eq

    return bool(answer) and isinstance(answer[0], Eq) and not answer[0].free_symbols


def _same_equation(one: Any, other: Any) -> bool:
    """Whether two equations have the same sides, or differ by a constant factor only."""
    from sympy import Eq, simplify

    if not isinstance(one, Eq) or not isinstance(other, Eq):
        return False
    try:
        for left, right in ((other.lhs, other.rhs), (other.rhs, other.lhs)):
            if simplify(one.lhs - left) == 0 and simplify(one.rhs - right) == 0:
                return True
        ratio = simplify((one.lhs - one.rhs) / (other.lhs - other.rhs))
    except Exception:  # noqa: BLE001 - sympy raises anything; sets and tuples have no difference
        return False
    return bool(ratio.is_number and ratio.is_finite and ratio.is_zero is False)
