"""`tts-eval diagnose` from the command line: its table, its CSV, and what it says when it can't."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from journals import write

from tts_eval.journal import Record
from tts_eval.types import Candidate, Usage


HEADER = [
    *("budget", "problems", "steps", "tokens", "repeated steps", "1-2 steps"),
    *("score right", "score wrong", "AUROC within", "accuracy", "coverage", "gap"),
]

Run = Callable[..., tuple[int, str, str]]


def record(uid: str, answers: str, scores: list[float] | None, level: int, budget: int, name: str = "beam") -> Record:
    candidates = tuple(
        Candidate(a, a, ("p", "p", a), None if scores is None else (0.5, 0.5, scores[i]), None, None, 6, "eos", i, 0)
        for i, a in enumerate(answers)
    )
    return Record(uid, "toy", {"name": name}, budget, 0, candidates, Usage(), gold="1", level=level)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for budget, scores in ((2, [0.9, 0.1]), (4, [0.2, 0.3, 0.9, 0.9])):
        answers = "12" * (budget // 2)
        problems = record("a", answers, scores, 1, budget), record("b", "2" * budget, scores, 2, budget)
        write(tmp_path / f"candidates_toy_{budget}.jsonl", *problems)
    return tmp_path


@pytest.fixture
def run(tts_eval_command: Run) -> Run:
    return partial(tts_eval_command, "diagnose")


def cells(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("| ")]


def test_table(folder: Path, run: Run) -> None:
    status, out, err = run(folder)
    assert (status, err) == (0, "") and out.startswith("### toy, beam\n")
    assert cells(out) == [
        HEADER,
        ["2", "2", "3.0", "6.0", "33.3", "0.0", "0.900", "0.367", "100.0", "50.0", "50.0", "0.0"],
        ["4", "2", "3.0", "6.0", "33.3", "0.0", "0.550", "0.583", "37.5", "0.0", "50.0", "50.0"],
    ]


def test_levels_show_what_falls_with_the_budget(folder: Path, run: Run) -> None:
    status, out, _ = run(folder, "--by", "level", "--selection", "best_of_n", "--aggregation", "min")
    shown = [(row[0], row[1], row[-3], row[-2]) for row in cells(out)[1:]]
    assert status == 0 and shown == [
        ("1", "2", "100.0", "100.0"),
        ("1", "4", "50.0", "100.0"),
        ("2", "2", "0.0", "0.0"),
        ("2", "4", "0.0", "0.0"),
    ]


def test_csv(folder: Path, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "table.csv"
    assert run(folder, "--by", "level", "--csv", path)[0] == 0
    rows = list(csv.DictReader(path.open()))
    assert [(row["budget"], row["level"], row["solutions"], row["gap"]) for row in rows] == [
        ("2", "1", "2", "0.0"),
        ("2", "2", "2", "0.0"),
        ("4", "1", "4", "1.0"),
        ("4", "2", "4", "0.0"),
    ]
    assert rows[1]["score_right"] == rows[1]["auroc"] == ""
    assert "choose a file that can be written" in run(folder, "--csv", tmp_path / "no" / "t.csv")[2]


def test_what_has_no_scores(tmp_path: Path, run: Run) -> None:
    path = write(tmp_path / "j.jsonl", record("a", "12", None, 1, 2, name="best-of-n"))
    status, out, err = run(path)
    assert (status, err) == (0, "") and [row[0] for row in cells(out)] == ["budget", "1", "2"]
    status, out, err = run(path, "--selection", "best_of_n")
    assert (status, out) == (1, "") and "some candidates have no verifier score" in err
    assert err.endswith("nothing to show; ask for --selection majority\n")
