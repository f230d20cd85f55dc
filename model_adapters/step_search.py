"""`tts-beam`, `tts-lookahead`, `tts-dvts` and `tts-rebase`: search step by step against a verifier (section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from tts_eval.model_adapters.arguments import REQUIRED, Argument, number, whole
from tts_eval.model_adapters.base import SearchLM
from tts_eval.search import ROUNDS, beam, dvts, rebase
from tts_eval.selection import aggregate
from tts_eval.types import Decoding, Problem, Search


def _width(value: Any) -> int | str:
    if value == "sqrt":
        return "sqrt"
    try:
        return whole(1)(value)
    except ValueError as error:
        raise ValueError(f"{error}, or sqrt") from error


class StepSearch(SearchLM):
    """What these strategies share: a verifier is a must, and the aggregation ranks prefixes during the search."""

    ARGUMENTS: ClassVar[Mapping[str, Argument]] = {
        **SearchLM.ARGUMENTS,
        "max_step_tokens": Argument(whole(1), Decoding().max_step_tokens),
        "max_steps": Argument(whole(1), ROUNDS),
    }
    PARAMETERS = (*SearchLM.PARAMETERS, "max_step_tokens", "max_steps", "aggregation")
    NEEDS_VERIFIER = True

    @property
    def stepwise(self) -> bool:
        """See `SearchLM`."""
        return True

    def value(self, scores: tuple[float, ...]) -> float:
        """What ranks a prefix: its scores, aggregated."""
        return aggregate(scores, self.arguments["aggregation"])

    @property
    def width(self) -> int:
        """M, with `sqrt` that of the budget, rounded."""
        width = self.arguments["width"]
        return round(math.sqrt(self.arguments["budget"])) if width == "sqrt" else int(width)


class Beam(StepSearch):
    """Beam search over a base model whose tokens are at hand."""

    NAME = "beam"
    ARGUMENTS: ClassVar[Mapping[str, Argument]] = {**StepSearch.ARGUMENTS, "width": Argument(_width, 4)}
    PARAMETERS = (*StepSearch.PARAMETERS, "width")

    def search(self, problem: Problem) -> Search:
        """See `tts_eval.search.beam`."""
        return beam(
            self.arguments["budget"],
            self.width,
            lookahead=self.arguments.get("lookahead", 0),
            value=self.value,
            rounds=self.arguments["max_steps"],
        )


class Lookahead(Beam):
    """Beam search that judges a step by where a greedy rollout from it leads."""

    NAME = "lookahead"
    ARGUMENTS: ClassVar[Mapping[str, Argument]] = {**Beam.ARGUMENTS, "lookahead": Argument(whole(0), REQUIRED)}
    PARAMETERS = (*Beam.PARAMETERS, "lookahead")


class Dvts(StepSearch):
    """Diverse verifier tree search."""

    NAME = "dvts"
    ARGUMENTS: ClassVar[Mapping[str, Argument]] = {**StepSearch.ARGUMENTS, "width": Argument(_width, 4)}
    PARAMETERS = (*StepSearch.PARAMETERS, "width")

    def search(self, problem: Problem) -> Search:
        """See `tts_eval.search.dvts`."""
        return dvts(self.arguments["budget"], self.width, value=self.value, rounds=self.arguments["max_steps"])


class Rebase(StepSearch):
    """Reward-balanced search."""

    NAME = "rebase"
    ARGUMENTS: ClassVar[Mapping[str, Argument]] = {
        **StepSearch.ARGUMENTS,
        "softmax_temperature": Argument(number(1e-6), 0.2),
    }
    PARAMETERS = (*StepSearch.PARAMETERS, "softmax_temperature")

    def search(self, problem: Problem) -> Search:
        """See `tts_eval.search.rebase`."""
        return rebase(
            self.arguments["budget"],
            softmax_temperature=self.arguments["softmax_temperature"],
            value=self.value,
            rounds=self.arguments["max_steps"],
        )
