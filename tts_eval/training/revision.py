"""From pairs of attempts to a model that revises, on disk (section 4)."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from tqdm import tqdm
from transformers import AutoModelForCausalLM

from tts_eval.revision import SEPARATOR
from tts_eval.search.revise import WINDOW
from tts_eval.training.backbone import Backbone, load_language_model, publish, quiet
from tts_eval.training.checkpoints import Checkpoints
from tts_eval.training.choice import Candidate, choose, past_minimum, write_choice
from tts_eval.training.config import RevisionConfig, RevisionResult
from tts_eval.training.curve import Evaluation, draw_curve
from tts_eval.training.data import hash_of, split_by_question
from tts_eval.training.loop import Trainer
from tts_eval.training.reviser import Reviser
from tts_eval.training.revision_card import write_revision_card
from tts_eval.training.revision_data import (
    RevisionData,
    RevisionQuestion,
    RevisionRun,
    encode_pairs,
    keep_some,
    read_revision_data,
)
from tts_eval.training.start import Sides, devices, identity, require_free, require_same_tokenizer, sides
from tts_eval.training.trial import Trial
from tts_eval.types import TtsEvalError


def train_revision(config: RevisionConfig) -> RevisionResult:
    """Trains a model to revise its attempts, and writes it to `config.output` with its curve, choice and model card.

    The weights of every evaluation stay in `checkpoints`; the final ones are those of the evaluation, at the lowest
    held-out loss or after it, whose own chains on held-out questions are best. On a CPU the same settings give the
    same weights, whether the run was interrupted and resumed or not.

    Args:
        config: Decides everything.

    Raises:
        TtsEvalError: If data, backbone or output folder are refused, or a loss is no number.
    """
    require_free(config)
    data = read_revision_data(config.data, config.recipe)
    accelerator = devices(config)
    set_seed(config.seed)
    backbone = _backbone(config, data)
    questions = keep_some(data.questions, config.keep, config.seed)
    train, held_out = split_by_question(questions, config.validation)
    trial = _trial(config, data.run, held_out)
    # What can't be tried in the end is refused before anything is trained.
    trial.require_room(backbone)
    backbone.model.eval()
    trial.engine(backbone)
    settled = {"separator": trial.separator, "window": trial.window, "step_delimiter": data.run.step_delimiter}
    backbone.model.config.tts_eval = {"kind": "revision", **settled}
    found = _encode(backbone, (train, held_out), trial)
    accelerator.print(f"tts-eval train: {found.summary('pairs')}", file=sys.stderr)
    trainer = Trainer(config, accelerator, Reviser(backbone.model), found.train, found.held_out)
    checkpoints = Checkpoints(accelerator, config.output / "state", identity(config, settled, found))

    def keep(curve: Sequence[Evaluation]) -> None:
        publish(backbone.model, backbone.tokenizer, folder_of(config.output, curve[-1].step))

    curve = trainer.run(checkpoints, keep)
    candidates = _try_out(curve, config.output, trial, backbone, accelerator)
    chosen = choose(candidates)
    best = next(row for row in curve if row.step == chosen.step)
    counts = len(found.train), len(found.held_out), found.too_long
    result = RevisionResult(config.output, curve, best, *counts, candidates)
    if accelerator.is_main_process:
        shutil.copytree(folder_of(config.output, chosen.step), config.output, dirs_exist_ok=True)
        write_choice(candidates, chosen, config.output / "choice.csv")
        draw_curve(curve, chosen.step, config.output / "curve.png", "loss a token")
        write_revision_card(config, trial, result)
        checkpoints.remove()
    accelerator.wait_for_everyone()
    return result


def folder_of(output: Path, step: int) -> Path:
    """Where the weights of an evaluation are kept."""
    return output / "checkpoints" / f"step-{step:06}"


def _backbone(config: RevisionConfig, data: RevisionData) -> Backbone:
    backbone = load_language_model(config.backbone, config.context)
    made_by = dict.fromkeys(config.data, data.run.tokenizer)
    require_same_tokenizer(config, made_by, "attempts", backbone.tokenizer)
    if backbone.tokenizer.eos_token_id is None:
        raise TtsEvalError(f"--backbone {config.backbone}: its tokenizer has no end token, so no revision would end")
    return backbone


def _trial(config: RevisionConfig, run: RevisionRun, held_out: Sequence[RevisionQuestion]) -> Trial:
    """What the user chose, else what the data were made with, else the paper's."""
    separator = next(text for text in (config.separator, run.separator, SEPARATOR) if text is not None)
    window = config.window or run.window or WINDOW
    if config.policy_length < 2:
        raise TtsEvalError("--policy_length 1: a chain without a revision says nothing of revisions; give 2 or more")
    distinct = {one.question: one for one in reversed(held_out)}  # several files may have the same one
    questions = sorted(distinct.values(), key=lambda one: hash_of(one.question))[: config.policy_questions]
    return Trial(questions, run, config.policy_chains, config.policy_length, window, separator, config.seed)


def _encode(backbone: Backbone, split: Sequence[Sequence[RevisionQuestion]], trial: Trial) -> Sides:
    both = [encode_pairs(part, backbone.tokenizer, separator=trial.separator, window=trial.window) for part in split]
    missing = "questions with a correct solution that the tokenizer can write"
    return sides(both, backbone.context, "pairs", missing, "raise it with --context, or lower --window")


def _try_out(
    curve: Sequence[Evaluation], output: Path, trial: Trial, backbone: Backbone, accelerator: Accelerator
) -> list[Candidate]:
    """Lets each candidate write chains. Every device does it, so that none waits for another longer than it may."""
    candidates = []
    bar = tqdm(past_minimum(curve), "try", unit="checkpoint", disable=not accelerator.is_main_process)
    for row in bar:
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(folder_of(output, row.step), dtype=torch.float32)
        engine = trial.engine(Backbone(model.to(accelerator.device).eval(), backbone.tokenizer))
        candidates.append(Candidate(row.step, row.validation_loss, trial.accuracies(engine)))
        bar.set_postfix_str(f"revised attempts correct {candidates[-1].revised:.3f}")
    return candidates
