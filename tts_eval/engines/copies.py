"""Refuses a model that gives copies of one sample for many: a pool of copies would measure nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tts_eval.types import Prefix, TtsEvalError, Usage


log = logging.getLogger(__name__)

Reply = tuple[int, tuple[Prefix, ...], Usage]
"""Ticket, extensions and cost of an answered request."""

_PROOF = 3  # problems with nothing but equal solutions that make a broken server likelier than easy problems
_STEP_PROOF = 50  # requests with nothing but equal steps: many a solution begins with the same words


class CopyGuard:
    """Lets answers go once samples are known to differ.

    A problem may well have equal samples (a short answer, a low temperature). So answers are held back until one has
    distinct samples, and the run is refused if that many have none; fewer, as at the end of a resumed run, go with a
    warning.

    Args:
        temperature: The run's, for the error.
        constant: Whether equal samples are to be expected.
    """

    def __init__(self, temperature: float, *, constant: bool):
        self._temperature = temperature
        self._proven = constant
        self._held: list[Reply] = []
        self._passed = 0  # problems with equal samples whose answers went
        self._equal_steps = 0

    def admit(
        self, replies: Sequence[Reply], groups: Sequence[Sequence[str]], *, sampled: bool, waiting: bool
    ) -> list[Reply]:
        """Takes answers and returns those that may go.

        Args:
            replies: The answers, of whole solutions.
            groups: The texts of each.
            sampled: Whether any of them has several samples, at a temperature above 0.
            waiting: Whether more answers are to come.

        Raises:
            TtsEvalError: If too many problems have nothing but equal samples.
        """
        self._held += replies
        self._proven = self._proven or any(len(set(texts)) > 1 for texts in groups)
        if sampled and not self._proven:
            equal = self._passed + len(self._held)
            if equal < _PROOF and waiting:
                return []
            refusal = self._refusal(f"for each of {equal} problems")
            if equal >= _PROOF:
                raise refusal
            log.warning("tts-eval: %s", refusal)
            self._passed = equal
        released, self._held = self._held, []
        return released

    def see_steps(self, texts: Sequence[str]) -> None:
        """Takes the texts of several next steps, at a temperature above 0; a search can't wait, so none is held back.

        Raises:
            TtsEvalError: If none ever differed, and there were many.
        """
        self._proven = self._proven or len(set(texts)) > 1
        self._equal_steps += 1
        if not self._proven and self._equal_steps >= _STEP_PROOF:
            raise self._refusal(f"{self._equal_steps} times in a row")

    def _refusal(self, how_often: str) -> TtsEvalError:
        return TtsEvalError(
            f"all samples of a problem came back equal, {how_often}, at temperature {self._temperature:g}: the server "
            "or model ignores the temperature, or uses one seed for all. Let it sample (and honour a request's own "
            "seed), or ask for temperature=0,budget=1"
        )
