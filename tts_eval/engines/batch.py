"""What is under way in `HFEngine`: requests, the prefixes that they extend, and the rows that decode together."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from tts_eval.engines.kept import Node
from tts_eval.engines.rows import RowCache
from tts_eval.engines.stops import StopFinder
from tts_eval.types import Prefix, Problem, Sample, Usage


@dataclass(slots=True, eq=False)
class Job:
    """A submitted request and what has come of it."""

    ticket: int
    problem: Problem
    request: Sample
    temperature: float
    replies: list[Prefix | None]
    missing: int
    usage: Usage = field(default_factory=Usage)
    # Apart from `usage`, since every row or step adds to them and adding ledgers is slow:
    decoded: int = 0
    seconds: float = 0.0

    @property
    def cost(self) -> Usage:
        """All of it."""
        return self.usage + Usage(decode_tokens=self.decoded, seconds=self.seconds)


class Place(NamedTuple):
    """Of an extension: its path, and where in the job's reply it is."""

    path: tuple[int, ...]
    at: int


@dataclass(slots=True, eq=False)
class Stem:
    """A prefix of a job, to be read once and forked into the rows that are still waiting.

    Attributes:
        job: The job.
        prefix: The prefix, or the first of several that have the same tokens.
        ids: Prompt and prefix.
        waiting: Which extensions have yet to start.
        before: Keys and values of all its tokens but the last; None until they have been read.
        kv: Those of all its tokens, and
        logits: of the next token, [1, vocabulary]; None until the last has been read.
    """

    job: Job
    prefix: Prefix
    ids: list[int]
    before: Node | None
    waiting: deque[Place] = field(default_factory=deque)
    kv: torch.Tensor | None = None
    logits: torch.Tensor | None = None

    @property
    def rows(self) -> int:
        """How many rows it has yet to start: greedy extensions are all the same, so one serves all of them."""
        return min(1, len(self.waiting)) if self.job.temperature == 0 else len(self.waiting)

    def start(self) -> list[Place]:
        """Takes the places that the next row fills."""
        if self.job.temperature > 0:
            return [self.waiting.popleft()]
        places = list(self.waiting)
        self.waiting.clear()
        return places


@dataclass(slots=True, eq=False)
class Row:
    """One extension while it grows, and the places in the reply that it fills."""

    stem: Stem
    places: list[Place]
    key: int  # of its stream of random numbers
    stops: StopFinder
    limit: int
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0


@dataclass(slots=True, eq=False)
class Batch:
    """The rows that decode together.

    Attributes:
        cache: Their keys and values.
        logits: Of each row's next token, [rows, vocabulary].
        rows: The rows, in the order of both.
        last_tokens: The token that each row has just drawn.
        size: How many rows there are, those about to join included.
        width: Tokens that the longest row may come to have, prompt included.
    """

    cache: RowCache
    logits: torch.Tensor
    rows: list[Row] = field(default_factory=list)
    last_tokens: list[int] = field(default_factory=list)
    size: int = 0
    width: int = 0

    def leave(self, index: int) -> None:
        """Takes a row out, its place going to the last one; `logits` stay as they are until the next step."""
        self.cache.leave(index)
        self.rows[index], self.last_tokens[index] = self.rows[-1], self.last_tokens[-1]
        self.rows.pop()
        self.last_tokens.pop()
        self.size -= 1
