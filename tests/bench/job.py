"""What every contender is given and hands back. Only the standard library: peers have environments of their own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any


TEMPERATURE = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """A beam search of forced shape: every step has exactly so many tokens, every solution so many steps.

    Attributes:
        policy: Folder of the policy.
        prm: Folder of the process verifier.
        prompts: One a problem.
        budget: N.
        width: M.
        steps: Steps of a solution.
        tokens: Tokens of a step.
    """

    policy: str
    prm: str
    prompts: tuple[str, ...]
    budget: int
    width: int
    steps: int
    tokens: int

    @property
    def short(self) -> Job:
        """A bit of such work on another prompt, to be done before the clock starts."""
        return replace(self, prompts=("1+1=2\n",), budget=self.width, steps=2)


@dataclass(slots=True)
class Cost:
    """What a search cost.

    Attributes:
        cpu: Seconds of processor time, user and system, all threads.
        wall: Seconds.
        prefill: Tokens of prompts and prefixes that the policy read.
        decode: Tokens that it wrote.
        verifier: Tokens that the verifier read.
        parts: Seconds of the main thread's processor time, by what it did; empty where that is not known.
    """

    cpu: float = 0.0
    wall: float = 0.0
    prefill: int = 0
    decode: int = 0
    verifier: int = 0
    parts: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Measures what is done within."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu, self.wall = time.process_time() - cpu, time.perf_counter() - wall


def contend(prepare: Callable[[Job], Callable[[Job], Cost]]) -> None:
    """The main function of a contender: reads a job from the file that is named, prints what it cost as JSON.

    Args:
        prepare: Loads the models and returns the search.
    """
    values: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    job = Job(**values | {"prompts": tuple(values["prompts"])})
    search = prepare(job)
    search(job.short)
    print(json.dumps(asdict(search(job))))
