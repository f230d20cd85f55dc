"""The literal `tts-eval train` command: trained, killed, resumed, on two devices, refused."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import makers
import pytest
import torch
from safetensors.torch import load_file

from tts_eval.cli import main
from tts_eval.commands import train
from tts_eval.training import RevisionConfig, TrainingConfig
from tts_eval.training.config import RunConfig
from tts_eval.training.data import PROMPT
from tts_eval.verifiers import load_verifier


TTS_EVAL = str(Path(sys.executable).with_name("tts-eval"))


def arguments(folder: Path, output: str, *more: str) -> list[str]:
    config = makers.config(folder)
    options = {"--backbone": config.backbone, "--data": str(config.data[0]), "--output": str(folder / output)}
    steps = ("--batch_size", "32", "--eval_every", "4", "--learning_rate", "3e-3")
    return ["train", "prm", *(word for pair in options.items() for word in pair), *steps, *more]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_it_trains_and_goes_on_after_a_kill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, "whole", "--epochs", "8")) == 0
    said = capsys.readouterr()
    assert re.search(r"whole: step \d+ kept, validation loss 0\.\d+, AUROC within questions [01]\.\d+\n$", said.out)
    assert "288 solutions of 36 questions to train on, 32 of 4 to validate on" in said.err

    killed = [TTS_EVAL, *arguments(tmp_path, "killed", "--epochs", "8", "--resume")]
    with subprocess.Popen(killed, stderr=subprocess.DEVNULL) as process:
        while not list((tmp_path / "killed" / "checkpoints").glob("step-*")):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    assert not (tmp_path / "killed" / "README.md").exists()
    assert main(killed[1:]) == 0
    first, second = (weights(tmp_path / name) for name in ("whole", "killed"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert load_verifier(str(tmp_path / "killed")).kind == "process"


def test_an_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, "taken", "--max_steps", "1")) == 0
    assert main(arguments(tmp_path, "taken", "--max_steps", "1")) == 1
    assert "holds a finished verifier" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("kind", "config"), [("orm", TrainingConfig), ("revision", RevisionConfig)])
def test_help_tells_the_defaults(kind: str, config: type[RunConfig]) -> None:
    """They are written out there, so that --help need not import torch."""
    parser = argparse.ArgumentParser()
    train.configure(parser)
    (kinds,) = (action.choices for action in parser._actions if action.dest == "kind")
    shown = {
        action.dest: str(action.help).rpartition("; ")[2] for action in kinds[kind]._actions if not action.required
    }
    defaults = {field.name: field.default for field in fields(config) if field.name in shown}
    assert defaults.keys() == shown.keys() - {"help"}
    for name, default in defaults.items():
        if isinstance(default, (int, float)) and not isinstance(default, bool):
            assert float(shown[name]) == default, name
        elif isinstance(default, str) and name != "prompt":
            assert shown[name] == default, name


def test_options_become_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def record(config: TrainingConfig) -> None:
        seen.append(config)
        raise SystemExit

    monkeypatch.setattr("tts_eval.training.train_verifier", record)
    with pytest.raises(SystemExit):
        main(["train", "orm", "--backbone", "b", "--data", "x", "y", "--output", "o", "--step_delimiter", r"\n"])
    plain = TrainingConfig(kind="orm", backbone="b", data=(Path("x"), Path("y")), output=Path("o"), step_delimiter="\n")
    assert seen == [plain] and plain.prompt == PROMPT


@pytest.mark.parametrize("option", [("--epochs", "0"), ("--dropout", "2"), ("--neutral", "x")])
def test_options_that_make_no_sense(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "prm", "--backbone", "b", "--data", "d", "--output", "o", *option])
    assert stopped.value.code == 2 and option[0] in capsys.readouterr().err
