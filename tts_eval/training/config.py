"""What decides a training run, and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tts_eval.training.batches import Kind
from tts_eval.training.choice import Candidate
from tts_eval.training.curve import Evaluation
from tts_eval.training.data import PROMPT
from tts_eval.training.revision_data import Keep, Recipe


BETAS = (0.9, 0.95)
"""AdamW's (section 2). Its weight decay isn't stated there and is torch's default."""

MAX_GRADIENT_NORM = 1.0
"""Unstated in the paper."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What decides any training run; unless it says otherwise, a default is unstated in the paper.

    Attributes:
        kind: What is trained.
        backbone: Folder, .gguf file or hub name of the causal language model to start from: the policy's, or another
            one with its tokenizer.
        data: Files to train on.
        output: Folder for the model and its curve.
        epochs: Most passes over the data.
        optimizer: The paper's, or Muon for the matrices of the layers (see `optimizers_of`); small models need it.
        learning_rate: The highest.
        schedule: The learning rate falls to 0 over all steps, or stays.
        warmup: Share of all steps over which the learning rate rises.
        batch_size: Solutions a step, over all devices; the paper's.
        batch_tokens: Most tokens, padding included, that a device holds at once: memory, no effect on the gradient.
        validation: Share of the questions that is held out.
        eval_every: Steps between evaluations; None takes a tenth of an epoch.
        patience: Evaluations without a lower validation loss after which training ends.
        max_steps: Most steps; None takes all of `epochs`.
        seed: Decides what is new in the model, the order of the data and dropout.
        any_tokenizer: Take files whose policy had another tokenizer.
        resume: Go on from the last checkpoint in `output`, if there is one.
    """

    NOUN: ClassVar[str]
    """What the result is called in messages."""

    kind: str
    backbone: str
    data: tuple[Path, ...]
    output: Path
    epochs: int = 2
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float
    schedule: Literal["linear", "constant"] = "linear"
    warmup: float = 0.05
    batch_size: int = 128
    batch_tokens: int = 8192
    validation: float = 0.1
    eval_every: int | None = None
    patience: int = 3
    max_steps: int | None = None
    seed: int = 0
    any_tokenizer: bool = False
    resume: bool = False

    def learning_rate_at(self, step: int, total: int) -> float:
        """The learning rate of a step, counted from 0, of `total`."""
        rise = min(1.0, (step + 1) / max(1.0, self.warmup * total))
        return self.learning_rate * rise * (1 - step / total if self.schedule == "linear" else 1.0)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(RunConfig):
    """The training of a verifier (section 2), on files of labelled steps or graded chains (`read_training_data`).

    Attributes:
        kind: A process or an outcome verifier.
        learning_rate: The paper's.
        dropout: Before the head and on attention weights; where the paper has it is unstated.
        likelihood: Whether the model's own likelihood of the solution so far is added to the head's logit with a
            learned weight (see `Scorer`); not in the paper.
        history: Whether the verifier sees the attempts that the policy saw (section 4); chain files only.
        step_delimiter: What ends a step; None takes that of the files, or a blank line where there are none.
        prompt: The prompt of published rows, with `{{problem}}` in it.
        neutral: The label of steps that humans rated neutral.
    """

    NOUN = "verifier"

    kind: Kind
    learning_rate: float = 3e-5
    dropout: float = 0.05
    likelihood: bool = False
    history: bool = False
    step_delimiter: str | None = None
    prompt: str = PROMPT
    neutral: float = 1.0


@dataclass(frozen=True, kw_only=True)
class RevisionConfig(RunConfig):
    """The training of a model to revise its attempts (section 4); dropout is 0, as in the paper.

    Attributes:
        learning_rate: The paper's.
        recipe: `pairs` is the paper's method and takes pair files; `rest-em` is its negative variant, which trains on
            the model's own chains and takes chain files.
        separator: What follows each attempt in a prompt; None takes that of the chain files, or `SEPARATOR`.
        window: How many attempts a prompt holds at most; None takes that of the chain files, or the paper's 4.
        context: Longest sequence that the model is to read, in tokens; None leaves it as it is.
        keep: Which attempts in contexts the target itself stands for, so that the model learns to keep it (`Keep`); 0
            is the paper's.
        policy_questions: How many held-out questions the candidates for the final model are compared on.
        policy_chains: Chains a question.
        policy_length: Attempts a chain.
    """

    NOUN = "revision model"

    kind: Literal["revision"] = "revision"
    learning_rate: float = 1e-5
    recipe: Recipe = "pairs"
    separator: str | None = None
    window: int | None = None
    context: int | None = None
    keep: Keep = 0.0
    policy_questions: int = 64
    policy_chains: int = 2
    policy_length: int = 5


@dataclass(frozen=True)
class TrainingResult:
    """A finished training run.

    Attributes:
        output: Folder of the model.
        curve: All evaluations.
        best: The one whose weights were kept.
        solutions: How many were trained on, or pairs.
        held_out: How many were validated on.
        too_long: How many were left out because the backbone's context is shorter.
    """

    output: Path
    curve: Sequence[Evaluation]
    best: Evaluation
    solutions: int
    held_out: int
    too_long: int


@dataclass(frozen=True)
class RevisionResult(TrainingResult):
    """The same of a revision model.

    Attributes:
        candidates: The checkpoints that were tried on chains of their own.
    """

    candidates: Sequence[Candidate]
