"""Finding the final answer in a solution."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.answers import FALLBACKS, extract_answer
from tts_eval.types import TtsEvalError


DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{5}.", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{7}", "7"),
        (r"\boxed {7}", "7"),
        (r"first \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"a stray } and { before \boxed{3}", "3"),
        (r"\boxed{1 + \boxed{2}}", "2"),
        (r"\boxed{5} and, cut off, \boxed{6", "5"),
        (r"\boxed{6", None),
        (r"\boxed{}", None),
        (r"\boxed{  }", None),
        (r"so it is $\boxed 2$.", "2"),
        (r"escaped twice: \\boxed{8}", "8"),
        ("", None),
        ("no answer here", None),
    ],
)
def test_box(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("9 * 2 = 18\n#### 18", "18"),
        ("#### $1,234,567.50\n\n", "1234567.50"),
        ("#### (1, 2)", "(1, 2)"),
        ("#### Step 2\nNow add them.", None),
        ("#### 5\nand then\n#### 6", "6"),
        ("####", None),
        (r"#### 5 and \boxed{6}", "6"),
    ],
)
def test_gsm8k_counts_only_on_the_last_line(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "fallback", "answer"),
    [
        ("The answer is 5.", None, None),
        ("The answer is 5.", "answer_is", "5"),
        ("The answer is 3. No, the answer is 4.5. I hope so", "answer_is", "4.5"),
        ("Final Answer: The final answer is $\\frac{1}{2}$. I hope it is correct.", "answer_is", r"\frac{1}{2}"),
        ("**Final answer:** 12 apples\nThanks", "answer_is", "12 apples"),
        (r"Final answer: \(x + 1\)", "answer_is", "x + 1"),
        ("The answer is", "answer_is", None),
        ("**Final Answer:**\n\n12", "answer_is", "12"),
        ("The final answer is:\n\\[\n12\n\\]\nDone.", "answer_is", "12"),
        ("The answer is $$12$$", "answer_is", "12"),
        ("The answer is 12. So the answer is correct.", "answer_is", "12"),
        ("The answer is 12. The old answer: **wrong**.", "answer_is", "12"),
        ("The answer is $x$ = 5.", "answer_is", "$x$ = 5"),
        ("The answer is $3$ and $4$.", "answer_is", "$3$ and $4$"),
        (r"The answer is $\frac{1}{2}$, which is 0.5.", "answer_is", r"\frac{1}{2}"),
        ("The answer is $12$ for all 3 people.", "answer_is", "12"),
        ("The answer is $\\frac{1}{2}$ of the cake.", "answer_is", r"\frac{1}{2}"),
        ("nothing", "answer_is", None),
        ("it has 3 of 1,234 left", "last_number", "1234"),
        ("it costs $4.50.", "last_number", "4.50"),
        ("it is -3", "last_number", "-3"),
        ("10-3", "last_number", "3"),
        ("none", "last_number", None),
        (r"\boxed{1} and 2", "last_number", "1"),
        (" Paris\n", "text", "Paris"),
        (" ", "text", None),
    ],
)
def test_fallbacks_are_off_unless_asked_for(text: str, fallback: str | None, answer: str | None) -> None:
    assert extract_answer(text, fallback) == answer


def test_an_unknown_fallback_names_the_choices() -> None:
    with pytest.raises(TtsEvalError, match=r"'last_line'.*answer_is, last_number"):
        extract_answer("5", fallback="last_line")


PIECES = [*"\\{}$1,.-\n \0\ud800", "\\boxed{", "\\fbox ", "#### ", "the answer is "]
LONG = ["\\boxed{" * 140_000, "{" * 1_000_000, "#" * 1_000_000, "answer is " * 100_000, "1," * 500_000]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
@pytest.mark.parametrize("fallback", [None, *FALLBACKS])
def test_any_text_gives_none_or_a_stripped_answer(fallback: str | None, text: str) -> None:
    answer = extract_answer(text, fallback)
    assert answer is None or (answer and answer == answer.strip())


BALANCED = st.recursive(
    st.text(alphabet="abc 1+-\\^_,()é", max_size=6).filter(lambda text: not text.endswith("\\")),
    lambda inner: st.lists(st.one_of(inner, inner.map("{{{}}}".format)), max_size=4).map("".join),
    max_leaves=8,
)


@given(st.text(alphabet="ab {}$#\n"), BALANCED)
def test_a_box_gives_back_whatever_balanced_text_it_holds(before: str, content: str) -> None:
    assert extract_answer(before + " \\boxed{" + content + "}") == (content.strip() or None)


@pytest.mark.parametrize("text", LONG, ids=[text[:7] for text in LONG])
@pytest.mark.parametrize("fallback", [None, *FALLBACKS])
def test_a_megabyte_takes_no_longer_than_reading_it(text: str, fallback: str | None) -> None:
    start = time.perf_counter()
    extract_answer(text, fallback)
    assert time.perf_counter() - start < 3


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the shared data at {DATA}")
def test_math_solutions_give_their_golds() -> None:
    lines = (DATA / "math" / "math500_test.jsonl").read_text().splitlines()
    problems = [json.loads(line) for line in lines]
    assert len(problems) == 500
    assert [extract_answer(p["solution"]) for p in problems] == [p["answer"].strip() for p in problems]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the shared data at {DATA}")
def test_gsm8k_answers_give_a_number() -> None:
    answers = [json.loads(line)["answer"] for line in (DATA / "gsm8k" / "test.jsonl").read_text().splitlines()]
    assert len(answers) == 1319
    for text in answers:
        assert extract_answer(text) == text.rpartition("####")[2].strip().replace(",", "")
