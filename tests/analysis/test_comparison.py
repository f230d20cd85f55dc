"""Strategies against each other, problem by problem."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import journals
import pytest
from scipy.stats import norm

from tts_eval.analysis import load_pools
from tts_eval.analysis.comparison import baselines_of, compare, measure
from tts_eval.answers import default_grader
from tts_eval.cli import main
from tts_eval.journal import Journal, Record
from tts_eval.jsonl import Header
from tts_eval.types import Candidate, TtsEvalError, Usage


Command = Callable[..., tuple[int, str, str]]


def record(uid: str, strategy: str, answers: str, **parameters: int) -> Record:
    candidates = tuple(
        Candidate(f"\\boxed{{{answer}}}", answer, ("s",), (1.0,), None, None, 1, "eos", index, 0)
        for index, answer in enumerate(answers)
    )
    given = {"name": strategy, **parameters}
    return Record(uid, "toy", given, len(answers), 0, candidates, Usage(), gold="1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two problems: two of four samples right and none; beams of 2 that are right and right, of 4 wrong and right."""
    journals.write(tmp_path / "candidates_a.jsonl", record("p", "best-of-n", "1123"), record("q", "best-of-n", "2345"))
    journals.write(tmp_path / "candidates_b.jsonl", record("p", "best-of-n", "12"), record("q", "best-of-n", "23"))
    journals.write(tmp_path / "candidates_c.jsonl", record("p", "beam", "11"), record("q", "beam", "11"))
    journals.write(tmp_path / "candidates_d.jsonl", record("p", "beam", "2222"), record("q", "beam", "1112"))
    return tmp_path


def test_a_joint_search_against_samples_at_equal_budgets(folder: Path) -> None:
    sets, _ = load_pools([folder], default_grader())
    (baseline,) = baselines_of(sets, "best-of-n")
    assert [pool.uid for pool in baseline.pools] == ["p", "q"] and baseline.budget == 4  # the larger of the two runs
    how = {"selection": "best_of_n_weighted", "aggregation": "last"}
    samples = measure(baseline, [1, 2, 4, 8], **how)
    assert samples.budgets == [1, 2, 4]
    joint = [measure(pools, [1, 2, 4], **how) for pools in sets if pools.strategy == "beam"]
    assert [one.budgets for one in joint] == [[2], [4]]
    beams = [compare(one, samples, ["p", "q"])[0] for one in joint]
    # Of the six pairs of p's samples one is 1 1, four tie with 1, one is 2 3: right in (1 + 4/2) / 6.
    assert [(row.budget, row.accuracy, row.difference) for row in beams] == [
        (2, 1.0, pytest.approx(1 - (0.5 + 0) / 2)),
        (4, 0.5, pytest.approx(0.5 - (1 + 0) / 2)),
    ]
    assert math.isnan(beams[0].difference_low) and math.isnan(beams[0].difference_high)  # two problems tell nothing
    # The gains are 1/2 and 1: a standard deviation of 0.354, a standard error of 1/4.
    assert beams[0].detectable == pytest.approx((norm.ppf(0.975) + norm.ppf(0.8)) / 4)
    assert all(row.difference == row.detectable == 0 for row in compare(samples, samples, ["p", "q"]))
    assert [row.accuracy for row in compare(joint[0], samples, ["q", "elsewhere"])] == [1.0]
    assert compare(joint[0], samples, ["elsewhere"]) == []


def test_a_baseline_that_is_not_there(folder: Path) -> None:
    sets, _ = load_pools([folder], default_grader())
    with pytest.raises(TtsEvalError, match=r"--against beam: no such run; .* are best-of-n"):
        baselines_of(sets, "beam")


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bins = folder / "candidates_a.jsonl"
    out = [folder / "out.csv", folder / "out.png"]
    assert main(["compare", str(folder), "--bins", str(bins), "--csv", str(out[0]), "--figure", str(out[1])]) == 0
    shown = capsys.readouterr().out
    assert "### toy, bin 2, 1 problems, best_of_n_weighted" in shown and "| beam" in shown
    lines = out[0].read_text().splitlines()
    assert lines[0].startswith("task,strategy,against,budget") and any(",beam,best-of-n,4," in line for line in lines)
    assert out[1].stat().st_size > 1000


def write(path: Path, one: Record, **run: object) -> None:
    with Journal.open(path, Header({"model": {"pretrained": "m"}, "verifier": None, **run})) as journal:
        journal.append(one)


def compared(path: Path, budget: int) -> dict[str, tuple[str, str]]:
    """By strategy what it was compared with, and the difference."""
    rows = csv.DictReader(path.read_text().splitlines())
    return {row["strategy"]: (row["against"], row["difference"]) for row in rows if row["budget"] == str(budget)}


@pytest.mark.parametrize("of", ["model", "verifier", "prompting"])
def test_each_run_against_the_samples_of_its_own_kind(tmp_path: Path, of: str, tts_eval_command: Command) -> None:
    for name, samples in (("small", "12"), ("big", "11")):
        write(tmp_path / f"candidates_a_{name}.jsonl", record("p", "best-of-n", samples), **{of: {"name": name}})
        write(tmp_path / f"candidates_b_{name}.jsonl", record("p", "beam", "11"), **{of: {"name": name}})
    out = tmp_path / "out.csv"
    status, shown, said = tts_eval_command("compare", tmp_path, "--csv", out, "--figure", tmp_path / "out.png")
    small, big = (f'best-of-n ({of}.name="{name}")' for name in ("small", "big"))
    # Of the small model's two samples one is right, and the two tie; a beam of right ones gains a half.
    assert compared(out, 2) == {
        small: (small, "0.0"),
        big: (big, "0.0"),
        f'beam ({of}.name="small")': (small, "0.5"),
        f'beam ({of}.name="big")': (big, "0.0"),
    }
    assert (status, said) == (0, "")
    small_last = shown.index(f"difference to {small} at") > shown.index(f"difference to {big} at")
    assert shown.count("### toy, 1 problems") == 2 and small_last


def test_samples_at_another_temperature_are_compared_too(tmp_path: Path, tts_eval_command: Command) -> None:
    for temperature, samples in ((0.5, "11"), (1.0, "12")):
        for name, answers in (("best-of-n", samples), ("beam", "11")):
            path = tmp_path / f"candidates_{name}_{temperature}.jsonl"
            one = record("p", name, answers)
            write(path, replace(one, strategy={**one.strategy, "temperature": temperature}))
    out = tmp_path / "out.csv"
    assert tts_eval_command("compare", tmp_path, "--csv", out)[::2] == (0, "")
    cool, warm = (f"best-of-n (temperature={temperature})" for temperature in (0.5, 1.0))
    assert compared(out, 2) == {
        cool: (cool, "0.0"),
        warm: (warm, "0.0"),
        "beam (temperature=0.5)": (cool, "0.0"),
        "beam (temperature=1.0)": (warm, "0.5"),
    }


def test_runs_without_samples_of_their_kind(tmp_path: Path, tts_eval_command: Command) -> None:
    write(tmp_path / "candidates_a.jsonl", record("p", "best-of-n", "12"))
    write(tmp_path / "candidates_b.jsonl", record("p", "beam", "11"), verifier={"name": "prm"})
    write(tmp_path / "candidates_c.jsonl", record("p", "dvts", "11"), model={"pretrained": "other"})
    write(tmp_path / "candidates_d.jsonl", record("p", "rebase", "11"), prompting={"num_fewshot": 4})
    out = tmp_path / "out.csv"
    status, _, said = tts_eval_command("compare", tmp_path, "--csv", out)
    against = {"best-of-n": "0.0", "beam": "0.5", "rebase": "0.5"}
    assert status == 0 and compared(out, 2) == {name: ("best-of-n", gain) for name, gain in against.items()}
    assert said.splitlines() == [
        "tts-eval compare: toy, beam: no best-of-n with its verifier, so another is taken",
        "tts-eval compare: toy, dvts: left out, no best-of-n of its model",
        "tts-eval compare: toy, rebase: no best-of-n with its prompts or limits, so another is taken",
    ]


def test_the_verifier_counts_before_the_size(tmp_path: Path, tts_eval_command: Command) -> None:
    write(tmp_path / "candidates_a.jsonl", record("p", "best-of-n", "12"), verifier={"name": "prm"})
    write(tmp_path / "candidates_b.jsonl", record("p", "best-of-n", "2222"), verifier={"name": "orm"})
    write(tmp_path / "candidates_c.jsonl", record("p", "beam", "11"), verifier={"name": "prm"})
    write(tmp_path / "candidates_d.jsonl", record("p", "rebase", "11"), verifier={"name": "third"})
    out = tmp_path / "out.csv"
    status, _, said = tts_eval_command("compare", tmp_path, "--csv", out)
    found = compared(out, 2)
    assert (status, found["beam"], found["rebase"]) == (
        0,
        ('best-of-n (verifier.name="prm")', "0.5"),
        ('best-of-n (verifier.name="orm")', "1.0"),  # the largest of its model
    )
    assert said == "tts-eval compare: toy, rebase: no best-of-n with its verifier, so another is taken\n"
