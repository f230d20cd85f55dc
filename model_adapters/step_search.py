"""`tts-beam`, `tts-lookahead`, `tts-dvts` and `tts-rebase`: search step by step against a verifier (section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from tts_eval.journal import Record
from tts_eval.model_adapters.arguments import REQUIRED, Argument, number, whole
from tts_eval.model_adapters.base import SearchLM
from tts_eval.model_adapters.records import Question
from tts_eval.search import ROUNDS, beam, dvts, rebase
from tts_eval.selection import aggregate
from tts_eval.types import Decoding, Problem, Search, TtsEvalError


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

    def _search_all(
        self, questions: list[Question], done: int, disable_tqdm: bool
    ) -> Iterator[tuple[Question, Record]]:
        """Refuses what would have no steps before anything is computed."""
        require_steps(questions, self.arguments["step_delimiter"])
        yield from super()._search_all(questions, done, disable_tqdm)

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


def require_steps(questions: Iterable[Question], delimiter: str) -> None:
    """Refuses a task whose solutions end before a step delimiter can be written.

    Args:
        questions: What is asked.
        delimiter: What ends a step.

    Raises:
        TtsEvalError: If a stop string is part of the delimiter.
    """
    for question in questions:
        for stop in question.problem.stop:
            if stop in delimiter:
                raise TtsEvalError(
                    f"task {question.task} ends a solution at {stop!r}, which is part of step_delimiter={delimiter!r}, "
                    "so no step would ever end with it: choose another step_delimiter= in --model_args, or other stop "
                    "strings by --gen_kwargs until="
                )
