"""Several processes share a run: same candidates, same results, one journal."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tts_eval.journal import Journal, find_shards, read_journal


Launch = Callable[..., list[dict[str, Any]]]

TASK = str(Path(__file__).parents[2] / "tasks/tts_micromath/tts_micromath.yaml")
pytestmark = pytest.mark.timeout(900)  # two or three processes at once, on a machine that may be busy

PROBLEMS = 7
"""Odd, so that lm-eval pads the second of two ranks with a copy."""

STRATEGIES = {
    "best-of-n": ["--model", "tts-best-of-n"],
    "beam": ["--model", "tts-beam"],
}
MODELS = "base=hf,pretrained=micromath/base,verifier=micromath/prm,budget=4"


def arguments(output: Path, name: str, *more: str, limit: int = PROBLEMS) -> list[str]:
    model_args = MODELS + (r",width=2,step_delimiter=\n" if name == "beam" else "")
    common = ["--model_args", model_args, "--tasks", TASK, "--limit", str(limit), "--log_samples"]
    return [*STRATEGIES[name], *common, "--output_path", str(output), *more]


@pytest.fixture(scope="module")
def alone(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What one process writes, by strategy."""
    folders = {name: tmp_path_factory.mktemp(name) for name in STRATEGIES}
    for name, folder in folders.items():
        succeed(launch(1, arguments(folder, name)))
    return folders


def journal(folder: Path) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """The one journal of a folder, by problem: what must not depend on how many ranks there were, and all scores."""
    (path,) = folder.rglob("candidates_*.jsonl")
    header, records = read_journal(path)
    assert header is not None and "shard" not in header.run
    timeless, scores = {}, {}
    for record in records:
        row = record.to_json()
        row["usage"] = {name: value for name, value in row["usage"].items() if "seconds" not in name}
        scores[record.uid] = [score for one in row["candidates"] for score in one.pop("step_scores")]
        timeless[record.uid] = row
    assert len(timeless) == len(records)
    return timeless, scores


def results(folder: Path) -> dict[str, Any]:
    (path,) = folder.rglob("results_*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def samples(folder: Path) -> dict[int, Any]:
    (path,) = folder.rglob("samples_*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["doc_id"] for row in rows}) == len(rows)
    return {row["doc_id"]: (row["doc_hash"], row["filtered_resps"], row["accuracy"]) for row in rows}


def require_equal(one: Path, several: Path) -> None:
    """Same candidates, answers, numbers and costs, of the same run."""
    (records, scores), (expected_records, expected_scores) = journal(several), journal(one)
    assert records == expected_records and len(records) == PROBLEMS
    for uid, of_problem in scores.items():  # a verifier reads other problems beside it, and adds up in another order
        assert of_problem == pytest.approx(expected_scores[uid], abs=1e-5)
    assert samples(several) == samples(one)
    there, here = results(one), results(several)
    of_task, expected = (
        {key: value for key, value in found["results"]["tts_micromath"].items() if isinstance(value, float)}
        for found in (here, there)
    )
    assert of_task == pytest.approx(expected) and "accuracy,none" in of_task
    assert here["n-samples"] == there["n-samples"]
    usages = [dict(found["config"]["tts_eval"].pop("usage")) for found in (there, here)]
    assert here["config"]["tts_eval"] == there["config"]["tts_eval"]
    counts = [{name: n for name, n in usage.items() if "seconds" not in name} for usage in usages]
    assert counts[0] == counts[1] and counts[0]["generations"] == 4 * PROBLEMS


def succeed(told: list[dict[str, Any]]) -> None:
    for rank in told:
        assert rank["status"] == 0, rank["output"][-3000:]


@pytest.mark.parametrize("name", STRATEGIES)
def test_ranks_equal_one_process(launch: Launch, alone: dict[str, Path], tmp_path: Path, name: str) -> None:
    told = launch(2, arguments(tmp_path, name))
    succeed(told)
    require_equal(alone[name], tmp_path)
    assert [f"{name}, N=4" in rank["output"] for rank in told] == [True, False], "the progress bar is rank 0's"


def test_a_rank_fails_and_other_numbers_of_ranks_go_on(
    launch: Launch, alone: dict[str, Path], tmp_path: Path
) -> None:
    failed = launch(2, arguments(tmp_path, "beam"), bytes={1: 6000})
    first, second = (rank["output"][-3000:] for rank in failed)
    assert [rank["status"] for rank in failed] == [1, 1]
    assert "tts-eval: another process of this run has ended; its own message says why" in first, first
    assert "File too large" in second and "run the same command again" in second, second
    assert "Traceback" not in first and "Traceback" not in second

    kept = sum(len(read_journal(path)[1]) for path in (tmp_path).rglob("candidates_*_rank*.jsonl"))
    assert 4 < kept < PROBLEMS
    told = launch(3, arguments(tmp_path, "beam"))
    succeed(told)
    assert f"{kept} problems of tts_micromath are in" in told[0]["output"]
    require_equal(alone["beam"], tmp_path)


def test_one_process_goes_on_with_what_ranks_left(launch: Launch, alone: dict[str, Path], tmp_path: Path) -> None:
    launch(2, arguments(tmp_path, "best-of-n"), bytes={1: 6000})
    assert len(list((tmp_path).rglob("candidates_*_rank*.jsonl"))) == 2
    succeed(launch(1, arguments(tmp_path, "best-of-n")))
    require_equal(alone["best-of-n"], tmp_path)


def test_a_finished_run_and_a_cache_need_no_search(launch: Launch, tmp_path: Path) -> None:
    cached = ["--use_cache", str(tmp_path / "cache")]
    succeed(launch(2, arguments(tmp_path, "best-of-n", *cached)))
    before = journal(tmp_path)
    for path in (tmp_path).rglob("results_*"):
        path.unlink()
    for path in (tmp_path).rglob("samples_*"):
        path.unlink()
    succeed(launch(2, arguments(tmp_path, "best-of-n", *cached)))
    assert journal(tmp_path) == before
    assert results(tmp_path)["config"]["tts_eval"]["usage"]["generations"] == 0


def test_more_ranks_than_problems(launch: Launch, tmp_path: Path) -> None:
    *with_problems, without = launch(3, arguments(tmp_path, "best-of-n", limit=2))
    assert without["status"] == 1 and "did not find any docs!" in without["output"]
    for rank in with_problems:
        assert rank["status"] == 1 and "another process of this run has ended" in rank["output"]


def test_accelerate_launch(alone: dict[str, Path], tmp_path: Path) -> None:
    # On a machine without GPUs --multi_gpu only means several processes; --cpu would start a single one.
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command = [*launcher, "-m", "lm_eval", *arguments(tmp_path, "beam")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    require_equal(alone["beam"], tmp_path)


def test_commands_read_what_ranks_left_as_one_run(
    alone: dict[str, Path], tmp_path: Path, tts_eval_command: Callable[..., tuple[int, str, str]]
) -> None:
    shutil.copytree(alone["best-of-n"], tmp_path, dirs_exist_ok=True)

    def accuracies() -> list[float]:
        status, out, _ = tts_eval_command("select", tmp_path, "--format", "csv")
        rows = list(csv.DictReader(out.splitlines()))
        assert status == 0 and {row["n"] for row in rows} == {str(PROBLEMS)}
        return [float(row["accuracy"]) for row in rows]

    whole = accuracies()
    split(tmp_path)
    assert len(list(tmp_path.rglob("candidates_*"))) == 2
    assert accuracies() == pytest.approx(whole)  # in another order they add up otherwise


def split(folder: Path) -> None:
    """Makes of a journal what two ranks would have left of it."""
    (path,) = folder.rglob("candidates_*.jsonl")
    header, records = read_journal(path)
    assert header is not None
    for rank in range(2):
        of_rank = type(header)({**header.run, "shard": f"{rank} of 2"})
        name = path.name.replace("_20", f"_rank{rank}_20")
        with Journal.open(path.with_name(name), of_rank) as shard:
            for record in records[rank::2]:
                shard.append(record)
    path.unlink()
    assert len(find_shards(path.parent, "tts_micromath", header)) == 2
