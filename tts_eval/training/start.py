"""What every training run checks and settles before it starts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from tts_eval.engines.tokens import vocabulary_hash
from tts_eval.training.batches import Encoded
from tts_eval.training.card import CARD
from tts_eval.training.config import RunConfig
from tts_eval.types import TtsEvalError


_NOT_IDENTITY = ("data", "output", "batch_tokens", "resume", "any_tokenizer")
"""Settings that may differ when a run is resumed; of the data their content counts instead."""


class Sides(NamedTuple):
    """What to train on, what to validate on, and how many examples are too long for either."""

    train: list[Encoded]
    held_out: list[Encoded]
    too_long: int

    def summary(self, unit: str) -> str:
        """One line for the user; `unit` is what an example is called."""
        of_questions = [len({example.question for example in part}) for part in (self.train, self.held_out)]
        text = (
            f"{len(self.train):,} {unit} of {of_questions[0]:,} questions to train on, {len(self.held_out):,} of "
            f"{of_questions[1]:,} to validate on"
        )
        return f"{text}; {self.too_long:,} longer than the backbone's context left out" if self.too_long else text


def sides(both: Sequence[Sequence[Encoded]], context: int, unit: str, missing: str, mend: str) -> Sides:
    """Leaves out what is too long.

    Args:
        both: What to train on, what to validate on.
        context: Of the backbone, in tokens.
        unit: What an example is called.
        missing: What there is too little of if nothing was left out and yet nothing is there.
        mend: What to do if all are too long.

    Raises:
        TtsEvalError: If either is left empty.
    """
    train, held_out = ([example for example in part if len(example.ids) <= context] for part in both)
    too_long = sum(map(len, both)) - len(train) - len(held_out)
    if train and held_out:
        return Sides(train, held_out, too_long)
    what = f"no {unit.removesuffix('s')} is left {'to validate on' if train else 'to train on'}"
    if too_long:
        raise TtsEvalError(f"{what}: {too_long} are longer than the backbone's context; {mend}")
    raise TtsEvalError(f"{what}: too few {missing} (docs/training.md has the formats)")


def require_free(config: RunConfig) -> None:
    """Refuses an output folder that something is in.

    Raises:
        TtsEvalError: Unless it is an unfinished run that is to go on.
    """
    if (config.output / CARD).exists():
        raise TtsEvalError(
            f"--output {config.output}: holds a finished {config.NOUN}; name another folder, or delete it"
        )
    if not config.resume and config.output.is_dir() and any(config.output.iterdir()):
        raise TtsEvalError(
            f"--output {config.output}: isn't empty; --resume goes on with an interrupted run, or name another folder"
        )


def devices(config: RunConfig) -> Accelerator:
    """What the run takes place on, as accelerate's settings have it.

    Raises:
        TtsEvalError: If it is to train two optimizers in fp16.
    """
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    # Both share one scale, so the gradients of the second would be divided by it twice.
    if config.optimizer == "muon" and accelerator.mixed_precision == "fp16":
        raise TtsEvalError(
            "--optimizer muon: can't train in fp16; set ACCELERATE_MIXED_PRECISION=bf16, or take --optimizer adamw"
        )
    return accelerator


def require_same_tokenizer(config: RunConfig, made_by: Mapping[Path, Any], what: str, tokenizer: Any) -> None:
    """Refuses files whose policy had another tokenizer than the backbone has.

    Args:
        config: May allow it.
        made_by: For each file the hash of its policy's tokenizer.
        what: What the policy made.
        tokenizer: The backbone's.

    Raises:
        TtsEvalError: Names the file.
    """
    here = vocabulary_hash(tokenizer)
    for path, there in made_by.items():
        if there != here and not config.any_tokenizer:
            raise TtsEvalError(
                f"{path}: its {what} were made by a policy with another tokenizer than {config.backbone} has; a "
                f"{config.NOUN} is tied to its policy: give that policy's model as --backbone, or --any_tokenizer"
            )


def identity(config: RunConfig, settled: Mapping[str, Any], found: Sides) -> dict[str, Any]:
    """What must be equal in a run that resumes another.

    Args:
        config: Its settings.
        settled: Those that the data decided.
        found: The data.
    """
    digest = hashlib.sha256()
    for example in (*found.train, *found.held_out):
        for array in (example.ids, example.ends, example.labels):
            digest.update(array.tobytes())
    settings = {key: value for key, value in asdict(config).items() if key not in _NOT_IDENTITY}
    return {**settings, **settled, "data": digest.hexdigest()}
