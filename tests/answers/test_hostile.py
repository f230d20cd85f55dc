"""Answers that hang, crash, flood or attack: each costs itself a verdict and nobody else anything."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.answers import Grader, extract_answer
from tts_eval.answers.fast import decide
from tts_eval.answers.normalize import clean, for_sympy


TIMEOUT = 1.0
SLACK = 6.0  # a killed worker takes a second or two to come back, more on a busy machine


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=1, timeout=TIMEOUT) as grader:
        yield grader


HOSTILE = {
    "tower of powers": r"9^{9^{9^9}}",
    "factorial": "100000!!",
    "power of a power": "10^{10^{10}}",
    "sum": r"\sum_{n=1}^{10^9} n^{-1}",
    "400 parentheses": "(" * 400 + "1" + ")" * 400,
    "3,000 parentheses": "(" * 3000 + "1" + ")" * 3000,
    "20,000 digits": "9" * 20_000,
    "tower of fractions": r"\frac{1}{" * 80 + "2" + "}" * 80,
    "tower of roots": r"\sqrt{" * 100 + "2" + "}" * 100,
    "open braces": "{" * 900,
    "expansion": "(x+y+z)^{200}",
    "NUL": "1\0 2",
    "lone surrogate": "x\ud800+1",
    "line breaks": "x\n+\r\n1\u2028",
    "a megabyte": "1+" * 500_000,
    "a megabyte of digits": "7" * 1_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_is_wrong_in_time_and_harms_no_other(name: str, grader: Grader) -> None:
    grader.grade([("x+1", "1+x")])
    start = time.perf_counter()
    pairs = [("42", HOSTILE[name]), (f"x + {len(name)}", f"{len(name)} + x")]
    verdicts = grader.grade(pairs)
    assert verdicts == [False, True]
    assert time.perf_counter() - start < TIMEOUT + SLACK


def test_a_hostile_gold_is_no_worse(grader: Grader) -> None:
    assert grader.grade([(HOSTILE["sum"], "42"), ("x + 9", "9 + x")]) == [False, True]


def test_time_outs_and_long_answers_are_counted() -> None:
    with Grader(workers=1, timeout=TIMEOUT) as grader:
        grader.grade([("42", "9^{9^{9^9}}"), ("1", "2" * 2000), ("1" * 2000, "1" * 2000), ("1", "2"), ("x+1", "1+x")])
        counts = grader.counts
    assert (counts.undecided, counts.too_long, counts.fast, counts.slow) == (1, 1, 2, 1)


def test_a_hostile_answer_costs_a_group_two_time_outs_at_most() -> None:
    answers = ["x", "1+y", "9^{9^{9^9}}", "a+b", "b+a", "x+y", "10^{10^{10}}", "z-1"]
    with Grader(workers=1, timeout=TIMEOUT) as grader:
        assert grader.group(answers) == [0, 1, 2, 3, 3, 4, 5, 6]
        assert grader.counts.undecided <= 4


PIECES = [
    " ",
    "\\",
    "{",
    "1,",
    "\\text{a}",
    "\\text{",
    "1 ab",
    "\\frac{1}",
    "^{\\circ",
    "and ",
    ".",
    "1/",
    "_{1",
    "\\!",
]


@given(st.one_of(st.text(), st.lists(st.sampled_from([*PIECES, "}", "i", "$", "\ud800"])).map("".join)))
def test_clean_up_takes_any_text(text: str) -> None:
    cleaned = clean(text)
    assert isinstance(for_sympy(cleaned), str)
    assert decide(cleaned, cleaned) is not None


@pytest.mark.parametrize("piece", PIECES)
def test_clean_up_is_fast_on_every_repetition(piece: str) -> None:
    text = (piece * 1000)[:1000]
    start = time.perf_counter()
    decide(clean("1" + text), clean(text + "1"))
    assert time.perf_counter() - start < 1


PAYLOADS = (
    "__import__('os').system('touch pwned')",
    '__import__("os").system("touch pwned")',
    "exec(bytes([111,112,101,110,40,34,112,119,110,101,100,34,44,34,119,34,41]))",
    "open(chr(112)+chr(119)+chr(110)+chr(101)+chr(100),chr(119))",
)
PLACES = (
    "{}",
    r"\text{{{}}}",
    r"5 \text{{ {} }}",
    "5 {}",
    "1, {}",
    r"\{{1, {}\}}",
    r"\begin{{pmatrix}} 1 \\ {} \end{{pmatrix}}",
    r"\frac{{1}}{{{}}}",
    r"\operatorname{{{}}}(1)",
    "x_{{{}}}",
    "f({})",
    "x = {}",
    r"\gcd({}, 2)",
    r"\mathrm{{{}}}",
    "1e{}",
    "{}%",
)


def test_no_answer_is_run_as_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where a worker would run it
    bare = [place.format(payload) for place in PLACES for payload in PAYLOADS]
    boxed = [extract_answer("so \\boxed{" + answer + "}") for answer in bare]
    hashed = [extract_answer("#### " + answer) for answer in bare]
    with Grader(workers=1) as grader:
        grader.grade([("x+1", answer) for answer in (*bare, *boxed, *hashed)])
        grader.grade([(answer, "x+1") for answer in bare])
        assert grader.counts.slow > len(bare)
    assert list(tmp_path.iterdir()) == []


GUARD = "from tts_eval.answers.worker import load; load()"


@pytest.mark.parametrize(("guard", "created"), [("pass", True), (GUARD, False)])
def test_sympy_would_run_it_without_the_guard(guard: str, created: bool, tmp_path: Path) -> None:
    """The payload is live: sympify of a string executes it, and the worker's guard is what prevents that."""
    code = f"{guard}; import sympy; sympy.sympify({PAYLOADS[0]!r})"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"})
    assert (tmp_path / "pwned").exists() is created
