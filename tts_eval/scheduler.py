"""Runs many searches at once: pools their requests, resumes each search as its replies arrive."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from tts_eval.types import Engine, Prefix, Problem, Sample, Score, TtsEvalError, Usage, Verifier


class Counted(Protocol):
    """What any search returns: `Outcome`, or something else that says how many solutions it sampled."""

    @property
    def generations(self) -> int: ...  # noqa: D102


_Found = TypeVar("_Found", bound=Counted)


@dataclass(slots=True, eq=False)
class _Running(Generic[_Found]):
    problem: Problem
    search: Generator[Sample | Score, Any, _Found]
    usage: Usage = field(default_factory=Usage)
    to_score: tuple[Prefix, ...] = ()


class Scheduler:
    """Keeps up to `in_flight` searches going on one engine and one verifier.

    Args:
        engine: Answers `Sample` requests.
        verifier: Answers `Score` requests; None where no search makes any.
        in_flight: Most problems in progress at a time: enough to fill the engine's batch, few enough that results come
            steadily.
    """

    def __init__(self, engine: Engine, verifier: Verifier | None = None, *, in_flight: int = 256):
        self._engine = engine
        self._verifier = verifier
        self._in_flight = in_flight

    def run(
        self, searches: Iterable[tuple[Problem, Generator[Sample | Score, Any, _Found]]]
    ) -> Iterator[tuple[Problem, _Found, Usage] | None]:
        """Runs every search to its end.

        Args:
            searches: Problems with the search to run on each, not yet started.

        Yields:
            Each problem with its outcome and cost as soon as it is done, in the order in which they finish; and None
            whenever the engine has worked for a moment without finishing one, so that a progress bar can move.

        Raises:
            TtsEvalError: What the engine or verifier refuses; outcomes already yielded stay valid.
        """
        waiting = iter(searches)
        running: dict[int, _Running[_Found]] = {}
        ticket = 0
        exhausted = False
        while running or not exhausted:
            while len(running) < self._in_flight and not exhausted:
                item = next(waiting, None)
                if item is None:
                    exhausted = True
                    break
                running[ticket] = _Running(*item)
                yield from self._resume(ticket, running, None)
                ticket += 1
            yield None
            for answered, reply, cost in self._engine.poll():
                running[answered].usage += cost
                yield from self._resume(answered, running, reply)
            yield from self._score(running)

    def _resume(
        self, ticket: int, running: dict[int, _Running[_Found]], reply: object
    ) -> Iterator[tuple[Problem, _Found, Usage]]:
        """Sends a reply to a search and takes its next request, or its outcome."""
        state = running[ticket]
        try:
            request = state.search.send(reply)
        except StopIteration as done:
            del running[ticket]
            outcome: _Found = done.value
            yield state.problem, outcome, state.usage + Usage(generations=outcome.generations)
            return
        if isinstance(request, Sample):
            self._engine.submit(ticket, state.problem, request)
        else:
            state.to_score = request.prefixes

    def _score(self, running: dict[int, _Running[_Found]]) -> Iterator[tuple[Problem, _Found, Usage]]:
        """Lets the verifier read what all searches are waiting for, in one go."""
        waiting = {ticket: state for ticket, state in running.items() if state.to_score}
        if not waiting:
            return
        if self._verifier is None:
            raise TtsEvalError("this search scores its solutions, but has no verifier: give verifier= in --model_args")
        items = [(state.problem, prefix) for state in waiting.values() for prefix in state.to_score]
        scores = iter(self._verifier.score(items))
        for ticket, state in waiting.items():
            reply = []
            for _ in state.to_score:
                step_scores, cost = next(scores)
                state.usage += cost
                reply.append(step_scores)
            state.to_score = ()
            yield from self._resume(ticket, running, tuple(reply))
