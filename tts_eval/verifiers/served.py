"""What verifiers share whose model an inference engine reads: rendered here, read there, by its outputs for tokens.

vLLM gives the probabilities of classes, of each token or of the last (docs/servers.md has which family is which).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from tts_eval.types import Prefix, Problem, TtsEvalError, Usage
from tts_eval.verifiers import heads
from tts_eval.verifiers.family import FamilyVerifier, finite_scores, rendered_whole
from tts_eval.verifiers.formats import OWN, Format
from tts_eval.verifiers.rendering import Rendered


Task = Literal["token_classify", "classify"]
"""What vLLM calls it: classes of every token (or of every step's), or of the last token."""

_TASKS: dict[str, Task] = {
    "qwen-prm": "token_classify",
    "reasonflux": "token_classify",
    "pure": "token_classify",
    "trl": "token_classify",
    OWN: "token_classify",
    "sequence-classifier": "classify",
}

_ROUNDING = 1e-2  # by which the probabilities of a token may miss 1: engines compute in bfloat16


def task_of(family: Format) -> Task:
    """How an inference engine reads a family.

    Raises:
        TtsEvalError: If it can't.
    """
    likelihood = family.load is heads.one_label_and_likelihood
    if family.name not in _TASKS or likelihood:
        own = "a verifier trained with --likelihood" if likelihood else f"format {family.name}"
        raise TtsEvalError(
            f"{own} needs more than the classes that vLLM gives for tokens: load the model here, verifier=folder or "
            f"name without verifier_engine=, or use a format that is served: {', '.join(_TASKS)}"
        )
    return _TASKS[family.name]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What an engine gives for one input.

    Attributes:
        rows: Class probabilities, for each token that was read out.
        read: Tokens of the input, or None where they aren't counted.
        cached: Those of them that it had read before.
    """

    rows: tuple[tuple[float, ...], ...]
    read: int | None
    cached: int


class ServedVerifier(FamilyVerifier):
    """Scores with an inference engine."""

    @abstractmethod
    def _outputs(self, sequences: Sequence[tuple[int, ...]]) -> list[Outputs]:
        """Has token ids read, none of them twice."""

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> list[tuple[tuple[float, ...], Usage]]:
        """See `Verifier.score`; equal solutions are read once, and the first of them is charged.

        Raises:
            TtsEvalError: If the engine refuses a solution or can't be reached, a step has no score of its own, or a
                score is no number.
        """
        started = time.monotonic()
        rendered = [rendered_whole(self._family, self._tokenizer, self.context, *item) for item in items]
        distinct = list(dict.fromkeys(one.ids for one in rendered if one.ids))
        answers = dict(zip(distinct, self._outputs(distinct) if distinct else (), strict=True))
        share = (time.monotonic() - started) / max(1, len(items))
        charged: set[tuple[int, ...]] = set()
        replies: list[tuple[tuple[float, ...], Usage]] = []
        for (problem, _), one in zip(items, rendered, strict=True):
            if not one.ids:
                replies.append(((), Usage(seconds=share)))
                continue
            answer = answers[one.ids]
            read = len(one.ids) if answer.read is None else answer.read
            reused = read if one.ids in charged else answer.cached
            charged.add(one.ids)
            cost = Usage(verifier_tokens=read - reused, reused_tokens=reused, seconds=share)
            replies.append((self._scores(problem, answer, one), cost))
        return replies

    def forget(self) -> None:
        """See `Verifier.forget`; what an engine keeps is its own."""

    def _scores(self, problem: Problem, answer: Outputs, rendered: Rendered) -> tuple[float, ...]:
        """Reads the rows at the rendered positions; with step pooling there are no others."""
        if len(answer.rows) not in (len(rendered.ids), len(rendered.positions)):
            raise TtsEvalError(
                f"problem {problem.uid}: the verifier's engine gives {len(answer.rows)} outputs for "
                f"{len(rendered.ids)} tokens with {len(rendered.positions)} read positions: serve the model with "
                "outputs for each token or step pooling, or name the right verifier_format="
            )
        if len(answer.rows) != len(rendered.ids):
            rendered = replace(rendered, positions=tuple(range(len(rendered.positions))))
        return finite_scores(self._family, problem, _logits(problem, answer.rows), rendered)


def _logits(problem: Problem, rows: Sequence[Sequence[float]]) -> torch.Tensor:
    """What gives these probabilities again by softmax, or by sigmoid where there is one class; [rows, outputs].

    Raises:
        TtsEvalError: If they are none.
    """
    outputs = torch.tensor(rows, dtype=torch.float64)
    sums = outputs.sum(-1) if outputs.shape[1] > 1 else torch.ones(len(rows))
    if outputs.shape[1] > 2 or outputs.min() < 0 or outputs.max() > 1 or (sums - 1).abs().max() > _ROUNDING:
        raise TtsEvalError(
            f"problem {problem.uid}: what the verifier's engine gives are no probabilities of one or two classes: "
            "serve it with its activation, as a classifier of one or two labels"
        )
    return outputs.log() if outputs.shape[1] == 2 else outputs.logit()
