"""The literal `tts-eval label` command on a tiny random model: killed, resumed, refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tts_eval.cli import main
from tts_eval.engines.tokens import vocabulary_hash
from tts_eval.labels import LabelledProblem, read_labels


TTS_EVAL = str(Path(sys.executable).with_name("tts-eval"))
ALPHABET = ["<unk>", "<end>", *"0123456789\n x"]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes digits, spaces and line breaks; everything else in a prompt is one unknown character to it."""
    folder = tmp_path_factory.mktemp("policy")
    tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate(ALPHABET)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>", clean_up_tokenization_spaces=False
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(ALPHABET),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        eos_token_id=1,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    row = {"solution": "s", "subject": "Algebra", "level": 1}
    rows = [{"problem": f"x{i}?", "answer": str(i), "unique_id": f"t/{i}", **row} for i in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def arguments(policy: Path, problems: Path, output: Path, *more: str) -> list[str]:
    return [
        *("label", "--model_args", rf"base=hf,pretrained={policy},temperature=1.0,step_delimiter=\n"),
        *("--tasks", "tts_math500", "--output", str(output), "--answer_fallback", "last_number"),
        *("--samples", "6", "--rollouts", "8", "--max_tokens", "48", *more, "--metadata", f"math_file={problems}"),
    ]


def without_usage(path: Path) -> dict[str, dict[str, Any]]:
    """Every line by its uid. What it cost may differ: seconds, and what a cache happened to hold."""
    lines = [problem.to_json() for problem in read_labels(path)[1]]
    return {line["uid"]: {key: value for key, value in line.items() if key != "usage"} for line in lines}


def check(problem: LabelledProblem) -> None:
    assert problem.prompt.endswith("Solution:") and problem.question == f"x{problem.gold}?"
    assert len(problem.solutions) + problem.dropped == 6
    for solution in problem.solutions:
        assert solution.correct == (solution.answer == problem.gold) == (solution.labels[-1] == 1.0)
        assert all(8 * label == int(8 * label) for label in solution.labels)
    saving = problem.saving
    assert saving is not None and saving.rollouts == 8 * saving.prefixes
    assert problem.usage.generations == 6 + saving.rollouts
    assert (problem.usage.decode_tokens or 0) <= saving.decode_tokens
    assert (problem.usage.prefill_tokens or 0) < saving.prefill_tokens


def test_killed_and_resumed_gives_the_labels_of_an_uninterrupted_run(
    policy: Path, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    command = [TTS_EVAL, *arguments(policy, problems, killed)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not killed.exists() or len(read_labels(killed)[1]) < 2:
        assert running.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = read_labels(killed)[1]
    assert 2 <= len(before) < 10

    assert main(arguments(policy, problems, killed)) == 0
    resumed = capsys.readouterr()
    assert f"holds {len(before)} problems already" in resumed.err
    assert main(arguments(policy, problems, whole)) == 0
    uninterrupted = capsys.readouterr()

    assert read_labels(killed)[1][: len(before)] == before
    assert without_usage(killed) == without_usage(whole) and len(without_usage(whole)) == 10
    run, found = read_labels(whole)
    assert run is not None and run["split"] == "test" and run["step_delimiter"] == "\n" and run["max_tokens"] == 48
    assert run["tokenizer"] == vocabulary_hash(PreTrainedTokenizerFast.from_pretrained(policy))
    assert "no split 'train'" in uninterrupted.err
    for problem in found:
        check(problem)
    assert len({label for problem in found for s in problem.solutions for label in s.labels}) > 3
    assert "10 problems, 60 solutions" in uninterrupted.out and "with nothing shared" in uninterrupted.out
    assert resumed.out.splitlines()[:2] == uninterrupted.out.splitlines()[:2]


def test_a_longer_limit_goes_on_and_other_arguments_or_data_are_refused(
    policy: Path, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "labels.jsonl"
    for limit in (1, 2):
        assert main(arguments(policy, problems, output, "--split", "test", "--limit", str(limit))) == 0
        assert len(read_labels(output)[1]) == limit
    assert "no split" not in capsys.readouterr().err
    assert main(arguments(policy, problems, output, "--rollouts", "2")) == 1
    assert "rollouts is 8 there and 2 here" in capsys.readouterr().err
    other = tmp_path / "other.jsonl"
    other.write_text(problems.read_text().replace("x1?", "changed"))
    assert main(arguments(policy, other, output)) == 1
    assert "problem t/1 had another prompt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tasks", "tts_math50"], "did you mean 'tts_math500'?"),
        (["--tasks", "tts_math"], "is a group: label one of its tasks"),
        (["--split", "train"], "--split train: tts_math500 has test"),
        (["--model_args", "base=dummy"], "rollouts go on from partial solutions: use base=hf"),
        (["--model_args", "base=hf,pretrained=x,temprature=1"], "did you mean temperature=?"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    policy: Path, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    output = tmp_path / "labels.jsonl"
    assert main(arguments(policy, problems, output, *more)) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tts-eval: ")]
    assert message in line
    assert not output.exists()
