"""Checkpoints of a training run: what `resume` goes on from."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from tts_eval.schema import from_json
from tts_eval.training.curve import Evaluation
from tts_eval.types import TtsEvalError


_PROGRESS = "progress.json"

# Each save of a model whose output layer is its input embeddings would warn that they are stored once.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)


class Checkpoints:
    """The checkpoints in a folder, of which the last whole one is kept.

    Args:
        accelerator: Holds model and optimizer.
        folder: Where they go.
        run: What must be equal in the run that resumes, as JSON values.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, run: Mapping[str, Any]):
        self._accelerator = accelerator
        self._folder = folder
        self._run = json.loads(json.dumps(run))

    def save(self, curve: Sequence[Evaluation]) -> None:
        """Writes a checkpoint, then drops those before it. To be called on all devices.

        Raises:
            TtsEvalError: If the disk refuses.
        """
        new = self._folder / "new"
        try:
            self._accelerator.save_state(str(new))
            if self._accelerator.is_main_process:
                progress = {"run": self._run, "curve": [asdict(row) for row in curve]}
                (new / _PROGRESS).write_text(json.dumps(progress), encoding="utf-8")
                older = self._whole()
                os.replace(new, self._folder / f"step-{curve[-1].step:08}")
                for folder in older:
                    shutil.rmtree(folder)
        except OSError as error:
            raise TtsEvalError(f"{self._folder}: {error.strerror}; free space and go on with --resume") from error
        self._accelerator.wait_for_everyone()

    def load(self) -> list[Evaluation]:
        """Restores model, optimizer and random states from the last checkpoint.

        Returns:
            The curve so far; empty if there is no checkpoint.

        Raises:
            TtsEvalError: If another run wrote it.
        """
        if not self._whole():
            return []
        folder = self._whole()[-1]
        progress = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
        there = progress["run"]
        differing = [key for key in {**there, **self._run} if there.get(key) != self._run.get(key)]
        if differing:
            shown = ", ".join(f"{key} is {there.get(key)!r} there and {self._run.get(key)!r} here" for key in differing)
            raise TtsEvalError(
                f"{folder}: written by another run ({shown}); use its arguments, or name another --output"
            )
        self._accelerator.load_state(str(folder))
        return [from_json(Evaluation, row) for row in progress["curve"]]

    def remove(self) -> None:
        """Drops all checkpoints."""
        if self._accelerator.is_main_process:
            shutil.rmtree(self._folder)

    def _whole(self) -> list[Path]:
        return sorted(self._folder.glob("step-*"))
