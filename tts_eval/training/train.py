"""From files of labelled steps to a verifier on disk (section 2)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from accelerate.utils import set_seed

from tts_eval.training.backbone import Backbone, backbone_of, load_backbone, publish
from tts_eval.training.batches import encode
from tts_eval.training.card import write_card
from tts_eval.training.checkpoints import Checkpoints
from tts_eval.training.config import TrainingConfig, TrainingResult
from tts_eval.training.curve import Evaluation, draw_curve
from tts_eval.training.data import TrainingData, read_training_data, split_by_question
from tts_eval.training.loop import Trainer, since_best
from tts_eval.training.scorer import Scorer
from tts_eval.training.start import Sides, devices, identity, require_free, require_same_tokenizer, sides
from tts_eval.types import Decoding, TtsEvalError


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
    require_free(config)
    data = read_training_data(config.data, prompt=config.prompt, neutral=config.neutral, history=config.history)
    accelerator = devices(config)
    set_seed(config.seed)
    if policy is None:
        backbone = load_backbone(config.backbone, config.dropout)
    else:
        backbone = backbone_of(*policy, config.dropout)
    made_by = {path: run.get("tokenizer") for path, run in data.headers.items()}
    require_same_tokenizer(config, made_by, "labels", backbone.tokenizer)
    delimiter = config.step_delimiter or _delimiter_of(data)
    backbone.model.config.tts_eval = {"kind": config.kind, "step_delimiter": delimiter}
    if config.history:
        backbone.model.config.tts_eval["history"] = True
    found = _encode(config, data, backbone, delimiter)
    for note in (*data.notes, found.summary("solutions")):
        accelerator.print(f"tts-eval train: {note}", file=sys.stderr)
    scorer = Scorer(backbone.model, config.likelihood)
    trainer = Trainer(config, accelerator, scorer, found.train, found.held_out)
    set_seed(config.seed, device_specific=True)  # dropout, of its own on each device
    run = identity(config, {"step_delimiter": delimiter}, found)
    checkpoints = Checkpoints(accelerator, config.output / "checkpoints", run)

    def keep(curve: Sequence[Evaluation]) -> None:
        if since_best(curve) == 0:
            scorer.settle()
            publish(scorer.network, backbone.tokenizer, config.output)

    curve = trainer.run(checkpoints, keep)
    best = curve[-1 - since_best(curve)]
    result = TrainingResult(config.output, curve, best, len(found.train), len(found.held_out), found.too_long)
    if accelerator.is_main_process:
        draw_curve(curve, best.step, config.output / "curve.png", "binary cross-entropy")
        write_card(config, delimiter, result)
        checkpoints.remove()
    accelerator.wait_for_everyone()
    return result


def _delimiter_of(data: TrainingData) -> str:
    found = {str(run["step_delimiter"]) for run in data.headers.values() if "step_delimiter" in run}
    if len(found) > 1:
        raise TtsEvalError(
            f"the label files have different step delimiters ({', '.join(map(repr, sorted(found)))}): choose one with "
            "--step_delimiter"
        )
    return found.pop() if found else Decoding().step_delimiter


def _encode(config: TrainingConfig, data: TrainingData, backbone: Backbone, delimiter: str) -> Sides:
    split = split_by_question(data.examples, config.validation)
    both = [encode(part, backbone.tokenizer, config.kind, delimiter) for part in split]
    missing = "steps with labels" if config.kind == "prm" else "solutions of which it is known whether they end right"
    mend = "take one with a longer context, or make labels with a lower --max_tokens"
    return sides(both, backbone.context, "solutions", missing, mend)
