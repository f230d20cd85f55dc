"""Strategies against each other, problem by problem."""

from __future__ import annotations

from pathlib import Path

import journals
import pytest
from scipy.stats import norm

from tts_eval.analysis import load_pools
from tts_eval.analysis.comparison import baseline_of, compare, measure
from tts_eval.answers import default_grader
from tts_eval.cli import main
from tts_eval.journal import Record
from tts_eval.types import Candidate, TtsEvalError, Usage


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
    baseline = baseline_of(sets, "best-of-n")["toy"]
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
    assert beams[0].difference_low == pytest.approx(0.5) and beams[0].difference_high == pytest.approx(1.0)
    # The gains are 1/2 and 1: a standard deviation of 0.354, a standard error of 1/4.
    assert beams[0].detectable == pytest.approx((norm.ppf(0.975) + norm.ppf(0.8)) / 4)
    assert all(row.difference == row.detectable == 0 for row in compare(samples, samples, ["p", "q"]))
    assert [row.accuracy for row in compare(joint[0], samples, ["q", "elsewhere"])] == [1.0]
    assert compare(joint[0], samples, ["elsewhere"]) == []


def test_a_baseline_that_is_not_there(folder: Path) -> None:
    sets, _ = load_pools([folder], default_grader())
    with pytest.raises(TtsEvalError, match=r"--against beam: no such run; .* are best-of-n"):
        baseline_of(sets, "beam")


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bins = folder / "candidates_a.jsonl"
    out = [folder / "out.csv", folder / "out.png"]
    assert main(["compare", str(folder), "--bins", str(bins), "--csv", str(out[0]), "--figure", str(out[1])]) == 0
    shown = capsys.readouterr().out
    assert "### toy, bin 2, 1 problems, best_of_n_weighted" in shown and "| beam" in shown
    lines = out[0].read_text().splitlines()
    assert lines[0].startswith("task,strategy,against,budget") and any(",beam,best-of-n,4," in line for line in lines)
    assert out[1].stat().st_size > 1000
