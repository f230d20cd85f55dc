"""From files of labelled steps to a verifier on disk (section 2)."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed

from tts_eval.engines.tokens import vocabulary_hash
from tts_eval.training.backbone import Backbone, backbone_of, load_backbone
from tts_eval.training.batches import Encoded, encode
from tts_eval.training.card import CARD, write_card
from tts_eval.training.checkpoints import Checkpoints
from tts_eval.training.config import TrainingConfig, TrainingResult
from tts_eval.training.curve import draw_curve
from tts_eval.training.data import TrainingData, read_training_data, split_by_question
from tts_eval.training.loop import Trainer, since_best
from tts_eval.types import Decoding, TtsEvalError


_NOT_IDENTITY = ("data", "output", "batch_tokens", "resume", "any_tokenizer")
"""Settings that may differ when a run is resumed; of the data their content counts instead."""


def train_verifier(config: TrainingConfig, policy: tuple[Any, Any] | None = None) -> TrainingResult:
    """Trains a process or outcome verifier and writes it to `config.output`, with its curve and a model card.

    On a CPU the same settings give the same weights, whether the run was interrupted and resumed or not.

    Args:
        config: Decides everything.
        policy: A causal language model in memory and its tokenizer, to start from instead of loading
            `config.backbone`, which then only names it.

    Raises:
        TtsEvalError: If data, backbone or output folder are refused, or a loss is no number.
    """
    _require_free(config)
    data = read_training_data(config.data, prompt=config.prompt, neutral=config.neutral)
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    set_seed(config.seed)
    if policy is None:
        backbone = load_backbone(config.backbone, config.dropout)
    else:
        backbone = backbone_of(*policy, config.dropout)
    if not config.any_tokenizer:
        _require_same_tokenizer(config, data, backbone)
    delimiter = config.step_delimiter or _delimiter_of(data)
    backbone.model.config.tts_eval = {"kind": config.kind, "step_delimiter": delimiter}
    train, held_out, too_long = _encode(config, data, backbone, delimiter)
    for note in (*data.notes, _summary(train, held_out, too_long)):
        accelerator.print(f"tts-eval train: {note}", file=sys.stderr)
    trainer = Trainer(config, accelerator, backbone, train, held_out)
    set_seed(config.seed, device_specific=True)  # dropout, of its own on each device
    checkpoints = Checkpoints(accelerator, config.output / "checkpoints", _identity(config, delimiter, train, held_out))
    curve = trainer.run(checkpoints)
    result = TrainingResult(config.output, curve, curve[-1 - since_best(curve)], len(train), len(held_out), too_long)
    if accelerator.is_main_process:
        draw_curve(curve, result.best.step, config.output / "curve.png")
        write_card(config, delimiter, result)
        checkpoints.remove()
    accelerator.wait_for_everyone()
    return result


def _require_free(config: TrainingConfig) -> None:
    if (config.output / CARD).exists():
        raise TtsEvalError(f"--output {config.output}: holds a finished verifier; name another folder, or delete it")
    if not config.resume and config.output.is_dir() and any(config.output.iterdir()):
        raise TtsEvalError(
            f"--output {config.output}: isn't empty; --resume goes on with an interrupted run, or name another folder"
        )


def _require_same_tokenizer(config: TrainingConfig, data: TrainingData, backbone: Backbone) -> None:
    here = vocabulary_hash(backbone.tokenizer)
    for path, run in data.headers.items():
        if run.get("tokenizer") != here:
            raise TtsEvalError(
                f"{path}: its labels were made by a policy with another tokenizer than {config.backbone} has; a "
                "verifier is tied to its policy (section 2): give that policy's model as --backbone, or --any_tokenizer"
            )


def _delimiter_of(data: TrainingData) -> str:
    found = {str(run["step_delimiter"]) for run in data.headers.values() if "step_delimiter" in run}
    if len(found) > 1:
        raise TtsEvalError(
            f"the label files have different step delimiters ({', '.join(map(repr, sorted(found)))}): choose one with "
            "--step_delimiter"
        )
    return found.pop() if found else Decoding().step_delimiter


def _encode(
    config: TrainingConfig, data: TrainingData, backbone: Backbone, delimiter: str
) -> tuple[list[Encoded], list[Encoded], int]:
    """What to train on, what to validate on, and how many solutions are too long for either."""
    split = split_by_question(data.examples, config.validation)
    both = [encode(part, backbone.tokenizer, config.kind, delimiter) for part in split]
    context = backbone.context or sys.maxsize
    train, held_out = ([example for example in part if len(example.ids) <= context] for part in both)
    too_long = sum(map(len, both)) - len(train) - len(held_out)
    if train and held_out:
        return train, held_out, too_long
    what = "to validate on" if train else "to train on"
    if too_long:
        raise TtsEvalError(
            f"no solution is left {what}: {too_long} are longer than the backbone's context; take one with a longer "
            "context, or make labels with a lower --max_tokens"
        )
    missing = "steps with labels" if config.kind == "prm" else "solutions of which it is known whether they end right"
    raise TtsEvalError(f"no solution is left {what}: too few {missing} (docs/training.md has the formats)")


def _summary(train: Sequence[Encoded], held_out: Sequence[Encoded], too_long: int) -> str:
    of_questions = [len({example.question for example in part}) for part in (train, held_out)]
    text = (
        f"{len(train):,} solutions of {of_questions[0]:,} questions to train on, {len(held_out):,} of "
        f"{of_questions[1]:,} to validate on"
    )
    return f"{text}; {too_long:,} longer than the backbone's context left out" if too_long else text


def _identity(
    config: TrainingConfig, delimiter: str, train: Sequence[Encoded], held_out: Sequence[Encoded]
) -> dict[str, Any]:
    digest = hashlib.sha256()
    for example in (*train, *held_out):
        for array in (example.ids, example.ends, example.labels):
            digest.update(array.tobytes())
    settings = {key: value for key, value in asdict(config).items() if key not in _NOT_IDENTITY}
    return {**settings, "step_delimiter": delimiter, "data": digest.hexdigest()}
