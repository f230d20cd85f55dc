"""Verdicts that need no sympy. Equal strings are equal; unequal is said only of what surely differs."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from tts_eval.answers.normalize import loose


class _Number(NamedTuple):
    value: Fraction
    decimal: bool  # written with a decimal point, so perhaps rounded


_DECIMAL = re.compile(
    r"([-+]?(?:\d+\.?\d*|\.\d+))(?:e([-+]?\d{1,3})|(?:\\times|\\cdot)10\^(?:\{([-+]?\d{1,3})\}|(\d)))?", re.IGNORECASE
)
_FRACTION = re.compile(r"([-+]?)(\d*)\\frac\{(-?\d+)\}\{(-?\d+)\}|([-+]?)(?:(\d+) )?(\d+)/(\d+)")
_BASED = re.compile(r"\(?(-?[0-9a-z.]+)\)?_(?:\{(\d+)\}|(\d+))")
_DIGITS = re.compile(r"-?[0-9a-z.]*\d[0-9a-z.]*")
_GROUP = re.compile(r"(\\\{|[(\[])(?:[^(){}\[\],]|\{[^{}]*\})*,(?:[^(){}\[\]]|\{[^{}]*\})*(\\\}|[)\]])")
_PROSE = re.compile(r"[a-z]{3,}")
_WORD = re.compile(r"(?=.*[aeiou])[a-z]{4,}")  # `cab` and `lqsx` may be products

# math-verify compares a decimal with an exact value after rounding to 6 places; further apart is unequal there too.
_FAR = Fraction(1, 10**5)


def decide(gold: str, answer: str) -> bool | None:
    """Decides a pair of cleaned answers by their text alone.

    Returns:
        Whether they are equal, or None where sympy must say.
    """
    mine, theirs = loose(gold), loose(answer)
    if not mine or not theirs:
        return False
    if mine == theirs:
        return True
    a, b = number(gold), number(answer)
    if a is not None and b is not None:
        if a.value == b.value:
            return True
        exact = not a.decimal and not b.decimal
        return False if exact or abs(a.value - b.value) > _FAR else None
    for rule in (_bases, _delimiters, _tuples, _prose):
        verdict = rule(mine, theirs)
        if verdict is not None:
            return verdict
    return None


@lru_cache(maxsize=1 << 16)
def number(text: str) -> _Number | None:
    """Reads an integer, decimal, fraction or mixed number exactly; None if the text is anything else."""
    packed = text.replace(" ", "")
    if match := _DECIMAL.fullmatch(packed):
        if re.search(r"\d \d", text):  # "1 2" is no number
            return None
        digits, *powers = match.groups()
        power = int(next((p for p in powers if p), "0"))
        return _Number(Fraction(digits) * Fraction(10) ** power, "." in digits)
    match = _FRACTION.fullmatch(packed) if "\\" in text else _FRACTION.fullmatch(text)
    if not match:
        return None
    sign, whole, top, bottom = match.groups()[:4] if match.group(4) else match.groups()[4:]
    if int(bottom) == 0 or (whole and ("-" in top or "-" in bottom)):
        return None
    value = int(whole or 0) + Fraction(int(top), int(bottom))
    return _Number(-value if sign == "-" else value, False)


def _bases(gold: str, answer: str) -> bool | None:
    """Numbers with a base: the digits must agree, and the bases where both are written."""
    a, b = _BASED.fullmatch(gold), _BASED.fullmatch(answer)
    if a and b:
        return _digits(a.group(1)) == _digits(b.group(1)) and (a.group(2) or a.group(3)) == (b.group(2) or b.group(3))
    if a and _DIGITS.fullmatch(answer):
        return _digits(a.group(1)) == _digits(answer)
    if b and _DIGITS.fullmatch(gold):
        return _digits(b.group(1)) == _digits(gold)
    return None


def _digits(text: str) -> str:
    return re.sub(r"^(-?)0+(?=[0-9a-z])", r"\1", text)


def _delimiters(gold: str, answer: str) -> bool | None:
    """A set in braces is no tuple, vector or interval."""
    a, b = _GROUP.fullmatch(gold), _GROUP.fullmatch(answer)
    if a and b and (a.group(1) == "\\{") != (b.group(1) == "\\{"):
        return False
    return None


def _tuples(gold: str, answer: str) -> bool | None:
    """Tuples of exact numbers are equal if their entries are, in order."""
    a, b = _exact_tuple(gold), _exact_tuple(answer)
    return None if a is None or b is None else a == b


@lru_cache(maxsize=1 << 16)
def _exact_tuple(text: str) -> tuple[Fraction, ...] | None:
    if not (_GROUP.fullmatch(text) and text.startswith("(") and text.endswith(")")):
        return None
    entries = [number(entry.strip()) for entry in text[1:-1].split(",")]
    exact = [entry.value for entry in entries if entry is not None and not entry.decimal]
    return tuple(exact) if len(exact) == len(entries) else None


def _prose(gold: str, answer: str) -> bool | None:
    """Different words differ, unless they are short or unspeakable, and could be the same product of letters."""
    if not _PROSE.fullmatch(gold) or not _PROSE.fullmatch(answer):
        return None
    return False if sorted(gold) != sorted(answer) or _WORD.fullmatch(gold) else None
