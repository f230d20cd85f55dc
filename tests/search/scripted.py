"""Drives searches without models: along a table traced by hand, or in a random world that checks every request."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tts_eval.types import Outcome, Prefix, Sample, Score, Search


Reply = tuple[Prefix, ...] | tuple[tuple[float, ...], ...]


def follow(search: Search, table: str) -> Outcome:
    """Runs a search whose every request must be the table's next row, and answers it with what the row says.

    A solution is written as its steps, a letter each; a capital ends it. The root is `.`, and `greedy` is a lookahead.

        request                  -> reply            | why
        sample .*4               -> a b c D          | four samples of the root, of which the last has ended
        score  a b c             -> 2 9 5            | their scores, in tenths
        sample b*2 c*1           -> be bf cg         | two next steps of one, one of the other
    """
    rows = [line.split("|")[0].split("->") for line in table.strip().splitlines()]
    reply: Reply | None = None
    for asked, answer in rows:
        request = search.send(reply)
        assert shown(request) == asked.split(), f"{shown(request)}, by the table {asked}"
        reply = _reply(request, answer.split())
    return ended(search, reply)


def ended(search: Search, reply: Reply | None) -> Outcome:
    """Sends the last reply and returns what the search found."""
    try:
        request = search.send(reply)
    except StopIteration as done:
        outcome: Outcome = done.value
        return outcome
    raise AssertionError(f"the search goes on: {request}")


def shown(request: Sample | Score) -> list[str]:
    """A request as a row of the table shows it."""
    names = [prefix.text or "." for prefix in request.prefixes]
    if isinstance(request, Score):
        return ["score", *names]
    assert request.until == "step"
    if request.lookahead:
        assert request.temperature == 0 and set(request.counts) == {1}
        return ["greedy", *names]
    assert request.temperature is None
    return ["sample", *(f"{name}*{count}" for name, count in zip(names, request.counts, strict=True))]


def _reply(request: Sample | Score, answer: list[str]) -> Reply:
    if isinstance(request, Score):
        assert len(answer) == len(request.prefixes)
        return tuple((int(tenths) / 10,) for tenths in answer)
    places = [(prefix, child) for prefix, n in zip(request.prefixes, request.counts, strict=True) for child in range(n)]
    assert [text[:-1] for text in answer] == [prefix.text for prefix, _ in places], "the row extends other prefixes"
    return tuple(
        Prefix((*prefix.path, child), (*prefix.steps, text[-1]), finish="eos" if text[-1].isupper() else None)
        for (prefix, child), text in zip(places, answer, strict=True)
    )


@dataclass
class World:
    """A policy and a verifier drawn from a seed; what they say of a node depends on that node alone.

    Attributes:
        seed: Its seed.
        letters: How many different steps there are: of few, many solutions are equal.
        end: The probability that a step ends its solution.
        requests: All that was asked of it.
        ended: All solutions that ended, lookahead rollouts apart.
    """

    seed: int
    letters: int = 3
    end: float = 0.2
    requests: list[Sample | Score] = field(default_factory=list)
    ended: list[Prefix] = field(default_factory=list)

    def run(self, search: Search, *, watch: Callable[[Sample | Score, Reply], None] | None = None) -> Outcome:
        """Runs a search to its end and checks that each of its requests is one that it may make."""
        reply: Reply | None = None
        while True:
            try:
                request = search.send(reply)
            except StopIteration as done:
                outcome: Outcome = done.value
                return outcome
            self.requests.append(request)
            reply = self.extend(request) if isinstance(request, Sample) else tuple(map(self.scores, request.prefixes))
            if watch:
                watch(request, reply)

    def extend(self, request: Sample) -> tuple[Prefix, ...]:
        assert request.prefixes and len(request.counts) == len(request.prefixes)
        assert min(request.counts) >= 1
        assert all(prefix.finish is None for prefix in (*request.prefixes, *request.alive))
        reply = tuple(
            self.child(prefix, request.first + child, greedy=request.lookahead)
            for prefix, count in zip(request.prefixes, request.counts, strict=True)
            for child in range(count)
        )
        if not request.lookahead:
            self.ended += [prefix for prefix in reply if prefix.finish]
        return reply

    def child(self, parent: Prefix, index: int, *, greedy: bool) -> Prefix:
        path = (*parent.path, index)
        chosen = random.Random(f"{self.seed} {parent.steps if greedy else path}")
        step = "abcdefgh"[chosen.randrange(self.letters)]
        return Prefix(path, (*parent.steps, step), finish="eos" if chosen.random() < self.end else None)

    def scores(self, prefix: Prefix) -> tuple[float, ...]:
        """One a step, in hundredths."""
        beginnings = (prefix.steps[: count + 1] for count in range(len(prefix.steps)))
        return tuple(random.Random(f"{self.seed} score {steps}").randrange(101) / 100 for steps in beginnings)

    @property
    def sampled(self) -> list[Sample]:
        """What was asked of the policy for good, the first steps left out."""
        return [request for request in self.requests[1:] if isinstance(request, Sample) and not request.lookahead]

    @property
    def scored(self) -> list[Score]:
        """What was asked of the verifier."""
        return [request for request in self.requests if isinstance(request, Score)]
