"""The child process that asks math-verify: `python -m tts_eval.answers.worker SECONDS BYTES`.

It reads one JSON pair `[gold, answer]` a line from stdin and writes `true` or `false` for each to stdout, after one
line `"ready"`, or a line that says why it can't work. A line with a single string asks for the answer's key. It ends
when stdin does, and when a line takes SECONDS.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, BinaryIO, NoReturn

from tts_eval.answers import compare
from tts_eval.answers.describe import describe
from tts_eval.answers.keys import Key
from tts_eval.answers.normalize import INEQUALITY


def main() -> None:
    """Serves pairs and single answers until stdin closes."""
    seconds, memory = int(sys.argv[1]), int(sys.argv[2])
    # Whatever a library prints must not be mistaken for a verdict.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    try:
        equal, key = load()
        equal("\\frac{1}{2}x", "x/2")  # builds the parser's tables, so that no pair pays for them
    except ImportError as error:
        _reply(replies, f"{type(error).__name__}: {error}")
        return
    _confine(memory)
    _reply(replies, "ready")
    for line in sys.stdin.buffer:
        request = json.loads(line)
        # The parent keeps the time; the alarm (whose default is death) ends a worker whose parent was killed meanwhile.
        signal.alarm(seconds)
        reply = key(request).to_json() if isinstance(request, str) else equal(*request)
        signal.alarm(0)
        _reply(replies, reply)


def load() -> tuple[Callable[[str, str], bool], Callable[[str], Key]]:
    """Imports math-verify. Returns how it compares two bare LaTeX strings, and the key of one, both without limits."""
    import sympy
    import sympy.core.random
    import sympy.parsing.sympy_parser
    import sympy.physics.units  # what simplify would import later; it reads its constants from strings
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    logging.disable(logging.CRITICAL)
    # sympy turns strings into expressions by evaluating them as Python, even the "1" of `x + 1`. Here only numbers
    # are read from strings, and nothing is evaluated, whatever an answer smuggles past math-verify's grammar.
    sympy.parsing.sympy_parser.parse_expr = _read_number
    sympy.parsing.sympy_parser.eval_expr = _refuse
    # Units are removed before (`normalize`): math-verify's list holds single letters, and `3t` would equal `3s`.
    form = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    latex = [LatexExtractionConfig(boxed_match_priority=-1, normalization_config=form)]

    @lru_cache(maxsize=4096)
    def read(text: str) -> list[Any]:
        parts = text.split("\\cup")
        if len(parts) > 1 and all(map(INEQUALITY.search, parts)):  # math-verify reads unions of intervals only
            try:
                return [compare.union([read(part) for part in parts]), text]
            except Exception:  # noqa: BLE001 - sympy raises anything
                text = ",".join(parts)  # no set: in several letters they are several answers
        expressions: list[Any] = parse(f"${text}$", latex, parsing_timeout=None)
        return [evaluated(one) for one in expressions]

    infinite = (sympy.oo, -sympy.oo, sympy.zoo)
    lazy = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative)

    def evaluated(one: Any) -> Any:
        # math-verify leaves products as they are; of 5 less that of two infinities sympy at times makes 0.
        return one.doit() if isinstance(one, sympy.Expr) and one.has(*infinite) and not one.has(*lazy) else one

    def equal(gold: str, answer: str) -> bool:
        sympy.core.random.seed(0)  # it draws numbers to tell whether something is 0; a verdict is to be repeatable
        return compare.equal(read(gold), read(answer))

    def key(answer: str) -> Key:
        return describe(read(answer))

    return equal, key


def _confine(memory: int) -> None:
    """Limits memory to so many bytes (where the system can), and forbids writing to files."""
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read_number(text: str, **_: object) -> Any:
    """What sympify may do with a string."""
    import sympy

    if re.fullmatch(r"[-+]?[0-9]+", text):
        return sympy.Integer(text)
    if re.fullmatch(r"[0-9]+/[0-9]+", text):
        return sympy.Rational(text)
    if re.fullmatch(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", text):
        return sympy.Float(text)
    raise ValueError("an answer is never evaluated as code")


def _refuse(*_: object) -> NoReturn:
    raise ValueError("an answer is never evaluated as code")


def _reply(replies: BinaryIO, message: object) -> None:
    replies.write(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
