r"""Rewrites an answer's LaTeX to the form in which it is compared: the part of the policy that sympy doesn't know.

See docs/grading.md for the rules. Everything here is text replacement; nothing is evaluated.
"""

from __future__ import annotations

import re
from functools import lru_cache


_CHARACTERS = str.maketrans(
    {
        "\u2212": "-",
        "\u2013": "-",
        "\u00a0": " ",
        "\u00b0": r"^\circ ",
        "\u00d7": r"\times ",
        "\u00b7": r"\cdot ",
        "\u03c0": r"\pi ",
        "\u221e": r"\infty ",
        "\u221a": r"\sqrt ",
        "\u2264": r"\le ",
        "\u2265": r"\ge ",
        "\u2260": r"\neq ",
        "\u2248": r"\approx ",
        "\u222a": r"\cup ",
        "\u2208": r"\in ",
        "\u00b1": r"\pm ",
        "\u20ac": "",
        "\u00a3": "",
    }
)

# `\text{...}` after a value, at the end, is a unit; `\text{ m}/\text{s}` and `\text{ cm}^2` too. But a.m. is none, and
# neither is a word that multiplies.
_UNIT = re.compile(
    r"(?<=[\w)}\]!|.])(?:[\s/]*\\text\s*\{(?!\s*(?:[apAP]\.? ?[mM]\b|(?:m|b|tr)illion|thousand|hundred|dozen))[^{}]*\}"
    r"(?:\s*\^\s*(?:\d|\{-?\d\}))?)+[\s.]*$"
)
_WHOLE_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
# Bare words behind a number and a space: three letters or more with a vowel, so that `2 xy` and `2 xyz` stay products,
# and none that has a value itself.
_BARE_UNIT = re.compile(
    r"(?<=[\d}])\s*(?:(?:[ckmn]ms?|kgs?|ft|in|lbs?|yds|pts|[km]ph|hrs?|wks|yrs|tb?sps?|pcs|[kMG]?Hz|[kM]Wh)(?:\s*\^\s*\{?[23]\}?)?"
    r"|(?<=\s)(?!(?:arc)?(?:sin|cos|tan|sec|csc|cot)|log|exp|mod|sqrt|inf|times|over)"
    r"(?!(?:m|b|tr)illion|thousand|hundred|dozen)(?=[A-Za-z]*[aeiouAEIOU])[A-Za-z]{3,}(?:[ .]+[A-Za-z]+)*)[\s.]*$"
)
# A letter that is no part of a command, nor to the left of an equals sign.
_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z](?![^=]*=)")
_GROUPED = re.compile(r"-?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")

# In this order: each rule sees the work of those before it.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Layout: what prints the same or nothing.
        (r"(?<=\d)(?:,\\!|\{,\}|\\,)\s*(?=\d{3}(?!\d))", ""),
        (r"(?<!\\)\\!|\\\$", ""),
        (r"\\\\\[[^\[\]]*(?:pt|em|ex|mm|cm)\]", r"\\\\"),
        (r"(?<!\\)\\[()\[\]]|\$", " "),
        (r"\\(?:left|right|middle|[bB]igg?[lr]?|displaystyle|limits)(?![A-Za-z])", ""),
        (r"(?<!\\)\\(?:[,;: ]|q?quad(?![A-Za-z]))|~", " "),
        (r"\{\s*,\s*\}", ","),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\frac\s*(\d)\s*(?=[\d{])", r"\\frac{\1}"),
        (r"\\frac\s*(\{[^{}]*\})\s*(\d)", r"\\frac\1{\2}"),
        (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
        (r"\\mathrm\s*\{([dei])\}", r"\1"),
        (r"\\(?:mbox|hbox|textbf|textit|textrm|textnormal|mathrm)\s*(?=\{)", r"\\text"),
        (r"\\(?:mathbf|boldsymbol|bm|vec)\s*\{([^{}]*)\}", r"\1"),
        (r"\\leq(?![A-Za-z])|\\leqslant(?![A-Za-z])", r"\\le"),
        (r"\\geq(?![A-Za-z])|\\geqslant(?![A-Za-z])", r"\\ge"),
        (r"\\varnothing(?![A-Za-z])", r"\\emptyset"),
        (r"^\s*(?:\\approx(?![A-Za-z])|=)", ""),
        # Percent signs, degrees and currencies are units: the question says them.
        (r"\\text\s*\{\s*(?:percent|%|\\%)\s*\}|\\?%|(?<=[\d}])\s*(?:percent|pct)\b", ""),
        (r"(?:\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![A-Za-z]))\s*(?:\\text\s*\{\s*[CF]\s*\}|[CF]\b)?", ""),
        # A list in words.
        (r",?\s*\\text\s*\{\s*,?\s*and\s*\}\s*|,?\s+and\s+", ","),
        (r"\s+", " "),
    )
)
_OR = re.compile(r",?\s*\\text\s*\{\s*,?\s*or\s*\}\s*|,?\s+or\s+")
# Inequalities and unbounded intervals: "or" between such joins sets, and is no comma.
INEQUALITY = re.compile(r"[<>]|\\[lg]e(?![A-Za-z])")
_SOLUTIONS = re.compile(rf"{INEQUALITY.pattern}|[(\[].*\\infty")
_IMAGINARY = re.compile(r"(?<![A-Za-z\\_])i(?![A-Za-z_])")


@lru_cache(maxsize=1 << 16)
def clean(answer: str) -> str:
    """Returns an answer in the form that is compared, as a string or by sympy.

    Args:
        answer: LaTeX or plain text, as extracted.
    """
    text = answer.translate(_CHARACTERS)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    parts = _OR.split(text)
    text = (r" \cup " if all(_SOLUTIONS.search(part) for part in parts) else ",").join(parts)
    text = text.strip().rstrip(".,; ")
    text = _without_unit(text)
    if whole := _WHOLE_TEXT.fullmatch(text):
        text = _without_unit(whole.group(1).strip().rstrip(". "))
    if _GROUPED.fullmatch(text.replace(" ,", ",")):
        text = text.replace(" ", "").replace(",", "")
    return text


def _without_unit(text: str) -> str:
    for unit in (_UNIT, _BARE_UNIT):
        value = unit.sub("", text).rstrip()
        # Behind a term with letters, bare ones are factors.
        if value and not value.startswith("\\text") and not (unit is _BARE_UNIT and _LETTER.search(value)):
            text = value
    return text


def for_sympy(text: str) -> str:
    """Returns a cleaned answer as math-verify should read it.

    A term with a plus-minus sign is two, and `i` is the imaginary unit, unless it counts terms.
    """
    text = _both_signs(text)
    if "\\sum" in text or "\\prod" in text:
        return text
    return _IMAGINARY.sub("I", text)


_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![A-Za-z])")


def _both_signs(text: str) -> str:
    """Writes an answer with one plus-minus sign twice, which math-verify does at the top level of a sum only."""
    parts = _PLUS_MINUS.split(text)
    if len(parts) != 3 or "\\{" in text or _is_list(text):
        return text
    before, sign, after = parts
    first, second = "+-" if sign == "pm" else "-+"
    return f"{before}{first}{after},{before}{second}{after}"


def _is_list(text: str) -> bool:
    """Whether there is a comma outside of all brackets."""
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            return True
    return False


_LOOSE = re.compile(r"\\text\s*\{([^{}]*)\}")
_SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)|(?<!\d)\.(?!\d)")


def loose(text: str) -> str:
    r"""Returns a cleaned answer without case, `\text`, white space (but `1 2` stays apart from `12`) and full stops."""
    return _SPACES.sub("", _LOOSE.sub(r"\1", text)).casefold()
