"""`tts-eval import`: what the journal holds afterwards, and what is refused, line by line, with nothing left behind."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.cli import main
from tts_eval.importing import FORMATS, Reading, read_problems
from tts_eval.journal import Record, read_journal
from tts_eval.types import TtsEvalError


Run = Callable[..., tuple[int, str, str]]

TEXTS = ["2*3=6\n\nThe answer is \\boxed{6}.", "2*3=5\n\n\\boxed{5}"]
SCORES = [[0.5, 0.75], [0.25, 0.125]]
PROBLEM = {"uid": "p/1", "gold": "6", "level": 3, "text": TEXTS, "scores": SCORES, "tokens": [9, 7]}
ONE_EACH = [
    {**PROBLEM, "text": text, "scores": scores, "tokens": tokens}
    for text, scores, tokens in zip(TEXTS, SCORES, (9, 7), strict=True)
]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "candidates_toy.jsonl"


@pytest.fixture
def run(tts_eval_command: Run, tmp_path: Path, output: Path) -> Run:
    """Imports a file of the given content as the task `toy`."""

    def call(content: str | bytes, *arguments: object) -> tuple[int, str, str]:
        path = tmp_path / "source"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tts_eval_command("import", path, "--task", "toy", "--output", output, *arguments)

    return call


@pytest.fixture
def imported(run: Run, output: Path) -> Callable[..., list[Record]]:
    """Imports likewise and returns what the journal then holds."""

    def call(content: str | bytes, *arguments: object) -> list[Record]:
        output.unlink(missing_ok=True)
        status, _, err = run(content, *arguments)
        assert status == 0, err
        return read_journal(output)[1]

    return call


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(*rows: dict[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def test_what_the_journal_holds(run: Run, output: Path) -> None:
    status, out, err = run(lines(PROBLEM), "--model", "llama", "--verifier", "prm", "--seed", "3")
    assert (status, err) == (0, "")
    assert "(jsonl): 1 problems, 1 with a gold answer\n2 candidates: 2 with an answer, 2 with step scores" in out
    header, (record,) = read_journal(output)
    assert header is not None and (header.run["model"], header.run["verifier"]) == ("llama", "prm")
    assert header.run["imported"]["file"] == "source" and header.run["imported"]["format"] == "jsonl"
    assert (record.uid, record.task, record.gold, record.level, record.seed) == ("p/1", "toy", "6", 3, 3)
    assert (record.budget, record.strategy) == (2, {"name": "best-of-n"})
    usage = record.usage
    assert (usage.generations, usage.decode_tokens, usage.prefill_tokens, usage.seconds) == (2, 16, None, None)
    first, second = record.candidates
    assert (first.text, first.answer, first.steps) == (TEXTS[0], "6", ("2*3=6\n\n", "The answer is \\boxed{6}."))
    assert (first.step_scores, first.outcome_score, first.tokens) == ((0.5, 0.75), None, 9)
    assert (first.chain, second.chain, second.attempt, second.answer) == (0, 1, 0, "5")
    assert [path.name for path in output.parent.iterdir()] == ["candidates_toy.jsonl"]


@pytest.mark.parametrize(
    "content",
    [
        lines(*ONE_EACH),
        table(*ONE_EACH),
        "\ufeff" + table(*ONE_EACH).replace("\r\n", "\n") + "\n\n",
    ],
    ids=["a JSON line a candidate", "CSV", "CSV with a byte order mark and blank lines"],
)
def test_the_same_in_other_words(content: str, imported: Callable[..., list[Record]]) -> None:
    assert imported(content) == imported(lines(PROBLEM))


def test_search_and_learn(imported: Callable[..., list[Record]]) -> None:
    row = {
        "unique_id": "p/1",
        "answer": "6",
        "level": 3,
        "completions": TEXTS,
        "scores": SCORES,
        "completion_tokens": [9, 7],
        "pred": TEXTS[0],
    }
    assert imported(lines(row)) == imported(lines(PROBLEM))


def test_openr(imported: Callable[..., list[Record]]) -> None:
    outputs = [
        {"path_idx": i, "text": TEXTS[i], "value": SCORES[i], "completion_tokens": 16 * i} for i in range(len(TEXTS))
    ]
    row = {"question": "p/1", "groundtruth": "It is $2*3=\\boxed{6}$.", "result": {}, "output": outputs}
    expected = imported(lines({**PROBLEM, "level": None, "tokens": None}))
    assert imported(lines(row)) == expected


def test_openprm(imported: Callable[..., list[Record]]) -> None:
    row = {
        "unique_id": "p/1",
        "answer": "6",
        "level": 3,
        "diverse_response": str(np.array(TEXTS, dtype=object)),
        "diverse_last_rewards": str(np.array([0.75, 1e-5])),
    }
    expected = imported(lines({**PROBLEM, "scores": [0.75, 1e-5], "tokens": None}))
    assert imported(table(row)) == expected
    assert [candidate.outcome_score for candidate in expected[0].candidates] == [0.75, 1e-5]


@given(st.lists(st.text(), min_size=1), st.booleans())
def test_printed_lists_are_read_back(texts: list[str], by_numpy: bool) -> None:
    known = FORMATS["openprm"]
    with np.printoptions(threshold=sys.maxsize):
        cell = str(np.array(texts, dtype=object)) if by_numpy else str(texts)
    values = {known.columns.text: cell, known.columns.scores: "[0.5]"}
    assert known.unpack(values, known.columns)[known.columns.text] == texts


def test_what_numpy_cut_short_is_refused(run: Run, output: Path) -> None:
    texts = str(np.array(["a"] * 2000, dtype=object))
    row = {"unique_id": "p/1", "answer": "6", "diverse_response": texts, "diverse_last_rewards": "[0.5 0.5]"}
    status, _, err = run(table(row))
    assert status == 1 and "source:2: diverse_response is no list of quoted strings as numpy prints it" in err
    status, _, err = run(table({**row, "diverse_response": "['a']", "diverse_last_rewards": "[0.5 ... 0.5]"}))
    assert status == 1 and "source:2: diverse_last_rewards is no list of numbers" in err
    assert not output.exists()


def test_columns_by_name(imported: Callable[..., list[Record]], run: Run, output: Path) -> None:
    row = {"id": 17, "samples": TEXTS, "rewards": [0.5, 0.25], "target": 6, "difficulty": "hard"}
    named = ("--uid", "id", "--text", "samples", "--scores", "rewards", "--gold", "target", "--level", "difficulty")
    (record,) = imported(lines(row), *named)
    assert (record.uid, record.gold, record.level) == ("17", "6", "hard")
    assert [candidate.outcome_score for candidate in record.candidates] == [0.5, 0.25]
    output.unlink()
    status, _, err = run(lines(row))
    assert status == 1 and "source:1: no column 'uid' for the uid, only id, samples, rewards, target" in err
    assert "name the right one with --uid" in err
    status, _, err = run(lines(row), *named, "--tokens", "length")
    assert status == 1 and "no column 'length' for the tokens" in err


def test_what_is_not_there_stays_unknown(run: Run, output: Path) -> None:
    status, _, err = run(table({"uid": "p/1", "text": "six", "gold": "", "scores": ""}))
    assert status == 0 and err == "tts-eval import: 1 problems have no gold answer; name its column with --gold\n"
    (record,) = read_journal(output)[1]
    (candidate,) = record.candidates
    assert (record.gold, record.level, candidate.answer, candidate.tokens) == (None, None, None, None)
    assert (candidate.step_scores, candidate.outcome_score, record.usage.decode_tokens) == (None, None, None)


def test_answers_are_those_of_a_run(imported: Callable[..., list[Record]]) -> None:
    row = {**PROBLEM, "text": ["The answer is 6.", "6, or 7"], "scores": None}
    found = {
        fallback: [one.answer for one in imported(lines(row), *arguments)[0].candidates]
        for fallback, *arguments in [
            ("none",),
            ("answer_is", "--answer_fallback", "answer_is"),
            ("last_number", "--answer_fallback", "last_number"),
        ]
    }
    assert found == {"none": [None, None], "answer_is": ["6", None], "last_number": ["6", "7"]}


def test_scores_that_fit_no_steps(imported: Callable[..., list[Record]], run: Run, output: Path) -> None:
    row = {**PROBLEM, "text": ["a\nb\n\n\\boxed{6}"], "tokens": None, "scores": [[0.5, 0.25, 0.75]]}
    status, _, err = run(lines(row))
    assert status == 1 and not output.exists()
    assert "source:1: text[0] has 3 step scores but 2 steps; name what separates steps with --step_delimiter" in err
    (candidate,) = imported(lines(row), "--step_delimiter", "\\n")[0].candidates
    assert (candidate.steps, candidate.step_scores) == (("a\n", "b\n\n", "\\boxed{6}"), (0.5, 0.25, 0.75))
    (candidate,) = imported(lines(row), "--aggregation", "min")[0].candidates
    assert (candidate.steps, candidate.step_scores) == (("a\nb\n\n", "\\boxed{6}"), None)
    assert candidate.outcome_score == 0.25
    output.unlink()
    huge = {**row, "scores": [[1e200, 1e200, 0.5]]}
    status, _, err = run(lines(huge), "--aggregation", "prod")
    assert status == 1 and "source:1: prod of the scores of text[0] must be a finite number, not Infinity" in err
    status, _, err = run(lines(row), "--step_delimiter", "")
    assert status == 1 and "--step_delimiter is empty" in err


@given(text=st.text("a\n", max_size=20))
def test_steps_join_to_the_text_and_have_a_score_each(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whether a PRM saw a step after every delimiter, as search-and-learn's do, or only where there is something."""
    pieces = text.split("\n\n")
    filled = sum(bool(piece.strip()) for piece in pieces) if text.strip() else len(text) > 0
    source = tmp_path_factory.getbasetemp() / "steps.jsonl"
    for count in (len(pieces), int(filled)):
        source.write_text(lines({"uid": "p/1", "text": [text], "scores": [[0.5] * count]}))
        (problem,) = read_problems(source, Reading(FORMATS["jsonl"], FORMATS["jsonl"].columns))
        (candidate,) = problem.candidates
        assert "".join(candidate.steps) == text
        assert len(candidate.steps) == len(candidate.step_scores or ()) == count


GOOD = lines(PROBLEM)
SECOND = {**PROBLEM, "uid": "p/2"}
FEWER = {**SECOND, "text": TEXTS[:1], "scores": SCORES[:1], "tokens": [9]}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (lines(SECOND)[:-20], "not JSON: "),
        ("[1]\n", "not a JSON object; mend or delete the line"),
        ("[" * 100_000 + "\n", "not JSON: "),
        (lines({**SECOND, "scores": [[float("nan"), 0.5], 0.5]}), "scores[0][0] must be a finite number, not NaN"),
        (lines({**SECOND, "scores": [0.5, float("-inf")]}), "scores[1] must be a finite number, not -Infinity"),
        (lines({**SECOND, "scores": [0.5, 10**400]}), "scores[1] must be a finite number, not 1000"),
        (lines({**SECOND, "scores": [0.5, "0.5"]}), 'scores[1] must be a finite number, not "0.5"'),
        (lines({**SECOND, "scores": [0.5, True]}), "scores[1] must be a finite number, not true"),
        (lines({**SECOND, "scores": [0.5]}), "scores has 1 entries for 2 candidates"),
        (lines({**SECOND, "tokens": [9, 10**30]}), "tokens[1] is no length: 1000"),
        (lines({**SECOND, "tokens": [-1, 9]}), "tokens[0] is no length: -1"),
        (lines({**SECOND, "tokens": [9.5, 9]}), "tokens[0] must be an integer, not 9.5"),
        (lines({**SECOND, "text": ["a", None]}), "text[1] must be a string, not null"),
        (lines({**SECOND, "text": []}), "text is empty"),
        (lines({**SECOND, "uid": None}), "uid is empty"),
        (lines({**SECOND, "gold": ["6"]}), 'gold must be a string or a finite number, not ["6"]'),
        (lines({**SECOND, "level": float("nan")}), "level must be a string or a finite number, not NaN"),
        (lines({"uid": "p/2"}), "no column 'text' for the text, only uid; name the right one with --text"),
        (GOOD, "problem 'p/1' is already at "),
        (lines(FEWER), "has 1 candidates where 2 are the budget"),
        (b'{"uid": "\xff"}\n', "not JSON: "),
    ],
)
def test_a_malformed_line_is_named_and_nothing_is_left(line: str | bytes, said: str, run: Run, output: Path) -> None:
    status, out, err = run(GOOD.encode() + (line if isinstance(line, bytes) else line.encode()))
    assert (status, out) == (1, "") and err.count("\n") == 1
    assert "source:2: " in err and said in err
    assert not output.parent.exists() or list(output.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ('p/2,"never closed\n\n', "source:4: not CSV: unexpected end of data"),
        ("p/2,a,b,c\n", "source:4: 4 cells under a header of 3"),
        ("p/2,a\n", "source:4: 2 cells under a header of 3"),
        ("p/2,a,nan\n", 'source:4: scores must be a finite number, not "nan"'),
        ("p/2,a,1e999\n", "source:4: scores must be a finite number, not Infinity"),
        ("p/2,a,[0.5; 0.6]\n", "source:4: scores must be a finite number"),
        (b"p/2,\xff,0.5\n", "source:4: not CSV: 'utf-8' codec can't decode"),
        ("p/2,a,0.5\np/1,b,0.5\n", "source:5: problem 'p/1' is already at "),
    ],
)
def test_a_malformed_row_is_named_by_its_first_line(cells: str | bytes, said: str, run: Run, output: Path) -> None:
    good = b'uid,text,scores\np/1,"two\nlines",0.5\n'
    status, _, err = run(good + (cells if isinstance(cells, bytes) else cells.encode()))
    assert status == 1 and err.count("\n") == 1 and said in err
    assert not output.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "source: is empty"),
        ("uid,text\n", "source: holds no row under its header"),
        ("[{}]", "source: is one JSON list; write one object a line"),
        (lines({"schema": 1, "run": {}}), "source: is a journal already"),
        ("uid,text,text\n1,a,b\n", "source:1: two columns have the same name"),
    ],
)
def test_files_that_are_nothing_to_import(content: str, said: str, run: Run) -> None:
    status, _, err = run(content)
    assert status == 1 and said in err


def test_rows_of_one_problem_agree(run: Run) -> None:
    for changed in ({"gold": "7"}, {"level": 4}):
        status, _, err = run(lines(ONE_EACH[0], {**ONE_EACH[1], **changed}))
        assert status == 1 and "source:2: another gold answer or level than at " in err


def test_fewer_candidates_than_the_budget(imported: Callable[..., list[Record]]) -> None:
    fewer, full = imported(lines(FEWER, PROBLEM), "--budget", "2")
    assert (fewer.budget, len(fewer.candidates), fewer.usage.generations) == (2, 1, 1)
    assert (full.budget, len(full.candidates), full.usage.generations) == (2, 2, 2)


def test_a_journal_is_never_overwritten(run: Run, output: Path) -> None:
    assert run(GOOD)[0] == 0
    before = output.read_bytes()
    status, _, err = run(lines(SECOND))
    assert status == 1 and f"{output}: is already there; name another --output" in err
    assert output.read_bytes() == before


def test_an_output_that_can_t_be_written(tts_eval_command: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text(GOOD)
    status, _, err = tts_eval_command("import", source, "--task", "toy", "--output", source / "journal.jsonl")
    assert status == 1 and "choose an --output that can be written" in err
    status, _, err = tts_eval_command("import", tmp_path / "nowhere", "--task", "toy", "--output", tmp_path / "j.jsonl")
    assert status == 1 and "nowhere: No such file or directory; check the path" in err


def test_problems_come_one_at_a_time(tmp_path: Path) -> None:
    """A file isn't read as a whole: a problem is there before what comes after the next line is looked at."""
    source = tmp_path / "source"
    source.write_text(lines(PROBLEM, SECOND) + "torn")
    problems = read_problems(source, Reading(FORMATS["jsonl"], FORMATS["jsonl"].columns))
    assert next(problems).uid == "p/1"
    with pytest.raises(TtsEvalError, match="source:3: not JSON"):
        next(problems)


def test_select_measures_what_was_imported(run: Run, output: Path, tts_eval_command: Run) -> None:
    assert run(lines(PROBLEM, {**SECOND, "gold": "5"}))[0] == 0
    status, out, _ = tts_eval_command("select", output.parent, "--format", "json", "--budgets", "2")
    assert status == 0
    assert {row["selection"]: row["accuracy"] for row in json.loads(out)} == {
        "mean": 0.5,
        "majority": 0.5,
        "best_of_n": 0.5,
        "best_of_n_weighted": 0.5,
        "coverage": 1.0,
    }


def test_a_joint_search_is_measured_at_its_own_budget(
    imported: Callable[..., list[Record]], output: Path, tts_eval_command: Run
) -> None:
    (record,) = imported(GOOD, "--strategy", "beam,width=2,temperature=0.8", "--budget", "4")
    assert record.strategy == {"name": "beam", "width": 2, "temperature": 0.8}
    assert (record.usage.generations, record.usage.decode_tokens) == (None, None)
    status, out, _ = tts_eval_command("select", output, "--format", "json")
    assert status == 0 and {(row["strategy"], row["budget"]) for row in json.loads(out)} == {("beam", 4)}


def test_an_unknown_strategy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["import", "source", "--task", "toy", "--output", "journal.jsonl", "--strategy", "mcts"])
    assert stop.value.code == 2
    assert "'mcts' is none of best-of-n, beam, lookahead, dvts, rebase" in capsys.readouterr().err
