from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from tts_eval.tasks import documents
from tts_eval.types import TtsEvalError


Write = Callable[..., Path]

PROBLEM = {
    "problem": "What is $2 + 3$?",
    "solution": "It is $\\boxed{5}$.",
    "answer": "5",
    "subject": "Algebra",
    "level": 1,
    "unique_id": "a/1",
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a JSON-lines file from rows, or from lines as they stand."""

    def writer(*rows: dict[str, Any] | str, name: str = "problems.jsonl") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return writer


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in PROBLEM.items() if name != key}


def test_math500_from_file(write: Write) -> None:
    path = write(PROBLEM, {**PROBLEM, "unique_id": "a/2", "level": None})
    docs = documents.load_math500(math_file=str(path), pretrained="anything", budget=8)["test"]
    assert docs[0] == PROBLEM
    assert [doc["level"] for doc in docs] == [1, None]
    assert docs.features == documents.FEATURES


def test_original_math_schema(write: Write) -> None:
    row = {"problem": "p", "solution": "so $\\boxed{\\frac{1}{2}}$.", "type": "Geometry", "level": "Level 4"}
    path = write(row, {**row, "level": "Level ?"}, name="test.jsonl")
    docs = documents.load_math500(math_file=path)["test"]
    assert docs[0] == {
        "problem": row["problem"],
        "solution": row["solution"],
        "answer": "\\frac{1}{2}",
        "subject": "Geometry",
        "level": 4,
        "unique_id": "test/0",
    }
    assert docs[1]["level"] is None


def test_subject_filter(write: Write) -> None:
    other = {**PROBLEM, "subject": "Counting & Probability", "unique_id": "c/1"}
    path = write(PROBLEM, other)
    docs = documents.load_math_subject(math_subject="counting_and_probability", math_file=path)["test"]
    assert docs["unique_id"] == ["c/1"]
    with pytest.raises(TtsEvalError, match="no problem has the subject 'Geometry'; its subjects are Algebra, Counting"):
        documents.load_math_subject(math_subject="geometry", math_file=path)


def test_gsm8k_from_file(write: Write) -> None:
    path = write({"question": "How many?", "answer": "One and\nall.\n#### 1,234"}, name="test.jsonl")
    doc = documents.load_gsm8k(gsm8k_file=path)["test"][0]
    assert doc == {
        "problem": "How many?",
        "solution": "One and\nall.",
        "answer": "1234",
        "subject": "Grade School Math",
        "level": None,
        "unique_id": "gsm8k/test/0",
    }


def test_relative_path_is_taken_from_the_current_directory(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(PROBLEM).parent)
    assert len(documents.load_math500(math_file="problems.jsonl")["test"]) == 1


def test_name_that_lm_eval_reads_as_a_number(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(PROBLEM, name="7").parent)
    assert len(documents.load_math500(math_file=7)["test"]) == 1


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("{", r"problems.jsonl:2: not JSON \(Expecting property name enclosed in double quotes: column 2"),
        ("[1, 2]", r"problems.jsonl:2: should be a JSON object, not \[1, 2\]"),
        ("{}", "problems.jsonl:2: no 'solution'; the line has nothing"),
        (
            without("problem"),
            "problems.jsonl:2: no 'problem'; the line has solution, answer, subject, level, unique_id",
        ),
        (without("solution"), "problems.jsonl:2: no 'solution'"),
        (without("subject"), "problems.jsonl:2: no 'subject'"),
        ({**PROBLEM, "problem": 3}, "problems.jsonl:2: 'problem' should be text, not 3"),
        ({**PROBLEM, "answer": None}, "problems.jsonl:2: 'answer' should be text, not null"),
        ({**PROBLEM, "answer": " "}, "problems.jsonl:2: 'answer' is empty; delete the line, or write the answer"),
        ({**PROBLEM, "level": "hard"}, "problems.jsonl:2: 'level' should be a number or null, not \"hard\""),
        ({**PROBLEM, "level": True}, "problems.jsonl:2: 'level' should be a number or null, not true"),
        (
            {**without("answer"), "solution": "5"},
            r"problems.jsonl:2: no 'answer', and the 'solution' has no \\boxed\{\}",
        ),
        (PROBLEM, "problems.jsonl:2: unique_id 'a/1' is that of .*problems.jsonl:1 already"),
    ],
)
def test_broken_math_line(write: Write, broken: dict[str, Any] | str, message: str) -> None:
    with pytest.raises(TtsEvalError, match=message) as caught:
        documents.load_math500(math_file=write(PROBLEM, broken, {**PROBLEM, "unique_id": "a/3"}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"question": "q"}, "problems.jsonl:1: no 'answer'; the line has question"),
        ({"question": "q", "answer": "12"}, "problems.jsonl:1: 'answer' should end with a line '#### <final answer>'"),
        ({"question": "q", "answer": "12 ####  "}, "problems.jsonl:1: 'answer' should end with"),
        ({"question": ["q"], "answer": "#### 1"}, r"problems.jsonl:1: 'question' should be text, not \[\"q\"\]"),
    ],
)
def test_broken_gsm8k_line(write: Write, broken: dict[str, Any], message: str) -> None:
    with pytest.raises(TtsEvalError, match=message):
        documents.load_gsm8k(gsm8k_file=write(broken))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"problem": "caf\xe9"}\n')
    with pytest.raises(TtsEvalError, match=r"latin.jsonl:1: not JSON"):
        documents.load_math500(math_file=path)


def test_line_separator_inside_a_string_is_no_new_line(write: Write) -> None:
    row = json.dumps({**PROBLEM, "problem": "one\u2028two\x85three"}, ensure_ascii=False)
    assert documents.load_math500(math_file=write(row))["test"][0]["problem"] == "one\u2028two\x85three"


def test_files_that_cannot_be_read(write: Write, tmp_path: Path) -> None:
    with pytest.raises(TtsEvalError, match=r"absent.jsonl: No such file or directory; name a JSON-lines file"):
        documents.load_math500(math_file=tmp_path / "absent.jsonl")
    with pytest.raises(TtsEvalError, match=r"Is a directory; name a JSON-lines file"):
        documents.load_math500(math_file=tmp_path)
    with pytest.raises(TtsEvalError, match=r"problems.jsonl: the file is empty"):
        documents.load_math500(math_file=write("", "  "))


def test_blank_lines_are_skipped(write: Write) -> None:
    docs = documents.load_math500(math_file=write("", PROBLEM, "", {**PROBLEM, "unique_id": "a/2"}, ""))["test"]
    assert docs["unique_id"] == ["a/1", "a/2"]


def test_hub_out_of_reach_names_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach 'openai/gsm8k'\non the Hub")

    monkeypatch.setattr(documents, "load_dataset", refuse)
    with pytest.raises(documents.DataUnavailable, match=r"can't load openai/gsm8k .*gsm8k_file=FILE") as caught:
        documents.load_gsm8k()
    assert "\n" not in str(caught.value)
    with pytest.raises(documents.DataUnavailable, match="--metadata math_file=FILE"):
        documents.load_math500()


def test_hub_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of `EleutherAI/hendrycks_math` as the hub has them."""
    row = {"problem": "p", "level": "Level 3", "type": "Number Theory", "solution": "$\\boxed{1}$ and $\\boxed{2}$"}
    asked = []

    def load_dataset(*arguments: Any, **options: Any) -> datasets.Dataset:
        asked.append((arguments, options))
        return datasets.Dataset.from_list([row, row])

    monkeypatch.setattr(documents, "load_dataset", load_dataset)
    docs = documents.load_math_subject(math_subject="number_theory")["test"]
    assert asked == [(("EleutherAI/hendrycks_math", "number_theory"), {"split": "test"})]
    assert docs["unique_id"] == ["math/test/number_theory/0", "math/test/number_theory/1"]
    assert {key: docs[0][key] for key in ("answer", "subject", "level")} == {
        "answer": "2",
        "subject": "Number Theory",
        "level": 3,
    }


def test_demo_problems() -> None:
    docs = documents.load_demo()["test"]
    assert len(docs) == 12
    assert set(docs["level"]) == {1, 2, 3, 4, 5}
    assert len(set(docs["subject"])) >= 4
    assert all("\\boxed{" + doc["answer"] + "}" in doc["solution"].splitlines()[-1] for doc in docs)


def test_published_files(shared_data: Path) -> None:
    math500 = shared_data / "math" / "math500_test.jsonl"
    assert len(documents.load_math500(math_file=math500)["test"]) == 500
    parts = [documents.load_math_subject(math_subject=key, math_file=math500)["test"] for key in documents.SUBJECTS]
    assert sum(map(len, parts)) == 500
    gsm8k = documents.load_gsm8k(gsm8k_file=shared_data / "gsm8k" / "test.jsonl")["test"]
    assert len(gsm8k) == 1319
    assert not [answer for answer in gsm8k["answer"] if "," in answer]
