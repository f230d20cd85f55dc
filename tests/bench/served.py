"""What the contenders on one server are given and hand back. Only the standard library, since a peer runs it too."""

from __future__ import annotations

import hashlib
import json
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any


TEMPERATURE = 1.0
NAME = "served"
"""What the server calls its model."""


@dataclass(frozen=True, slots=True)
class ServedJob:
    """A beam search of forced shape: every step has exactly so many tokens, every solution so many steps.

    Attributes:
        url: Of the server, without a path.
        tokenizer: Folder of its model.
        questions: One a problem; the server's chat template goes around.
        budget: N.
        width: M.
        steps: Steps of a solution.
        tokens: Tokens of a step.
        together: Whether a peer may search for all problems at once, as ours does.
    """

    url: str
    tokenizer: str
    questions: tuple[str, ...]
    budget: int
    width: int
    steps: int
    tokens: int
    together: bool = False

    @property
    def short(self) -> ServedJob:
        """A bit of such work on another question, to be done before the clock starts."""
        return replace(self, questions=("What is 1 + 1?",), budget=self.width, steps=2)


@dataclass(frozen=True, slots=True)
class ServedCost:
    """What a search took.

    Attributes:
        wall: Seconds.
        prompt: Prompt tokens, by the server's count.
        cached: Those of them that came from its prefix cache.
        written: Tokens that it wrote.
        requests: Sequences that it worked on.
    """

    wall: float
    prompt: float
    cached: float
    written: float
    requests: float


def score(text: str) -> float:
    """The verifier: takes no time, and is of no opinion."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32


def _counted(url: str) -> list[float]:
    """The server's own figures: prompt, cached and written tokens, sequences."""
    names = ("prompt_tokens_total", "prompt_tokens_cached_total", "generation_tokens_total", "request_success_total")
    with urllib.request.urlopen(f"{url}/metrics") as reply:
        lines = reply.read().decode().splitlines()
    return [sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"vllm:{name}{{")) for name in names]


def contend(search: Callable[[ServedJob], None]) -> None:
    """The main function of a contender: reads a job from the file that is named, prints what it took as JSON."""
    values: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    job = ServedJob(**values | {"questions": tuple(values["questions"])})
    search(job.short)
    before, started = _counted(job.url), time.perf_counter()
    search(job)
    wall, after = time.perf_counter() - started, _counted(job.url)
    print(json.dumps(asdict(ServedCost(wall, *(late - early for early, late in zip(before, after))))))
