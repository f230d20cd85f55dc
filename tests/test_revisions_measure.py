"""`tts-eval revisions measure` from the command line: its tables, files and figures, and what it says when it can't."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from journals import write

from tts_eval.journal import Record
from tts_eval.types import Candidate, Usage


Run = Callable[..., tuple[int, str, str]]
Chains = list[list[tuple[str | None, float]]]


def record(
    uid: str, chains: Chains, scored: bool = True, level: int = 1, name: str = "revise", **more: object
) -> Record:
    """Gold is 1."""
    candidates = tuple(
        Candidate(str(answer), answer, ("s",), None, score if scored else None, None, 5, "eos", c, t)
        for c, chain in enumerate(chains)
        for t, (answer, score) in enumerate(chain)
    )
    shape = {"chains": len(chains), "length": len(chains[0])}
    strategy = {"name": name, **(shape if name == "revise" else {}), **more}
    return Record(uid, "toy", strategy, len(candidates), 0, candidates, Usage(), gold="1", level=level)


P: Chains = [[("1", 0.9), ("2", 0.2)], [("2", 0.3), ("1", 0.4)]]
Q: Chains = [[("2", 0.5), ("1", 0.6)], [(None, 0.9), ("1", 0.7)]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two problems in two chains of two, and one chain of four."""
    write(tmp_path / "runs" / "candidates_toy_1.jsonl", record("p", P), record("q", Q, level=2))
    long: Chains = [[("1", 0.5), ("1", 0.5), ("2", 0.5), ("2", 0.6)]]
    write(tmp_path / "runs" / "candidates_toy_2.jsonl", record("p", long), record("q", long, level=2))
    solved, half = [[("1", 0.5)], [("1", 0.5)]], [[("1", 0.5)], [("2", 0.5)]]
    write(tmp_path / "base.jsonl", record("q", half, name="best-of-n"), record("p", solved, name="best-of-n"))
    return tmp_path


@pytest.fixture
def run(tts_eval_command: Run) -> Run:
    return partial(tts_eval_command, "revisions", "measure")


def test_json_by_hand(folder: Path, run: Run) -> None:
    status, out, err = run(folder / "runs" / "candidates_toy_1.jsonl", "--format", "json", "--against", "last_attempt")
    found = json.loads(out, parse_constant=pytest.fail)
    assert (status, err) == (0, "")
    # p: the votes tie; both chains choose 1 by their scores; the last attempts are 2 and 1. q: nothing but 1 can win.
    four = {row["selection"]: row["accuracy"] for row in found["ratios"] if row["budget"] == 4}
    assert four == {
        **{"majority": 0.75, "best_of_n_weighted": 1, "hierarchical": 1, "last_attempt": 0.75},
        "coverage": 1,
    }
    assert {(row["length"], row["chains"]) for row in found["ratios"]} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    # p has a right first attempt in one chain of two, which the second breaks; all that was wrong is mended.
    attempts = {(row["attempt"], row["measure"]): row["value"] for row in found["attempts"]}
    assert attempts[1, "accuracy"] == 0.25 and attempts[2, "accuracy"] == 0.75 and attempts[2, "gain"] == 0.5
    assert attempts[2, "broken"] == attempts[2, "mended"] == attempts[None, "mended"] == 1
    gain = {row["selection"]: row["difference"] for row in found["differences"] if row["budget"] == 4}
    assert gain == {"majority": 0, "best_of_n_weighted": 0.25, "hierarchical": 0.25, "coverage": 0.25}
    assert found["best"] == [], "there are not both pure shapes of any budget but 2"


def test_runs_of_several_shapes_make_one_table(folder: Path, run: Run) -> None:
    write(folder / "runs" / "candidates_toy_3.jsonl", *(record(uid, [[("2", 0.5)]] * 4) for uid in "pq"))
    status, out, err = run(folder / "runs", "--budgets", "4,64", "--format", "json")
    found = json.loads(out)
    assert status == 0 and err == "tts-eval revisions measure: toy, revise: no run tells of budget 64\n"
    assert {row["strategy"] for row in found["ratios"]} == {"revise"}
    majority = {row["length"]: row["accuracy"] for row in found["ratios"] if row["selection"] == "majority"}
    assert majority == {1: 0, 2: 0.75, 4: 0.5}
    best = {row["selection"]: row for row in found["best"]}
    assert [best["majority"][key] for key in ("length", "chains", "over_sequential", "over_parallel")] == [
        *(2, 2, 0.25, 0.75)
    ]


def test_markdown(folder: Path, run: Run) -> None:
    status, out, _ = run(folder / "runs" / "candidates_toy_1.jsonl", "--budgets", "4", "--selection", "hierarchical")
    assert status == 0 and out.startswith("### toy, revise\n\nAttempts: ")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("| ")]
    assert lines[0][:8] == ["problems", "n", "attempt", "chains", "accuracy", "gain", "broken", "mended"]
    assert lines[1][:6] == ["all", "2", "1", "2", "25.0 [2.7, 80.2]", ""]
    assert lines[3][:6] == ["all", "2", "2, 3, ...", "", "75.0 [50.0, 100.0]", "+50.0 [+0.0, +100.0]"]
    assert lines[-2:] == [
        ["problems", "n", "budget", "length x chains", "hierarchical"],
        ["all", "2", "4", "2 x 2", "100.0 [34.2, 100.0]"],
    ]
    assert "No run tells of so many first attempts in parallel" in out


@pytest.mark.parametrize(
    ("option", "names"), [(("--by", "level"), [None, 1, 2]), (("--bins", "base.jsonl"), [None, "bin 2", "bin 4"])]
)
def test_parts(folder: Path, option: tuple[str, str], names: list[object], run: Run) -> None:
    value = folder / option[1] if option[0] == "--bins" else option[1]
    status, out, err = run(folder / "runs", option[0], value, "--format", "json", "--budgets", "4")
    found = json.loads(out)
    assert (status, err) == (0, "")
    for rows in (found["attempts"], found["ratios"]):
        assert list(dict.fromkeys(row["level"] for row in rows)) == names
        assert {row["level"]: row["n"] for row in rows} == dict(zip(names, (2, 1, 1)))
    hardest = {
        row["selection"]: row["accuracy"] for row in found["ratios"] if row["level"] == names[1] and row["length"] == 2
    }
    assert hardest["majority"] == 0.5, "that is p, which is easier"


def test_files(folder: Path, run: Run) -> None:
    arguments = (folder / "runs", "--csv", folder / "csv" / "of", "--figure", folder / "chains.png")
    status, out, _ = run(*arguments, "--bins", folder / "base.jsonl", "--output", folder / "table.md")
    assert (status, out) == (0, "") and (folder / "table.md").read_text().startswith("### toy, revise")
    assert sorted(path.name for path in (folder / "csv" / "of").iterdir()) == ["attempts.csv", "ratios.csv"]
    with (folder / "csv" / "of" / "attempts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["measure"] == "accuracy" and float(rows[0]["value"]) == 0.25 and rows[0]["chains"] == "2"
    for name in ("attempts", "ends", "ratios"):
        assert (folder / f"chains_{name}.png").read_bytes().startswith(b"\x89PNG")
    status, _, err = run(folder / "runs", "--csv", folder / "table.md")
    assert status == 1 and "table.md: File exists; choose a folder that can be written" in err


def test_without_a_verifier(tmp_path: Path, run: Run) -> None:
    path = write(tmp_path / "j.jsonl", record("p", P, scored=False))
    status, out, err = run(path, "--format", "json", "--against", "hierarchical")
    assert status == 0 and "no best_of_n_weighted or hierarchical, some attempts have no verifier score" in err
    found = json.loads(out)
    assert {row["selection"] for row in found["ratios"]} == {"majority", "last_attempt", "coverage"}
    assert found["differences"] == []


def test_a_seed_decides_the_intervals(folder: Path, run: Run) -> None:
    tables = [run(folder / "runs", "--seed", seed, "--resamples", "5")[1] for seed in (0, 0, 1)]
    assert tables[0] == tables[1] != tables[2]


def test_what_is_refused(folder: Path, run: Run) -> None:
    base = folder / "base.jsonl"
    for arguments, message in [
        ((base,), "no chains of revisions in these journals; name journals of tts-revise"),
        (
            (folder / "runs", "--bins", folder / "runs"),
            "bins need independent samples, and revise (chains=1, length=4) is",
        ),
        ((folder / "runs", "--bins", base, "--by", "level"), "--bins and --by level part the problems in two ways"),
        ((folder / "nowhere",), "no such file or folder"),
    ]:
        status, out, err = run(*arguments)
        assert (status, out) == (1, "") and message in err and err.count("\n") == 1
    other = write(folder / "other.jsonl", record("z", [[("1", 0.5)]], name="best-of-n"))
    assert "the journal has no problem of toy" in run(folder / "runs", "--bins", other)[2]
    some = write(folder / "some.jsonl", record("q", [[("1", 0.5)]], name="best-of-n"))
    status, _, err = run(folder / "runs", "--bins", some)
    assert status == 0 and "toy, revise: 1 problems are in no bin" in err
    twice = (record("q", [[("1", 0.5)]] * k, name="best-of-n", temperature=float(k)) for k in (1, 2))
    for number, one in enumerate(twice):
        write(folder / "two" / f"candidates_toy_{number}.jsonl", one)
    assert "holds several runs of toy" in run(folder / "runs", "--bins", folder / "two")[2]


def test_diagnose_takes_bins_too(folder: Path, tts_eval_command: Run) -> None:
    status, out, _ = tts_eval_command("diagnose", folder / "base.jsonl", "--bins", folder / "base.jsonl")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("| ")]
    assert status == 0 and [(row[0], row[1], row[-2]) for row in cells[1:]] == [
        *(("bin 2", "1", "100.0"), ("bin 2", "2", "100.0"), ("bin 4", "1", "50.0"), ("bin 4", "2", "100.0"))
    ]
