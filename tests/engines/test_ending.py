"""What the tokens of a row make of its prefix; here each token is a character, and `$` is the end token."""

from __future__ import annotations

from typing import Any

import pytest

from tts_eval.engines.ending import extended
from tts_eval.types import Prefix, Problem


PROBLEM = Problem("p", "Q", ("STOP",), 30)
FIRST = Prefix(path=(0,), steps=("a\n",), tokens=tuple(map(ord, "a\n")), token_count=2, logprob=-1.0, step_ends=(2,))


def decode(tokens: tuple[int, ...]) -> str:
    return "".join(map(chr, tokens)).replace("$", "")


def extend(new: str, until: Any = "step", prefix: Prefix = FIRST, **given: Any) -> Prefix | None:
    ended = "eos" if new.endswith("$") else None
    options = {"delimiter": "\n", "decode": decode, "ended": ended, "full": False, "whole": False, **given}
    tokens = (*prefix.tokens, *map(ord, new))
    return extended(prefix, (0, 1), tokens, -0.5, problem=PROBLEM, until=until, **options)


def test_a_step_ends_with_its_delimiter() -> None:
    found = extend("bc\n")
    assert found is not None
    assert (found.steps, found.step_ends, found.finish) == (("a\n", "bc\n"), (2, 5), None)
    assert (found.path, found.token_count, found.logprob) == ((0, 1), 5, -1.5)


@pytest.mark.parametrize("text", ["\n", " \n", "\n\n", "bc", "\nbc", ""])
def test_what_is_neither_a_step_nor_an_end_goes_on(text: str) -> None:
    assert extend(text) is None


def test_a_delimiter_ends_no_whole_solution() -> None:
    assert extend("bc\nd\n", "end") is None


@pytest.mark.parametrize(
    ("text", "steps", "finish"),
    [
        ("b$", ("a\n", "b"), "eos"),
        ("$", ("a\n",), "eos"),
        ("bSTOP", ("a\n", "b"), "stop"),
        ("b\nSTOP", ("a\n", "b\n"), "stop"),
    ],
)
@pytest.mark.parametrize("until", ["step", "end"])
def test_a_solution_ends(text: str, steps: tuple[str, ...], finish: str, until: str) -> None:
    found = extend(text, until)
    assert found is not None
    assert (found.steps, found.finish) == (steps, finish)
    assert found.step_ends[-1] == found.token_count == len(FIRST.tokens) + len(text)


def test_a_stop_string_that_began_in_the_step_before() -> None:
    before = Prefix(steps=("aST\n",), tokens=tuple(map(ord, "aST\n")), token_count=4, step_ends=(4,))
    found = extended(
        *(before, (0,), (*before.tokens, ord("X")), 0.0),
        **{"problem": Problem("p", "Q", ("\nX",), 30), "until": "step", "delimiter": "\n", "decode": decode},
        **{"ended": None, "full": False, "whole": False},
    )
    assert found is not None and (found.steps, found.finish) == (("aST\n",), "stop")


def test_a_limit_cuts_a_step_and_ends_a_solution() -> None:
    cut = extend("bc", full=True)
    assert cut is not None and (cut.steps, cut.finish) == (("a\n", "bc"), None)
    for found in (extend("b" * 28, full=True), extend("b", whole=True, full=True), extend("b" * 28, "end", full=True)):
        assert found is not None and found.finish == "length"
