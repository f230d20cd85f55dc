"""The literal `tts-eval revisions build | chains` on microMATH's own model: killed, resumed, refused."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tts_eval.micro.members import resolve
from tts_eval.revisions import ChainedProblem, ChainFile, PairedProblem, PairFile
from tts_eval.types import Usage


TTS_EVAL = str(Path(sys.executable).with_name("tts-eval"))
Command = Callable[..., tuple[int, str, str]]


def arguments(action: str, output: Path, *more: object, model: object = "micromath/base") -> list[object]:
    """40 tokens are enough for the first levels only, so attempts without an answer are among them."""
    return [
        *("revisions", action, "--model_args", rf"pretrained={model},temperature=1.2,step_delimiter=\n"),
        *("--tasks", "tts_micromath", "--output", output, "--max_tokens", "40", *more),
        *("--metadata", "micromath_train=12"),
    ]


def build(output: Path, *more: object) -> list[object]:
    return arguments("build", output, "--samples", "32", "--limit", "12", *more)


def chains(output: Path, *more: object, model: object = "micromath/base") -> list[object]:
    shape = ("--chains", "2", "--length", "3", "--window", "2", "--limit", "3", *more)
    return arguments("chains", output, *shape, model=model)


def pairs_of(path: Path) -> dict[str, PairedProblem]:
    """What samples cost may differ: seconds, and what a cache happened to hold."""
    return {problem.uid: replace(problem, usage=Usage()) for problem in PairFile.read(path)[1]}


def chains_of(path: Path) -> dict[str, ChainedProblem]:
    return {problem.uid: replace(problem, usage=Usage()) for problem in ChainFile.read(path)[1]}


def test_killed_and_resumed_gives_the_pairs_of_an_uninterrupted_run(tmp_path: Path, tts_eval_command: Command) -> None:
    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    command = [TTS_EVAL, *map(str, build(killed))]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not killed.exists() or len(PairFile.read(killed)[1]) < 2:
        assert running.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = PairFile.read(killed)[1]
    assert 2 <= len(before) < 12

    status, resumed, errors = tts_eval_command(*build(killed))
    assert status == 0 and f"tts-eval revisions build: {killed} holds {len(before)} problems already" in errors
    status, uninterrupted, _ = tts_eval_command(*build(whole))
    assert status == 0 and resumed.splitlines()[:-1] == uninterrupted.splitlines()[:-1]
    assert uninterrupted.startswith("12 problems, 384 samples: ")
    assert PairFile.read(killed)[1][: len(before)] == before
    assert pairs_of(killed) == pairs_of(whole)
    found = pairs_of(whole).values()
    assert sum(problem.dropped for problem in found) > 0 < sum(len(problem.pairs) for problem in found)
    assert any(not problem.correct for problem in found) and any(pair.context for p in found for pair in p.pairs)
    header = PairFile.read(whole)[0]
    assert header is not None
    expected = {"samples": 32, "most_pairs": None, "split": "train", "temperature": 1.2, "max_tokens": 40, "seed": 0}
    assert expected.items() <= header.run.items()
    assert header.run["policy"] == {"base": "hf", "pretrained": "micromath/base"}

    status, _, errors = tts_eval_command(*build(whole, "--most_pairs", "2"))
    assert status == 1 and "most_pairs is None there and 2 here" in errors


def test_chains_are_graded_and_go_on_with_a_longer_limit(tmp_path: Path, tts_eval_command: Command) -> None:
    whole, halves = tmp_path / "whole.jsonl", tmp_path / "halves.jsonl"
    separator = ("--separator", r"\n\n")
    status, output, _ = tts_eval_command(*chains(whole, *separator))
    assert status == 0 and output.startswith("3 problems, 6 chains, 18 attempts: ") and "correct by attempt: " in output
    assert tts_eval_command(*chains(halves, *separator, "--limit", 1))[0] == 0
    (first,) = chains_of(halves)
    assert tts_eval_command(*chains(halves, *separator))[0] == 0
    assert chains_of(halves) == chains_of(whole)
    rest = tmp_path / "rest.jsonl"
    assert tts_eval_command(*chains(rest, *separator, "--skip", 1, "--limit", 2))[0] == 0
    assert chains_of(rest) == {uid: problem for uid, problem in chains_of(whole).items() if uid != first}
    status, _, errors = tts_eval_command(*chains(rest, *separator, "--skip", 2000))
    assert status == 1 and "--skip 2000: split 'train' of tts_micromath has no more problems" in errors
    for problem in ChainFile.read(whole)[1]:
        assert [len(chain) for chain in problem.chains] == [3, 3] and problem.usage.generations == 6
        for attempt in (attempt for chain in problem.chains for attempt in chain):
            assert attempt.answer is None or attempt.text.endswith(f"\\boxed{{{attempt.answer}}}")
            assert attempt.correct == (attempt.answer == problem.gold)
    answers = {attempt.answer for problem in chains_of(whole).values() for chain in problem.chains for attempt in chain}
    assert None in answers and len(answers) > 1
    status, _, errors = tts_eval_command(*chains(whole, *separator, "--window", "1"))
    assert status == 1 and "window is 2 there and 1 here" in errors


def test_a_trained_model_says_how_it_wants_to_be_asked(tmp_path: Path, tts_eval_command: Command) -> None:
    model = tmp_path / "revision"
    shutil.copytree(resolve("micromath/base"), model)
    config = json.loads((model / "config.json").read_text())
    own = {"kind": "revision", "separator": "\n\n", "window": 3, "step_delimiter": "\n"}
    (model / "config.json").write_text(json.dumps({**config, "tts_eval": own}))
    output = tmp_path / "chains.jsonl"
    shape = ("--chains", "1", "--length", "2", "--limit", "1")
    assert tts_eval_command(*arguments("chains", output, *shape, model=model))[0] == 0
    header, _ = ChainFile.read(output)
    assert header is not None
    assert {"chains": 1, "length": 2, "window": 3, "separator": "\n\n"}.items() <= header.run.items()


@pytest.mark.parametrize(
    ("action", "more", "message"),
    [
        (
            "chains",
            ("--max_tokens", "160"),
            r"4 attempts of 160 tokens after .*, but the context is 512: lower --window",
        ),
        ("build", ("--tasks", "tts_math"), "tts_math is a group: sample one of its tasks at a time"),
        ("build", ("--model_args", "base=dummy"), "from the policy's own weights: use base=hf"),
        ("build", ("--split", "dev"), "--split dev: tts_micromath has "),
    ],
)
def test_what_makes_no_sense_is_one_line(
    tmp_path: Path, tts_eval_command: Command, action: str, more: tuple[str, ...], message: str
) -> None:
    output = tmp_path / "file.jsonl"
    status, _, errors = tts_eval_command(*arguments(action, output, *more))
    (line,) = [line for line in errors.splitlines() if line.startswith("tts-eval: ")]
    assert status == 1 and re.search(message, line)
    assert not output.exists()
