"""Readers of labelled steps, and the split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import makers
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.training.data import PROMPT, TrainingExample, read_training_data, split_by_question
from tts_eval.types import TtsEvalError


ROOT = Path(__file__).parents[2]


def example(question: str, step: str = "a") -> TrainingExample:
    return TrainingExample(question, question, (step,), (1.0,), 1.0, "f:1")


def prm800k_row() -> dict[str, Any]:
    """A good step; a bad and a good one after it, then one written by a human, then a neutral one."""

    def option(text: str, rating: int | None) -> dict[str, Any]:
        return {"text": text, "rating": rating, "flagged": False}

    steps = [
        {"completions": [option("one", 1)], "human_completion": None, "chosen_completion": 0},
        {"completions": [option("bad", -1), option("two", 1)], "human_completion": None, "chosen_completion": 1},
        {"completions": None, "human_completion": option("human", None), "chosen_completion": None},
        {"completions": [option("last", 0)], "human_completion": None, "chosen_completion": 0},
    ]
    return {"question": {"problem": "Q?", "ground_truth_answer": "1"}, "label": {"steps": steps, "total_time": 1}}


def shepherd_row() -> dict[str, str]:
    text = "Why 1 + 1 - 1? Step 1: 1 + 1 = 2. {}\nStep 2: 2 - 1 = 3. The answer is: 3 {}"
    return {"input": text.format("ки", "ки"), "label": text.format("+", "-"), "task": "GSM8K"}


def test_a_label_file(tmp_path: Path) -> None:
    rows = makers.label_rows(questions=3, samples=2)
    del rows[1]["question"]
    data = read_training_data([makers.write(tmp_path / "l.jsonl", rows)])
    assert len(data.examples) == 6 and not data.notes
    first, last = data.examples[0], data.examples[-1]
    assert (first.question, last.question) == ("0?", "2?")  # the prompt where no question is apart
    assert first.prompt == "0?\n" and list(first.steps) == rows[1]["solutions"][0]["steps"]
    assert list(last.labels) == rows[3]["solutions"][1]["labels"] and last.outcome == last.labels[-1]
    assert last.source == f"{tmp_path / 'l.jsonl'}:4"
    assert [run["step_delimiter"] for run in data.headers.values()] == ["\n"]


def test_prm800k_rows_become_paths_on_which_a_step_counts_once(tmp_path: Path) -> None:
    path = makers.write(tmp_path / "p.jsonl", [prm800k_row()])
    bad, whole = read_training_data([path], prompt="{{problem}} Go:", neutral=0.5).examples
    assert (bad.prompt, bad.question, bad.outcome) == ("Q? Go:", "Q?", None)
    assert (bad.steps, bad.labels) == ((" one", "bad"), (1.0, 0.0))
    assert (whole.steps, whole.labels) == ((" one", "two", "human", "last"), (None, 1.0, None, 0.5))


def test_a_neutral_step_is_good_by_default(tmp_path: Path) -> None:
    path = makers.write(tmp_path / "p.jsonl", [prm800k_row()])
    assert read_training_data([path]).examples[1].labels[-1] == 1.0


def test_prm800k_as_a_table_is_the_same_tree(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rows = [
        ("Q?", [], "one", 1.0),
        ("Q?", ["one"], "bad", -1.0),
        ("Q?", ["one"], "two", 1.0),
        ("Q?", ["one", "two", "human"], "last", 0.0),
        ("Q?", ["one", "two", "human"], "unrated", None),
    ]
    table = pandas.DataFrame(rows, columns=["instruction", "responses", "next_response", "rating"])
    table.to_parquet(tmp_path / "p.parquet")
    found = read_training_data([tmp_path / "p.parquet"]).examples
    expected = read_training_data([makers.write(tmp_path / "p.jsonl", [prm800k_row()])]).examples
    assert [(e.steps, e.labels) for e in found] == [(e.steps, e.labels) for e in expected]


def test_a_step_that_two_people_rated_gets_the_mean(tmp_path: Path) -> None:
    again = prm800k_row()
    again["label"]["steps"][1]["completions"][0]["rating"] = 1
    examples = read_training_data([makers.write(tmp_path / "p.jsonl", [prm800k_row(), again])]).examples
    assert [e.labels for e in examples] == [(1.0, 0.5), (None, 1.0, None, 1.0)]


def test_math_shepherd_rows(tmp_path: Path) -> None:
    (found,) = read_training_data([makers.write(tmp_path / "m.jsonl", [shepherd_row()])]).examples
    assert found.question == "Why 1 + 1 - 1?"
    assert found.steps == (" Step 1: 1 + 1 = 2.", "Step 2: 2 - 1 = 3. The answer is: 3")
    assert (found.labels, found.outcome) == ((1.0, 0.0), 0.0)


def test_the_prompt_of_published_rows_is_that_of_our_tasks() -> None:
    text = (ROOT / "tasks" / "_base_yaml").read_text().replace("!function ", "")
    assert yaml.safe_load(text)["doc_to_text"] == PROMPT


def test_published_files(shared_data: Path) -> None:
    folder = shared_data / "prm800k"
    table = read_training_data([folder / "phase1_test.stepwise-critic.parquet"])
    rows = read_training_data([folder / "samples_prm800k.jsonl"])
    assert {e.question for e in rows.examples} & {e.question for e in table.examples}
    shepherd = read_training_data([folder / "samples_math-shepherd.jsonl"])
    for data in (table, rows, shepherd):
        assert len(data.examples) > 5 and not data.notes
        for found in data.examples:
            assert len(found.steps) == len(found.labels) and found.labels[-1] is not None


def test_a_torn_last_line_is_left_out_with_a_note(tmp_path: Path) -> None:
    path = makers.write(tmp_path / "l.jsonl", makers.label_rows(questions=3, samples=2))
    path.write_bytes(path.read_bytes()[:-40])
    data = read_training_data([path])
    assert len(data.examples) == 4
    assert data.notes == [f"{path}: its last line is cut short and left out"]


def cut(row: dict[str, Any]) -> str:
    return json.dumps(row)[:60]


def more_steps(row: dict[str, Any]) -> str:
    row["solutions"][0]["steps"].append("c")
    return json.dumps(row)


def out_of_range(row: dict[str, Any]) -> str:
    row["solutions"][0]["labels"][0] = 1.5
    return json.dumps(row)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (cut, r":3: not JSON"),
        (more_steps, r":3: solutions\[0\] has 4 steps but 3 labels"),
        (out_of_range, r":3: solutions\[0\].labels must be between 0 and 1"),
    ],
)
def test_a_bad_line_of_a_label_file(tmp_path: Path, spoil: Any, message: str) -> None:
    lines = makers.write(tmp_path / "l.jsonl", makers.label_rows(questions=4)).read_text().splitlines()
    lines[2] = spoil(json.loads(lines[2]))
    (tmp_path / "l.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(TtsEvalError, match=rf"{tmp_path}/l\.jsonl{message}"):
        read_training_data([tmp_path / "l.jsonl"])


def chosen_out_of_range(chosen: int) -> dict[str, Any]:
    row = prm800k_row()
    row["label"]["steps"][0]["chosen_completion"] = chosen
    return row


def odd_rating() -> dict[str, Any]:
    row = prm800k_row()
    row["label"]["steps"][0]["completions"][0]["rating"] = 2
    return row


@pytest.mark.parametrize(
    "row, message",
    [
        ({"a": 1}, "neither a label file"),
        ([1], "neither a label file"),
        (chosen_out_of_range(3), r"label.steps\[0\].chosen_completion is not one of its 1"),
        (chosen_out_of_range(-1), r"label.steps\[0\].chosen_completion is not one of its 1"),
        (odd_rating(), "a rating must be 1, 0 or -1, not 2"),
        ({"question": {}, "label": {"steps": []}}, "question.problem is missing"),
        (shepherd_row() | {"label": shepherd_row()["input"]}, r"label isn't input with a \+ or -"),
        (shepherd_row() | {"label": "+"}, r"label isn't input with a \+ or -"),
        ({"input": "Q ки", "label": "Q +"}, "input has no Step 1:"),
        ({"input": "Q", "label": "Q"}, "input has no Step 1:"),
    ],
)
def test_a_bad_row_of_others(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(TtsEvalError, match=rf"{tmp_path}/p\.jsonl:1: {message}"):
        read_training_data([makers.write(tmp_path / "p.jsonl", [row])])


@pytest.mark.parametrize("content, message", [("", "holds no whole line"), ('{"a', "holds no whole line")])
def test_an_empty_file(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "l.jsonl").write_text(content)
    with pytest.raises(TtsEvalError, match=message):
        read_training_data([tmp_path / "l.jsonl"])


@pytest.mark.parametrize("name", ["absent.jsonl", "absent.parquet"])
def test_an_absent_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(TtsEvalError, match=f"{name}: .*; check --data"):
        read_training_data([tmp_path / name])


def test_a_table_of_something_else(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"a": [1]}).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(TtsEvalError, match=r"p\.parquet: has no column instruction"):
        read_training_data([tmp_path / "p.parquet"])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60).filter(lambda ids: len(set(ids)) > 1), st.randoms())
def test_no_question_is_on_both_sides(ids: list[int], random: Any) -> None:
    examples = [example(f"q{i}", str(n)) for n, i in enumerate(ids)]
    train, held_out = split_by_question(examples, 0.1)
    held = {e.question for e in held_out}
    assert not held & {e.question for e in train}
    assert len(held) == max(1, round(0.1 * len(set(ids)))) and len(train) + len(held_out) == len(examples)
    random.shuffle(examples)
    assert {e.question for e in split_by_question(examples, 0.1)[1]} == held


def test_a_single_question_cant_be_split() -> None:
    with pytest.raises(TtsEvalError, match="1 question"):
        split_by_question([example("q"), example("q")], 0.1)
