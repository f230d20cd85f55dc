"""`tts-eval verify` from the command line, with a verifier whose scores the test knows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from journals import write

import tts_eval.verifiers
from tts_eval.journal import Record
from tts_eval.jsonl import Header
from tts_eval.labels import LabelFile, LabelledProblem, LabelledSolution
from tts_eval.revisions import Attempt, ChainedProblem, ChainFile
from tts_eval.types import Candidate, Prefix, Problem, TtsEvalError, Usage


Run = Callable[..., tuple[int, str, str]]


@dataclass
class Reader:
    """A verifier that finds its scores in the steps: the number that each begins with."""

    kind: str = "process"
    aggregation: str = "last"
    history: bool = False
    context: int | None = None
    step_delimiter: str | None = None

    def __post_init__(self) -> None:
        self.problems: list[Problem] = []

    def length(self, problem: Problem, prefix: Prefix) -> int:
        return len(prefix.steps)

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> list[tuple[tuple[float, ...], Usage]]:
        self.problems += [problem for problem, _ in items]
        read = [tuple(float(step.split()[0]) for step in prefix.steps) for _, prefix in items]
        return [(one if self.kind == "process" else one[-1:], Usage(verifier_tokens=7)) for one in read]


@pytest.fixture
def verifier(monkeypatch: pytest.MonkeyPatch) -> Reader:
    reader = Reader()
    monkeypatch.setattr(tts_eval.verifiers, "load_verifier", lambda *_, **__: reader)
    return reader


@pytest.fixture
def run(tts_eval_command: Run) -> Run:
    return partial(tts_eval_command, "verify")


@pytest.fixture
def processbench(tmp_path: Path) -> Path:
    """Ten questions: of two solutions each, one has a wrong step; the verifier misses some and cries wolf at some."""
    rows = []
    for i in range(10):
        wrong = ["0.9 a", "0.2 b" if i < 8 else "0.8 b", "0.1 c"]
        right = ["0.9 a", "0.7 b" if i < 9 else "0.3 b"]
        row = {"id": f"x-{i}", "problem": f"question {i}", "final_answer_correct": False}
        rows.append({**row, "steps": wrong, "label": 1})
        rows.append({**row, "steps": right, "label": -1, "final_answer_correct": True})
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(rows, indent=1))
    return path


def test_processbench_by_hand(processbench: Path, run: Run, verifier: Reader) -> None:
    status, out, err = run("--verifier", "m", "--data", processbench, "--threshold", 0.5)
    assert status == 0
    assert "### bench.json: 10 questions, 20 solutions\n" in out
    first = next(line for line in out.splitlines() if line.startswith("| 0.5 "))
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    assert cells[1].startswith("80.0 [") and cells[3].startswith("90.0 [") and (cells[2], cells[4]) == ("10", "10")
    assert cells[5].startswith(f"{100 * 2 * 0.8 * 0.9 / 1.7:.1f} [")  # 84.7
    assert "the threshold was given" in out
    assert "tts-eval verify: bench.json: 140 tokens read, 0 reused" in err
    # Steps up to the first error: 10 x (.9 right, .2 wrong or .8) and 10 x (.9, .7), all right. Nobody labelled .1.
    row = next(line for line in out.splitlines() if line.startswith("| 40 "))
    assert "| 0.750 " in row
    last = next(line for line in out.splitlines() if line.startswith("| last "))
    # Ten solutions that end right, with .7 (nine) and .3 in the end, against ten with .1.
    assert [cell.strip() for cell in last.strip("|").split("|")] == [
        *("last", "20", "10", "1.000 [1.000, 1.000]", "1.000 [1.000, 1.000]", "10")
    ]
    assert verifier.problems[0].prompt.endswith("Problem: question 0\n\nSolution:")
    assert (verifier.problems[0].question, verifier.problems[0].uid) == ("question 0", "x-0")


def test_threshold_is_chosen_on_other_questions(processbench: Path, run: Run, verifier: Reader) -> None:
    status, out, _ = run("--verifier", "m", "--data", processbench, "--seed", 3)
    assert status == 0 and "the threshold was chosen on 4 other solutions" in out


def test_output_and_figure(processbench: Path, tmp_path: Path, run: Run, verifier: Reader) -> None:
    figure, output = tmp_path / "f.png", tmp_path / "o.json"
    arguments = ("--verifier", "m", "--noise", 0.2, "--data", processbench, "--threshold", 0.5, "--limit", 4)
    status, _, _ = run(*arguments, "--figure", figure, "--output", output)
    found = json.loads(output.read_text())
    assert status == 0 and figure.read_bytes().startswith(b"\x89PNG")
    assert found["verifier"] == {"name": "m", "noise": 0.2} and found["limit"] == 4
    (result,) = found["results"]
    assert (result["questions"], result["solutions"], len(result["judged"])) == (4, 8, 8)
    assert result["first_errors"]["erroneous_n"] == 4 and result["judged"][1]["scores"] == [0.9, 0.7]
    assert [row["aggregation"] for row in result["whole"]] == ["last", "min", "prod", "mean", "max"]


def test_an_outcome_verifier_is_measured_on_whole_solutions(processbench: Path, run: Run, verifier: Reader) -> None:
    verifier.kind = "outcome"
    status, out, _ = run("--verifier", "m", "--data", processbench)
    assert status == 0
    assert "First wrong step" not in out and "By depth" not in out and "Score of a solution against its label" in out
    assert "| score " in out and "| min " not in out


def test_what_does_not_fit_the_context_is_refused_before_anything_is_scored(
    processbench: Path, run: Run, verifier: Reader
) -> None:
    verifier.context = 2
    status, _, err = run("--verifier", "m", "--data", processbench, "--threshold", 0.5)
    assert status == 1 and not verifier.problems
    assert "bench.json: 10 of 20 solutions don't fit the verifier's context of 2 tokens (the longest has 3," in err


@pytest.mark.parametrize(
    ("given", "loaded"),
    [
        ((), {"dtype": "auto", "safetensors": True}),
        (("--verifier_dtype", "float32", "--verifier_pickle"), {"dtype": "float32", "safetensors": False}),
    ],
)
def test_how_a_verifier_is_loaded(
    given: tuple[str, ...], loaded: dict[str, Any], processbench: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **how: Any) -> None:
        raise TtsEvalError(str({name: how[name] for name in loaded}))

    monkeypatch.setattr(tts_eval.verifiers, "load_verifier", load)
    status, _, err = run("--verifier", "m", "--data", processbench, *given)
    assert status == 1 and str(loaded) in err


@pytest.mark.parametrize("history", [True, False])
def test_a_verifier_that_was_trained_with_a_history_gets_that_of_a_chain_file(
    history: bool, tmp_path: Path, processbench: Path, run: Run, verifier: Reader
) -> None:
    verifier.kind, verifier.history = "outcome", history
    attempts = tuple(Attempt((f"0.{n} a",), "1", n == 2, "eos", 3) for n in (1, 2))
    path = tmp_path / "chains.jsonl"
    with ChainFile.open(path, Header({"task": "toy", "window": 4, "separator": "\n"})) as file:
        file.append(ChainedProblem(uid="p", prompt="Q:", question="q", gold="1", chains=(attempts,), usage=Usage()))
    status, out, _ = run("--verifier", "m", "--data", path, processbench)
    assert status == 0 and "### chains.jsonl: 1 questions, 2 solutions" in out and "### bench.json" in out
    assert [one.prompt for one in verifier.problems[:2]] == ["Q:", "Q:0.1 a\n" if history else "Q:"]


def labels(path: Path, *solutions: LabelledSolution) -> Path:
    with LabelFile.open(path, Header({"task": "toy", "seed": 0})) as file:
        for i in range(3):
            file.append(
                LabelledProblem(
                    uid=f"p{i}", prompt="Q:", question=f"q {i}", gold="1", solutions=solutions, dropped=0, usage=Usage()
                )
            )
    return path


def test_label_file(tmp_path: Path, run: Run, verifier: Reader) -> None:
    path = labels(
        tmp_path / "labels.jsonl",
        LabelledSolution(("0.6 a\n", "0.9 b"), (0.5, 1.0), "1", True, "eos", 9),
        LabelledSolution(("0.6 a\n", "0.2 c"), (0.5, 0.0), "2", False, "eos", 9),
    )
    output = tmp_path / "o.json"
    status, out, _ = run("--verifier", "m", "--data", path, "--output", output)
    assert status == 0 and "First wrong step" not in out
    (result,) = json.loads(output.read_text())["results"]
    assert result["first_errors"] is None
    assert result["scores"]["brier"] == pytest.approx((2 * 0.1**2 + 0.1**2 + 0.2**2) / 4)
    last = result["whole"][0]
    assert (last["pooled"]["value"], last["within"]["value"], last["mixed"]) == (1.0, 1.0, 3)
    assert verifier.problems[0].prompt == "Q:" and verifier.problems[0].uid == "labels.jsonl:2"


def test_published_step_labels(tmp_path: Path, run: Run, verifier: Reader) -> None:
    path = tmp_path / "shepherd.jsonl"
    rows = [
        {"input": f"q? Step 1: {mark} ки\nStep 2: {mark} ки", "label": f"q? Step 1: {mark} +\nStep 2: {mark} {mark}"}
        for mark in "+-"
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    verifier.score = lambda items: [((0.5, 0.5), Usage()) for _ in items]  # type: ignore[method-assign]
    status, out, _ = run("--verifier", "m", "--data", path)
    assert status == 0 and "### shepherd.jsonl: 1 questions, 2 solutions" in out


def test_step_labels_say_nothing_of_an_outcome_verifier(tmp_path: Path, run: Run, verifier: Reader) -> None:
    verifier.kind = "outcome"
    verifier.score = lambda items: [((0.5,), Usage()) for _ in items]  # type: ignore[method-assign]
    path = tmp_path / "prm800k.jsonl"
    step = {"completions": [{"text": "1 + 1 = 2", "rating": 1}], "human_completion": None, "chosen_completion": 0}
    path.write_text(json.dumps({"question": {"problem": "1 + 1?"}, "label": {"steps": [step]}}) + "\n")
    status, out, _ = run("--verifier", "m", "--data", path)
    assert status == 0 and "Nothing to measure" in out


def candidate(text: str, steps: tuple[float, ...] | None, outcome: float | None, chain: int) -> Candidate:
    parts = (text,) if steps is None else (*["x "] * (len(steps) - 1), text)
    return Candidate("".join(parts), text, parts, steps, outcome, None, 1, "eos", chain, 0)


def journal(path: Path, *candidates: Candidate) -> Path:
    how = ("toy", {"name": "best_of_n"}, len(candidates), 0, candidates, Usage())
    return write(path, *(Record(uid, *how, gold="1") for uid in ("a", "b")))


def test_journal_needs_no_verifier(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tts_eval.verifiers", None)  # importing it would fail
    journal(
        tmp_path / "candidates_toy_1.jsonl",
        candidate("1", (0.2, 0.9), None, 0),
        candidate("2", (0.6, 0.8), None, 1),
        candidate("3", None, None, 2),  # without a score it is left out
    )
    output = tmp_path / "o.json"
    status, out, _ = run("--data", tmp_path, "--output", output)
    assert status == 0 and "### toy, best_of_n, N=3: 2 questions, 4 solutions" in out
    (result,) = json.loads(output.read_text())["results"]
    assert result["scores"] is None
    areas = {row["aggregation"]: row["within"]["value"] for row in result["whole"]}
    assert areas == {"last": 1.0, "min": 0.0, "prod": 0.0, "mean": 0.0, "max": 1.0}


def test_journal_of_an_outcome_verifier(tmp_path: Path, run: Run) -> None:
    path = journal(tmp_path / "j.jsonl", candidate("1", None, 0.9, 0), candidate("2", None, 0.3, 1))
    status, out, _ = run("--data", path)
    assert status == 0 and "Score of a solution against its label" in out and "| score " in out


def test_refusals(processbench: Path, tmp_path: Path, run: Run, verifier: Reader) -> None:
    def refused(*arguments: object) -> str:
        status, _, err = run(*arguments)
        assert status == 1 and err.count("\n") == 1
        return err

    scored = journal(tmp_path / "j.jsonl", candidate("1", (0.5,), None, 0))
    plain = journal(tmp_path / "k.jsonl", candidate("1", None, None, 0))
    assert "--verifier is missing" in refused("--data", processbench)
    assert "j.jsonl: a journal holds no prompts" in refused("--verifier", "m", "--data", processbench, scored)
    assert "no candidate has a score; run lm_eval with verifier=" in refused("--data", plain)
    assert "nowhere.json: No such file" in refused("--verifier", "m", "--data", tmp_path / "nowhere.json")
    too_few = refused("--verifier", "m", "--data", processbench, "--limit", 1)
    assert "needs both kinds; use more data (--limit)" in too_few
    assert not verifier.problems  # before anything was scored


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.json", '[{"id": "x", "problem": "q", "steps": ["1"], "label": 1}]', "b.json: solution 1: "),
        ("l.jsonl", '{"schema": 1, "run": {}}\n{"schema": 1, "uid": "p"}\n', "l.jsonl:2: prompt is missing"),
        ("l.jsonl", '{"schema": 1, "run": {}}\n', "l.jsonl: holds no labelled solutions"),
        ("o.jsonl", '{"a": 1}\n', "o.jsonl:1: neither a label file"),
        ("j.jsonl", '{"schema": 1, "uid": "p", "candidates": []}\n', "j.jsonl:1: task is missing"),
    ],
)
def test_malformed_data(tmp_path: Path, name: str, content: str, message: str, run: Run, verifier: Reader) -> None:
    path = tmp_path / name
    path.write_text(content)
    arguments: list[Any] = [] if name == "j.jsonl" else ["--verifier", "m"]
    status, out, err = run(*arguments, "--data", path)
    assert (status, out) == (1, "") and f"{tmp_path}/{message}" in err


def test_more_steps_than_labels_or_scores(tmp_path: Path, run: Run, verifier: Reader) -> None:
    path = labels(tmp_path / "l.jsonl", LabelledSolution(("0.6 a\n", "0.9 b"), (0.5, 1.0), "1", True, "eos", 9))
    path.write_text(path.read_text().replace("[0.5, 1.0]", "[0.5]"))
    assert "l.jsonl:2: solutions[0] has 2 steps but 1 labels" in run("--verifier", "m", "--data", path)[2]
    path = journal(tmp_path / "j.jsonl", candidate("1", (0.5, 0.6), None, 0))
    path.write_text(path.read_text().replace("[0.5, 0.6]", "[0.5]"))
    assert "j.jsonl:2: candidates[0] has 2 steps but 1 step_scores" in run("--data", path)[2]


def test_a_label_file_cut_short_says_what_is_missing(tmp_path: Path, run: Run, verifier: Reader) -> None:
    path = labels(tmp_path / "l.jsonl", LabelledSolution(("0.6 a\n", "0.9 b"), (0.5, 1.0), "1", True, "eos", 9))
    path.write_bytes(path.read_bytes()[:-40])
    status, out, err = run("--verifier", "m", "--data", path)
    assert status == 0 and "2 questions, 2 solutions" in out
    assert "tts-eval verify: " in err and "l.jsonl: its last line is cut short and left out" in err


def test_options_of_a_verifier_that_is_not_there(tmp_path: Path, run: Run) -> None:
    path = journal(tmp_path / "j.jsonl", candidate("1", (0.5,), None, 0))
    status, _, err = run("--data", path, "--noise", 0.2)
    assert status == 1 and "noise= says how a verifier is used, but there is none" in err
