"""The families of process and outcome verifiers, as data: how each is loaded, rendered, read and understood.

Adding one takes a line in `FORMATS`, and a function where it renders or scores like no other (see docs/verifiers.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from tts_eval.types import Problem
from tts_eval.verifiers import heads, rendering
from tts_eval.verifiers.reading import Reader
from tts_eval.verifiers.rendering import Rendered


Label = Literal["value", "correctness", "log_ratio", "outcome"]
"""What a score estimates: the chance that a solution ends right if it goes on from the step, whether the step itself is
right, a likelihood ratio of the solution so far, or whether the whole is right."""

Render = Callable[[Any, Problem, Sequence[str]], Rendered]
"""From (tokenizer, problem, steps) to tokens."""

Scoring = Callable[[torch.Tensor, Rendered], torch.Tensor]
"""From a sequence's outputs, [tokens, outputs], to the scores at the read positions, [scores]."""

OWN = "ours"
"""The format of verifiers from `tts-eval train`."""

_IMPLICIT_SCALE = 0.001  # the beta with which the public implicit reward models are read


@dataclass(frozen=True, slots=True)
class Format:
    """One family.

    Attributes:
        name: Its name.
        label: What its scores estimate.
        aggregation: What turns step scores into one score unless the user says otherwise (section 2).
        load: Loads its model.
        render: Renders a solution.
        scores: Reads the scores.
        history: Whether its models were trained with earlier attempts in their context (section 4).
        step_delimiter: What ended the steps that its model was trained on; None where the family doesn't say.
    """

    name: str
    label: Label
    aggregation: str
    load: Callable[[heads.Checkpoint], Reader]
    render: Render
    scores: Scoring
    history: bool = False
    step_delimiter: str | None = None

    @property
    def kind(self) -> Literal["process", "outcome"]:
        """Whether there is a score for each step, or one for the whole."""
        return "outcome" if self.label == "outcome" else "process"


def first_of_two(outputs: torch.Tensor, rendered: Rendered) -> torch.Tensor:
    """Probability of the first of two outputs."""
    return outputs[list(rendered.positions)].softmax(-1)[:, 0]


def second_of_two(outputs: torch.Tensor, rendered: Rendered) -> torch.Tensor:
    """Probability of the second of two outputs.

    PURE's own reward is that less the probability of the first, `2 p - 1`: the same order, but votes want positive
    weights.
    """
    return outputs[list(rendered.positions)].softmax(-1)[:, 1]


def sigmoid(outputs: torch.Tensor, rendered: Rendered) -> torch.Tensor:
    """The only output as a logit."""
    return outputs[list(rendered.positions), 0].sigmoid()


def sigmoid_or_second(outputs: torch.Tensor, rendered: Rendered) -> torch.Tensor:
    """The only output as a logit, or the probability of the second of two."""
    return (sigmoid if outputs.shape[1] == 1 else second_of_two)(outputs, rendered)


def scaled_log_ratio(outputs: torch.Tensor, rendered: Rendered) -> torch.Tensor:
    """The log-ratio of the solution so far, scaled, as a logit: votes want positive weights."""
    ratios = outputs[rendered.start :, 0].cumsum(0)
    return (_IMPLICIT_SCALE * ratios[[position - rendered.start for position in rendered.positions]]).sigmoid()


_tagged = partial(rendering.render_tagged, tag="ки")
_turns = rendering.render_turns
_lines = rendering.render_lines
_marked = partial(rendering.render_marked_chat, mark="<extra_0>", system=None)
_instructed = partial(_marked, system="Please reason step by step, and put your final answer within \\boxed{}.")
_numbered = rendering.render_numbered_chat
_blank_lines = partial(rendering.render_separated, separator="\n\n", start_token=False)
_newlines = partial(rendering.render_separated, separator="\n", start_token=True)
_answer = rendering.render_answer

FORMATS = {
    family.name: family
    for family in (
        Format("math-shepherd", "value", "min", heads.plus_minus, _tagged, first_of_two),
        Format("rlhflow-deepseek", "value", "mean", heads.plus_minus, _turns, first_of_two),
        Format("rlhflow-mistral", "value", "mean", heads.plus_minus, _turns, first_of_two),
        Format("skywork", "value", "last", heads.value_head, _lines, sigmoid),
        Format("qwen-prm", "correctness", "prod", heads.qwen_prm, _instructed, second_of_two),
        Format("reasonflux", "value", "last", heads.qwen_prm, _marked, second_of_two),
        Format("implicit", "log_ratio", "min", heads.log_ratio, _numbered, scaled_log_ratio),
        Format("pure", "correctness", "min", heads.two_labels, _blank_lines, second_of_two),
        Format("trl", "value", "last", heads.two_labels, _newlines, second_of_two),
        Format("sequence-classifier", "outcome", "last", heads.sequence_classifier, _answer, sigmoid_or_second),
    )
}
"""The public families by name. Those that we train say themselves how they are read: see `own_format`."""


def own_format(
    kind: Literal["prm", "orm"], delimiter: str, likelihood: float | None = None, *, history: bool = False
) -> Format:
    """How a verifier of `tts-eval train` is read.

    Args:
        kind: Whether it was trained on the values of steps, or on outcomes.
        delimiter: What ends a step.
        likelihood: Weight of the model's own log-probability of the solution so far; None if it wasn't trained with it.
        history: Whether it was trained with earlier attempts in its context.
    """

    def render(tokenizer: Any, problem: Problem, steps: Sequence[str]) -> Rendered:
        rendered = rendering.render_steps(tokenizer, problem.prompt, steps, delimiter)
        return rendered if kind == "prm" else replace(rendered, positions=rendered.positions[-1:])

    def with_likelihood(outputs: torch.Tensor, rendered: Rendered) -> torch.Tensor:
        # By way of numpy: a search asks this of each prefix, and torch takes longer to begin than to add up.
        read = outputs.numpy()[rendered.start :]  # [tokens, 2]
        at = np.array(rendered.positions) - rendered.start
        logits = read[at, 0] + (likelihood or 0.0) * read[:, 1].cumsum(dtype=np.float64)[at]
        return torch.from_numpy(logits).sigmoid()

    label: Label = "value" if kind == "prm" else "outcome"
    load, scores = (
        (heads.one_label, sigmoid) if likelihood is None else (heads.one_label_and_likelihood, with_likelihood)
    )
    return Format(OWN, label, "last", load, render, scores, history, delimiter)
