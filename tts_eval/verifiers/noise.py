"""A verifier that errs on purpose, to see how much of a method's gain survives a worse verifier."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from tts_eval.types import Prefix, Problem, TtsEvalError, Usage
from tts_eval.verifiers.family import LoadedVerifier
from tts_eval.verifiers.formats import Label


class NoisyVerifier:
    """Turns a share of another verifier's scores around: the best possible becomes the worst.

    Which ones depends on the seed, the problem and the text that is scored alone. So a step has the same score in any
    batch, in each solution that begins with it, and after a resume.

    Args:
        verifier: The verifier.
        share: Chance that a score is turned around, in [0, 1].
        seed: The run's seed.
        label: What the verifier's scores estimate.

    Raises:
        TtsEvalError: If the share is out of range.
    """

    def __init__(self, verifier: LoadedVerifier, *, share: float, seed: int, label: Label):
        if not 0 <= share <= 1:
            raise TtsEvalError(f"noise={share} must be a share of scores, from 0 to 1")
        self._verifier = verifier
        self._share = share
        self._seed = seed
        self._label = label

    @property
    def kind(self) -> Literal["process", "outcome"]:
        """See `Verifier`."""
        return self._verifier.kind

    @property
    def aggregation(self) -> str:
        """See `Verifier`."""
        return self._verifier.aggregation

    @property
    def history(self) -> bool:
        """See `Verifier`."""
        return self._verifier.history

    @property
    def label(self) -> Label:
        """What a score would estimate without noise."""
        return self._label

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> list[tuple[tuple[float, ...], Usage]]:
        """See `Verifier.score`."""
        replies = zip(items, self._verifier.score(items), strict=True)
        return [(self._turned(problem, prefix, scores), usage) for (problem, prefix), (scores, usage) in replies]

    def forget(self) -> None:
        """See `Verifier.forget`."""
        self._verifier.forget()

    @property
    def context(self) -> int | None:
        """See `LoadedVerifier`."""
        return self._verifier.context

    @property
    def step_delimiter(self) -> str | None:
        """See `LoadedVerifier`."""
        return self._verifier.step_delimiter

    def length(self, problem: Problem, prefix: Prefix) -> int:
        """See `LoadedVerifier`."""
        return self._verifier.length(problem, prefix)

    def _turned(self, problem: Problem, prefix: Prefix, scores: Sequence[float]) -> tuple[float, ...]:
        read = [len(prefix.steps)] if self.kind == "outcome" else range(1, len(scores) + 1)
        return tuple(
            1 - score if self._uniform(problem.uid, prefix.steps[:count]) < self._share else score
            for score, count in zip(scores, read, strict=True)
        )

    def _uniform(self, uid: str, steps: tuple[str, ...]) -> float:
        """A number in [0, 1) that depends on seed, problem and steps alone."""
        key = "\x1f".join((str(self._seed), uid, *steps)).encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64
