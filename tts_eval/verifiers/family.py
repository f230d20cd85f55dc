"""What all verifiers of a family share: what they say of themselves, and one score a step, or an error."""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol

import torch

from tts_eval.types import Prefix, Problem, TtsEvalError, Verifier
from tts_eval.verifiers.formats import Format, Label
from tts_eval.verifiers.rendering import Rendered


class LoadedVerifier(Verifier, Protocol):
    """A verifier that says beforehand how it reads.

    Attributes:
        context: Most tokens that it reads; None where only whoever reads knows.
        step_delimiter: What ended the steps that it was trained on; None where that isn't known.
    """

    @property
    def context(self) -> int | None: ...  # noqa: D102

    @property
    def step_delimiter(self) -> str | None: ...  # noqa: D102

    def length(self, problem: Problem, prefix: Prefix) -> int:
        """Tokens of problem and solution, as they would be read."""


class FamilyVerifier:
    """What a verifier is, by its family.

    Args:
        family: The family.
        tokenizer: The verifier's tokenizer.
        context: Most tokens that it reads; None leaves it to whoever reads.
    """

    def __init__(self, family: Format, tokenizer: Any, context: int | None):
        self._family = family
        self._tokenizer = tokenizer
        self.context = context

    @property
    def kind(self) -> Literal["process", "outcome"]:
        """See `Verifier`."""
        return self._family.kind

    @property
    def aggregation(self) -> str:
        """See `Verifier`."""
        return self._family.aggregation

    @property
    def history(self) -> bool:
        """See `Verifier`."""
        return self._family.history

    @property
    def label(self) -> Label:
        """What a score estimates."""
        return self._family.label

    @property
    def step_delimiter(self) -> str | None:
        """See `LoadedVerifier`."""
        return self._family.step_delimiter

    def length(self, problem: Problem, prefix: Prefix) -> int:
        """See `LoadedVerifier`."""
        return len(rendered_whole(self._family, self._tokenizer, None, problem, prefix).ids)


def rendered_whole(family: Format, tokenizer: Any, context: int | None, problem: Problem, prefix: Prefix) -> Rendered:
    """The tokens of a solution up to the last that is read: what follows makes no difference to it.

    Args:
        family: How it is rendered.
        tokenizer: The verifier's.
        context: Most tokens that the verifier reads; None leaves it to whoever reads.
        problem: The problem.
        prefix: The solution; one without any step is nothing to a process verifier.

    Raises:
        TtsEvalError: If not every step has a token of its own to be read at, or the context is too short.
    """
    steps = prefix.steps or ("",) * (family.kind == "outcome")
    if not steps:
        return Rendered((), ())
    rendered = family.render(tokenizer, problem, steps)
    expected = len(steps) if family.kind == "process" else 1
    if len(rendered.positions) != expected:
        raise TtsEvalError(
            f"problem {problem.uid}: format {family.name} finds the ends of {len(rendered.positions)} steps "
            f"in the tokens of a solution with {expected}: its text holds what marks a step's end, or "
            "verifier_format= names the wrong format"
        )
    ids = rendered.ids[: rendered.positions[-1] + 1]
    if context is not None and len(ids) > context:
        raise TtsEvalError(
            f"problem {problem.uid}: question and solution have {len(ids)} tokens, but the verifier's context is "
            f"{context} and nothing is cut: lower max_gen_toks in --gen_kwargs, use fewer few-shot "
            "examples (--num_fewshot), or another verifier"
        )
    return Rendered(ids, rendered.positions, rendered.start)


def finite_scores(family: Format, problem: Problem, outputs: torch.Tensor, rendered: Rendered) -> tuple[float, ...]:
    """The scores of a solution, in float64: in float32 all that is better than one in 10^7 would be 1, and tie.

    Args:
        family: How they are made.
        problem: The problem.
        outputs: Of each token, [tokens, outputs].
        rendered: The tokens.

    Raises:
        TtsEvalError: If one is no number.
    """
    scores = tuple(family.scores(outputs.double(), rendered).tolist())
    if not all(map(math.isfinite, scores)):
        raise TtsEvalError(
            f"the verifier's scores of problem {problem.uid} are no numbers: its weights are broken, or overflow in "
            "their type (try verifier_dtype=float32)"
        )
    return scores
