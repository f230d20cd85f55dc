"""Refuses a model that gives copies of one sample for many: a pool of copies would measure nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tts_eval.types import Prefix, TtsEvalError, Usage


log = logging.getLogger(__name__)

Reply = tuple[int, tuple[Prefix, ...], Usage]
"""Ticket, extensions and cost of an answered request."""

_PROOF = 3  # problems with nothing but equal solutions that make a broken server likelier than easy problems
_BRIEF_PROOF = 50  # requests with nothing but equal short texts: many a solution begins with the same words
_BRIEF = 80  # characters; a bare answer is shorter, and all samples of an easy question may be that answer


class CopyGuard:
    """Lets answers go once samples are known to differ.

    A problem may well have equal samples (an easy one, a low temperature). So answers are held back until one has
    distinct samples, and the run is refused if that many have none; fewer, as at the end of a resumed run, go with a
    warning. Solutions as short as a bare answer go at once, and it takes many of them for a refusal.

    Args:
        temperature: The run's, for the error.
        constant: Whether equal samples are to be expected.
    """

    def __init__(self, temperature: float, *, constant: bool):
        self._temperature = temperature
        self._proven = constant
        self._held: list[Reply] = []
        self._passed = 0  # problems with equal samples whose answers went
        self._equal_brief = 0  # requests
        self._warned = False

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
        self._proven = self._proven or any(len(set(texts)) > 1 for texts in groups)
        released: list[Reply] = []
        for reply, texts in zip(replies, groups, strict=True):
            if self._proven or not sampled or len(texts[0]) >= _BRIEF:
                self._held.append(reply)
                continue
            released.append(reply)
            if len(texts) > 1:
                self.see_brief(texts)
        if released and not waiting and not self._warned:
            log.warning("tts-eval: %s", self._refusal("so far", " (answers as short as these may be equal by chance)"))
            self._warned = True
        if self._held and sampled and not self._proven:
            equal = self._passed + len(self._held)
            if equal < _PROOF and waiting:
                return released
            refusal = self._refusal(f"for each of {equal} problems")
            if equal >= _PROOF:
                raise refusal
            log.warning("tts-eval: %s", refusal)
            self._passed = equal
        released += self._held
        self._held = []
        return released

    def see_brief(self, texts: Sequence[str]) -> None:
        """Takes the texts of several next steps, or short solutions, at a temperature above 0; none is held back.

        Raises:
            TtsEvalError: If none ever differed, and there were many.
        """
        self._proven = self._proven or len(set(texts)) > 1
        self._equal_brief += 1
        if not self._proven and self._equal_brief >= _BRIEF_PROOF:
            copies = "; the journal may hold some: delete it before you run again"
            raise self._refusal(f"{self._equal_brief} times in a row", copies)

    def _refusal(self, how_often: str, besides: str = "") -> TtsEvalError:
        return TtsEvalError(
            f"all samples of a problem came back equal, {how_often}, at temperature {self._temperature:g}: the server "
            "or model ignores the temperature, or uses one seed for all. Let it sample (and honour a request's own "
            f"seed), or ask for temperature=0,budget=1{besides}"
        )
