"""`tts-eval select` from the command line: what it prints, and what it says when it can't."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from journals import write

from tts_eval.cli import main
from tts_eval.journal import Record
from tts_eval.types import Candidate, Usage


KEYS = ["task", "strategy", "budget", "aggregation", "selection", "accuracy", "low", "high", "n", "level"]

Run = Callable[..., tuple[int, str, str]]


def record(uid: str, answers: str, scores: list[float] | None, **changes: object) -> Record:
    candidates = tuple(
        Candidate(a, a, (a,), None if scores is None else (scores[i],), None, None, 1, "eos", i, 0)
        for i, a in enumerate(answers)
    )
    whole = Record(uid, "toy", {"name": "best_of_n"}, len(answers), 0, candidates, Usage(), gold="1")
    return replace(whole, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scored = [record("a", "1122", [0.9, 0.1, 0.6, 0.6]), record("b", "2111", [0.8, 0.1, 0.2, 0.3])]
    write(tmp_path / "candidates_toy_2026-01-01T00-00-00.jsonl", *scored)
    return tmp_path


@pytest.fixture
def run(tts_eval_command: Run) -> Run:
    return partial(tts_eval_command, "select")


def test_json(folder: Path, run: Run) -> None:
    status, out, err = run(folder, "--format", "json")
    rows = json.loads(out)
    assert (status, err) == (0, "")
    assert all(list(row) == KEYS for row in rows)
    assert {row["budget"] for row in rows} == {1, 2, 4} and len(rows) == 15
    whole = {row["selection"]: row["accuracy"] for row in rows if row["budget"] == 4}
    # Problem a: the votes tie, best_of_n is right, the weighted vote (1.0 against 1.2) wrong; b: right, wrong, wrong.
    assert whole == {"mean": 0.625, "majority": 0.75, "best_of_n": 0.5, "best_of_n_weighted": 0.0, "coverage": 1.0}
    assert {row["selection"]: row["aggregation"] for row in rows} == {
        "mean": None,
        "majority": None,
        "best_of_n": "last",
        "best_of_n_weighted": "last",
        "coverage": None,
    }


def test_csv_has_the_same_rows(folder: Path, run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(run(folder, "--format", "csv")[1])))
    expected = json.loads(run(folder, "--format", "json")[1])
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in expected] == rows


def test_markdown(folder: Path, run: Run) -> None:
    out = run(folder, "--selection", "best_of_n", "--selection", "mean", "--aggregation", "min", "--budgets", "4,1")[1]
    assert out == (
        "### toy, best_of_n\n\n"
        "| budget   | problems   | mean              | best_of_n (min)   |\n"
        "|----------|------------|-------------------|-------------------|\n"
        "| 1        | 2          | 62.5 [14.2, 94.4] | 62.5 [14.2, 94.4] |\n"
        "| 4        | 2          | 62.5 [14.2, 94.4] | 50.0 [9.5, 90.5]  |\n\n"
        "Accuracy in percent [95 % Wilson interval over the problems].\n"
    )


def test_output_file(folder: Path, tmp_path: Path, run: Run) -> None:
    target = tmp_path / "table.md"
    assert run(folder, "--output", target) == (0, "", "")
    assert target.read_text() == run(folder)[1]
    status, _, err = run(folder, "--output", tmp_path / "nowhere" / "table.md")
    assert status == 1 and "No such file or directory; choose a file that can be written" in err


def test_mixed_folder_gives_a_table_each(folder: Path, run: Run) -> None:
    write(folder / "sub" / "candidates_other_1.jsonl", record("a", "12", None, task="other"))
    beam = {"name": "beam", "width": 4}
    write(folder / "sub" / "candidates_toy_2.jsonl", record("a", "12", [0.5, 0.6], strategy=beam, budget=16))
    status, out, err = run(folder)
    assert status == 0
    assert [line for line in out.splitlines() if line.startswith("###")] == [
        "### other, best_of_n",
        "### toy, beam",
        "### toy, best_of_n",
    ]
    assert "| 16       | 1 " in out
    assert err == (
        "tts-eval select: other, best_of_n: no best_of_n or best_of_n_weighted, "
        "some candidates have no verifier score\n"
    )


def test_unequal_pools_stop_at_the_smallest(folder: Path, run: Run) -> None:
    path = write(folder / "j.jsonl", record("a", "1122", None), record("b", "12", None, budget=4))
    status, out, err = run(path, "--format", "json", "--selection", "mean", "--budgets", "1,2,4")
    assert status == 0 and {row["budget"] for row in json.loads(out)} == {1, 2}
    assert "budgets above 2 are left out, some problems have no more candidates" in err
    assert "no budget 4, only 1, 2" in err


def test_gold_from_samples(tmp_path: Path, run: Run) -> None:
    write(
        tmp_path / "candidates_toy_2026-01-01T00-00-00.jsonl",
        record("p/1", "12", None, gold=None),
        record("p/2", "12", None, gold=None),
    )
    status, _, err = run(tmp_path)
    assert status == 1
    assert "no gold answer for any problem of toy" in err and "--log_samples" in err and "`gold`" in err
    sample = {"doc": {"unique_id": "p/1"}, "target": "\\frac{2}{2}", "prompt_hash": "0" * 64}
    (tmp_path / "samples_toy_2026-01-01T00-00-09.123456.jsonl").write_text(json.dumps(sample) + "\n")
    status, out, err = run(tmp_path, "--format", "json", "--selection", "mean")
    assert status == 0 and [(row["accuracy"], row["n"]) for row in json.loads(out)] == [(0.5, 1), (0.5, 1)]
    assert err == "tts-eval select: toy: 1 problems without a gold answer are left out\n"


def test_nothing_to_show(folder: Path, run: Run) -> None:
    path = write(folder / "unscored.jsonl", record("a", "12", None))
    status, out, err = run(path, "--selection", "best_of_n")
    assert (status, out) == (1, "") and "no best_of_n, some candidates have no verifier score" in err
    status, out, err = run(path, "--budgets", "8")
    assert (status, out) == (1, "") and "no budget 8, only 1, 2" in err


def test_no_journal(tmp_path: Path, run: Run) -> None:
    status, _, err = run(tmp_path)
    assert status == 1 and f"no journal (candidates_*.jsonl) in {tmp_path}; run lm_eval" in err
    status, _, err = run(tmp_path / "nowhere")
    assert status == 1 and "no such file or folder" in err


def test_broken_journal(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "candidates_toy_1.jsonl"
    path.write_text('{"schema": 1}\n')
    status, _, err = run(tmp_path)
    assert status == 1 and f"{path}:1: uid is missing; mend or delete the line" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("budgets", ["0", "two", "1,,2", "-4", ""])
def test_bad_budgets(folder: Path, budgets: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["select", str(folder), f"--budgets={budgets}"])
    assert stop.value.code == 2
    assert "is not a whole number above 0" in capsys.readouterr().err


@pytest.fixture
def levelled(folder: Path) -> Path:
    """Two problems of different levels: at N=4 the verifier's best is right on both, the majority on one."""
    problems = record("a", "1122", [0.9, 0.1, 0.6, 0.1], level=1), record("b", "2111", [0.1, 0.9, 0.2, 0.3], level=2)
    return write(folder / "sub" / "candidates_levelled_1.jsonl", *problems)


def test_by_level(levelled: Path, tmp_path: Path, run: Run) -> None:
    status, out, _ = run(levelled, "--by", "level", "--budgets", "4", "--selection", "majority", "--format", "json")
    assert status == 0
    rows = [(row["level"], row["accuracy"], row["n"]) for row in json.loads(out)]
    assert rows == [(1, 0.5, 1), (2, 1.0, 1)]
    figure = tmp_path / "levels.png"
    status, out, _ = run(levelled, "--by", "level", "--figure", figure)
    assert status == 0 and out.count("| level ") == 1 and figure.read_bytes().startswith(b"\x89PNG")


def test_against_another_rule(levelled: Path, run: Run) -> None:
    arguments = (levelled, "--against", "majority", "--selection", "best_of_n", "--budgets", "4")
    status, out, _ = run(*arguments, "--format", "json")
    (row,) = json.loads(out)
    assert status == 0 and (row["selection"], row["against"], row["difference"]) == ("best_of_n", "majority", 0.25)
    assert (row["low"], row["high"], row["n"], row["level"]) == (None, None, 2, None)  # two problems tell nothing
    status, out, _ = run(*arguments)
    assert "| best_of_n (last) - majority " in out and "| +25.0 " in out and "paired bootstrap" in out
    assert "Differences of 70.0 points would show in four of five cases." in out
    status, out, _ = run(*arguments, "--by", "level", "--format", "json")
    assert [(row["level"], row["difference"]) for row in json.loads(out)] == [(1, 0.5), (2, 0.0)]
    status, out, err = run(levelled, "--against", "majority", "--selection", "majority")
    assert (status, out) == (1, "") and "nothing else is compared with majority" in err
