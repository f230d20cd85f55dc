r"""Finds the final answer in a solution: the last `\boxed{...}`, else GSM8K's last line `#### x`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tts_eval.types import TtsEvalError


# One linear pass over a text of any length. A box comes first, so that "\\boxed{" (a JSON-escaped text, or a line
# break before the box) is still a box; an escaped brace is a printed one and doesn't nest.
_TOKEN = re.compile(r"\\{1,2}(?:boxed|fbox)\s*\{|\\[\\{}]|[{}]")
_BARE_BOX = re.compile(r"\\boxed\s+([^\s{}$\\]+)")
_GSM8K = re.compile(r"####\s*(\S.*)")
# The answer may stand on the next line; "the answer is correct" says none.
_ANSWER_IS = re.compile(r"answer\s*(?:is\b|:)(?![\s:*]*(?:(?:in)?correct|wrong)\b)[\s:*]*", re.IGNORECASE)
_MATH = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
# What goes on directly, or is the next of several.
_MORE_MATH = re.compile(r"\s*(?:[=+/^<>$\\\d]|(?:,|and\b|or\b)\s*[$\\\d])")
_SENTENCE_END = re.compile(r"\.(?=\s|$)")
_NUMBER = re.compile(r"(?:(?<![\w)\]}])-)?\$?(\d[\d,]*(?:\.\d+)?|\.\d+)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")

FIND_ANSWERS = (
    "give answer_fallback=answer_is, last_number or text to a new run (tts-eval import has it as an option), or ask "
    "for \\boxed{} in the prompt"
)
"""What mends solutions of which none states an answer."""


def extract_answer(text: str, fallback: str | None = None) -> str | None:
    r"""Returns the final answer that a solution states, or None where it states none.

    The last complete `\boxed{...}` or `\fbox{...}` counts (of nested ones the inner). A box that is never closed is a
    solution cut off and no answer, so the complete box before it counts. `\boxed 5` without braces counts only where
    there is no braced box. Without any box the last non-empty line counts if it reads `#### x`, stripped of dollar
    signs and thousands separators as GSM8K does.

    Args:
        text: The solution.
        fallback: What to try where neither is found: "answer_is" takes what follows the last "the answer is" or
            "final answer:", up to the end of the sentence, be it on the next line; "last_number" takes the last number;
            "text" takes all of it, where the prompt asks for the bare answer.

    Returns:
        The answer without surrounding white space. An empty box is None.

    Raises:
        TtsEvalError: If `fallback` is neither None nor one of those names.
    """
    if fallback is not None and fallback not in FALLBACKS:
        raise TtsEvalError(f"unknown answer fallback {fallback!r}; choose one of {', '.join(FALLBACKS)}, or none")
    answer = _last_box(text)
    if answer is None:
        answer = _last_hashes(text)
    if answer is None and fallback is not None:
        answer = FALLBACKS[fallback](text)
    return (answer or "").strip() or None


def _last_box(text: str) -> str | None:
    """The content of the complete box that starts last."""
    opened: list[tuple[int, int] | None] = []  # (start of the box, start of its content); None for a plain brace
    last = (-1, 0, 0)
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token == "{":
            opened.append(None)
        elif token == "}" and opened:
            if box := opened.pop():
                last = max(last, (*box, match.start()))
        elif token.endswith("{") and len(token) > 2:
            opened.append((match.start(), match.end()))
    if last[0] >= 0:
        return text[last[1] : last[2]]
    bare = _BARE_BOX.findall(text)
    return bare[-1].rstrip(".,;") if bare else None


def _last_hashes(text: str) -> str | None:
    """What follows `####` on the last line; a heading further up ("#### Step 2") is no answer."""
    match = _GSM8K.fullmatch(text.rstrip().rpartition("\n")[2].strip())
    return _plain_number(match.group(1)) if match else None


def _after_answer_is(text: str) -> str | None:
    match = None
    for match in _ANSWER_IS.finditer(text):  # noqa: B007 (the last one is wanted)
        pass
    if match is None:
        return None
    rest = text[match.end() :]
    math = _MATH.match(rest)
    if math and not _MORE_MATH.match(_sentence(rest[math.end() :])):  # of `$x$ = 5` the whole is the answer
        return math.group(math.lastindex or 0)
    return _sentence(rest)


def _sentence(text: str) -> str:
    return _SENTENCE_END.split(text.partition("\n")[0], maxsplit=1)[0].strip(" *")


def _last_number(text: str) -> str | None:
    match = None
    for match in _NUMBER.finditer(text):  # noqa: B007 (the last one is wanted)
        pass
    return _plain_number(match.group().rstrip(",")) if match else None


def _plain_number(text: str) -> str:
    return _THOUSANDS.sub("", text.replace("$", ""))


FALLBACKS: Mapping[str, Callable[[str], str | None]] = {
    "answer_is": _after_answer_is,
    "last_number": _last_number,
    "text": str.strip,
}
"""How to find an answer that isn't boxed, by name: see `extract_answer`."""
