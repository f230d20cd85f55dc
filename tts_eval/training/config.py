"""What decides a training run, and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tts_eval.training.batches import Kind
from tts_eval.training.curve import Evaluation
from tts_eval.training.data import PROMPT


BETAS = (0.9, 0.95)
"""AdamW's (section 2). Its weight decay isn't stated there and is torch's default."""

MAX_GRADIENT_NORM = 1.0
"""Unstated in the paper."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A training run; the defaults are the paper's (section 2) except where it says that they are unstated there.

    Attributes:
        kind: A process or an outcome verifier.
        backbone: Folder, .gguf file or hub name of the causal language model to start from: the policy's, or another
            one with its tokenizer.
        data: Files of labelled steps, see `read_training_data`.
        output: Folder for the verifier and its curve.
        epochs: Most passes over the data; unstated.
        optimizer: The paper's, or Muon for the matrices of the layers (see `optimizers_of`); small models need it.
        learning_rate: The highest.
        schedule: The learning rate falls to 0 over all steps, or stays; unstated.
        warmup: Share of all steps over which the learning rate rises; unstated.
        batch_size: Solutions a step, over all devices.
        batch_tokens: Most tokens, padding included, that a device holds at once: memory, no effect on the gradient.
        dropout: Before the head and on attention weights; where the paper has it is unstated.
        validation: Share of the questions that is held out.
        eval_every: Steps between evaluations; None takes a tenth of an epoch. Unstated.
        patience: Evaluations without a lower validation loss after which training ends; unstated.
        max_steps: Most steps; None takes all of `epochs`.
        likelihood: Whether the model's own likelihood of the solution so far is added to the head's logit with a
            learned weight (see `Scorer`); not in the paper.
        seed: Decides the head, the order of the data and dropout.
        step_delimiter: What ends a step; None takes that of the label files, or a blank line where there are none.
        prompt: The prompt of published rows, with `{{problem}}` in it.
        neutral: The label of steps that humans rated neutral.
        any_tokenizer: Take label files whose policy had another tokenizer.
        resume: Go on from the last checkpoint in `output`, if there is one.
    """

    kind: Kind
    backbone: str
    data: tuple[Path, ...]
    output: Path
    epochs: int = 2
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 3e-5
    schedule: Literal["linear", "constant"] = "linear"
    warmup: float = 0.05
    batch_size: int = 128
    batch_tokens: int = 8192
    dropout: float = 0.05
    validation: float = 0.1
    eval_every: int | None = None
    patience: int = 3
    max_steps: int | None = None
    likelihood: bool = False
    seed: int = 0
    step_delimiter: str | None = None
    prompt: str = PROMPT
    neutral: float = 1.0
    any_tokenizer: bool = False
    resume: bool = False

    def learning_rate_at(self, step: int, total: int) -> float:
        """The learning rate of a step, counted from 0, of `total`."""
        rise = min(1.0, (step + 1) / max(1.0, self.warmup * total))
        return self.learning_rate * rise * (1 - step / total if self.schedule == "linear" else 1.0)


@dataclass(frozen=True)
class TrainingResult:
    """A finished training run.

    Attributes:
        output: Folder of the verifier, for `tts_eval.verifiers.load_verifier`.
        curve: All evaluations.
        best: The one whose weights were kept.
        solutions: How many were trained on.
        held_out: How many were validated on.
        too_long: How many were left out because the backbone's context is shorter.
    """

    output: Path
    curve: Sequence[Evaluation]
    best: Evaluation
    solutions: int
    held_out: int
    too_long: int
