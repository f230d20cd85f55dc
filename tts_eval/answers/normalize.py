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
# Bare words after a number: three letters or more, so that `2 xy` stays a product, and none that has a value itself.
_BARE_UNIT = re.compile(
    r"(?<=[\d}])\s*(?:(?:[ckmn]m|kg|ft|in|lbs?|mph|hrs?)(?:\s*\^\s*\{?[23]\}?)?"
    r"|(?<=[\s}])(?!(?:arc)?(?:sin|cos|tan|sec|csc|cot)|log|exp|mod|sqrt|inf|times|over)"
    r"(?!(?:m|b|tr)illion|thousand|hundred|dozen)[A-Za-z]{3,}(?:[ .]+[A-Za-z]+)*)[\s.]*$"
)
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
        # Percent signs, degrees and currencies are units: the question says them.
        (r"\\text\s*\{\s*(?:percent|%|\\%)\s*\}|\\?%|(?<=[\d}])\s*(?:percent|pct)\b", ""),
        (r"(?:\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![A-Za-z]))\s*(?:\\text\s*\{\s*[CF]\s*\}|[CF]\b)?", ""),
        # A list in words.
        (r",?\s*\\text\s*\{\s*,?\s*(?:and|or)\s*\}\s*|,?\s+(?:and|or)\s+", ","),
        (r"\s+", " "),
    )
)
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
    text = text.strip().rstrip(".,; ")
    text = _without_unit(text)
    if whole := _WHOLE_TEXT.fullmatch(text):
        text = whole.group(1).strip().rstrip(". ")
    if _GROUPED.fullmatch(text.replace(" ,", ",")):
        text = text.replace(" ", "").replace(",", "")
    return text


def _without_unit(text: str) -> str:
    for unit in (_UNIT, _BARE_UNIT):
        value = unit.sub("", text).rstrip()
        if value and not value.startswith("\\text"):
            text = value
    return text


def for_sympy(text: str) -> str:
    """Returns a cleaned answer as math-verify should read it: `i` is the imaginary unit, unless it counts terms."""
    if "\\sum" in text or "\\prod" in text:
        return text
    return _IMAGINARY.sub("I", text)


_LOOSE = re.compile(r"\\text\s*\{([^{}]*)\}")
_SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)|(?<!\d)\.(?!\d)")


def loose(text: str) -> str:
    r"""Returns a cleaned answer without case, `\text`, white space (but `1 2` stays apart from `12`) and full stops."""
    return _SPACES.sub("", _LOOSE.sub(r"\1", text)).casefold()
