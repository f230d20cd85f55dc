"""Runs many searches at once: pools their requests, resumes each search as its replies arrive."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from tts_eval.types import Engine, Prefix, Problem, Sample, Score, TtsEvalError, Usage, Verifier


class Counted(Protocol):
    """What any search returns: `Outcome`, or something else that says how many solutions it sampled."""

    @property
    def generations(self) -> int: ...  # noqa: D102


_Found = TypeVar("_Found", bound=Counted)


_SCORED_TOGETHER = 64
"""Prefixes that are worth a verifier's pass while the engine has other work."""


@dataclass(slots=True, eq=False)
class _Running(Generic[_Found]):
    problem: Problem
    search: Generator[Sample | Score, Any, _Found]
    usage: Usage = field(default_factory=Usage)
    sampling: Sample | None = None
    to_score: Score | None = None
    other_seconds: float = 0.0  # neither engine nor verifier; apart from `usage`, since adding ledgers is slow


class Watcher(Protocol):
    """Gets to see every reply that a search gets."""

    def __call__(self, problem: Problem, request: Sample | Score, reply: Any) -> None: ...  # noqa: D102


class Scheduler:
    """Keeps up to `in_flight` searches going on one engine and one verifier.

    Args:
        engine: Answers `Sample` requests.
        verifier: Answers `Score` requests; None where no search makes any.
        in_flight: Most problems in progress at a time: enough to fill the engine's batch, few enough that results come
            steadily.
        watcher: Is told of all that happens, for transcripts.
    """

    def __init__(
        self,
        engine: Engine,
        verifier: Verifier | None = None,
        *,
        in_flight: int = 256,
        watcher: Watcher | None = None,
    ):
        self._engine = engine
        self._verifier = verifier
        self._in_flight = in_flight
        self._watcher = watcher

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
            started, in_models = time.monotonic(), 0.0
            while len(running) < self._in_flight and not exhausted:
                item = next(waiting, None)
                if item is None:
                    exhausted = True
                    break
                running[ticket] = _Running(*item)
                yield from self._resume(ticket, running, None)
                ticket += 1
            yield None
            polled = time.monotonic()
            answers = self._engine.poll()
            in_models += time.monotonic() - polled
            for answered, reply, cost in answers:
                yield from self._sampled(answered, running, reply, cost)
            scoring = time.monotonic()
            scored = list(self._score(running))
            in_models += time.monotonic() - scoring
            for asked, scores in scored:
                yield from self._resume(asked, running, scores)
            share = (time.monotonic() - started - in_models) / max(1, len(running))
            for state in running.values():
                state.other_seconds += share

    def _resume(
        self, ticket: int, running: dict[int, _Running[_Found]], reply: object
    ) -> Iterator[tuple[Problem, _Found, Usage]]:
        """Sends a reply to a search and takes its next request, or its outcome."""
        state = running[ticket]
        try:
            request = state.search.send(reply)
        except StopIteration as done:
            del running[ticket]
            self._engine.release(ticket)
            outcome: _Found = done.value
            rest = Usage(generations=outcome.generations, seconds=state.other_seconds)
            yield state.problem, outcome, state.usage + rest
            return
        if isinstance(request, Sample):
            state.sampling = request
            self._engine.submit(ticket, state.problem, request)
        else:
            state.to_score = request

    def _sampled(
        self, ticket: int, running: dict[int, _Running[_Found]], reply: tuple[Prefix, ...], cost: Usage
    ) -> Iterator[tuple[Problem, _Found, Usage]]:
        """Hands the engine's reply to a search."""
        state = running[ticket]
        request, state.sampling = state.sampling, None
        assert request is not None
        thrown_away = cost.decode_tokens if request.lookahead else 0
        probing = cost.decode_tokens if request.probe else 0
        cost = replace(cost, lookahead_tokens=thrown_away, probe_tokens=probing, engine_seconds=cost.seconds)
        state.usage += cost
        if self._watcher:
            self._watcher(state.problem, request, reply)
        return self._resume(ticket, running, reply)

    def _score(self, running: Mapping[int, _Running[_Found]]) -> Iterator[tuple[int, tuple[tuple[float, ...], ...]]]:
        """Lets the verifier read what searches are waiting for, in one go: many, or all if nothing else is under way.

        Yields:
            The tickets of those searches, and the replies for them.
        """
        waiting = [(ticket, state, state.to_score) for ticket, state in running.items() if state.to_score]
        items = [item for _, state, request in waiting for item in _items(state.problem, request)]
        if not items or (len(items) < _SCORED_TOGETHER and any(state.sampling for state in running.values())):
            return
        if self._verifier is None:
            raise TtsEvalError("this search scores its solutions, but has no verifier: give verifier= in --model_args")
        scores = iter(self._verifier.score(items))
        for ticket, state, request in waiting:
            answers = [next(scores) for _ in request.prefixes]
            reply = tuple(step_scores for step_scores, _ in answers)
            cost = sum((cost for _, cost in answers), Usage())
            state.usage += replace(cost, verifier_reused_tokens=cost.reused_tokens, verifier_seconds=cost.seconds)
            if self._watcher:
                self._watcher(state.problem, request, reply)
            state.to_score = None
            yield ticket, reply


def _items(problem: Problem, request: Score) -> list[tuple[Problem, Prefix]]:
    """What a request wants read: each prefix after the problem's prompt, or after a prompt of its own."""
    if not request.prompts:
        return [(problem, prefix) for prefix in request.prefixes]
    pairs = zip(request.prompts, request.prefixes, strict=True)
    return [(replace(problem, prompt=prompt), prefix) for prompt, prefix in pairs]
