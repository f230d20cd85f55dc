"""Several devices, played by processes on the CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import makers
import numpy as np
import torch
from safetensors.torch import load_file

from tts_eval.cli import main


TTS_EVAL = str(Path(sys.executable).with_name("tts-eval"))
ACCELERATE = str(Path(sys.executable).with_name("accelerate"))


def test_two_devices_take_the_same_steps_as_one(tmp_path: Path) -> None:
    config = makers.config(tmp_path)
    options = "--batch_size 33 --learning_rate 3e-3 --max_steps 3 --dropout 0 --eval_every 2"
    train = ["train", "prm", "--backbone", config.backbone, "--data", str(config.data[0]), *options.split(), "--output"]
    assert main([*train, str(tmp_path / "one")]) == 0
    launch = "launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    command = [ACCELERATE, *launch.split(), "--main_process_port", "0", "--no_python", TTS_EVAL, *train]
    done = subprocess.run([*command, str(tmp_path / "two")], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(first[key], second[key], atol=1e-4) for key in first)
    one, two = (np.loadtxt(tmp_path / name / "curve.csv", delimiter=",", skiprows=1) for name in ("one", "two"))
    assert one[:, 0].tolist() == [2, 3]
    np.testing.assert_allclose(one, two, atol=1e-4)
