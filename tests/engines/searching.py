"""Runs every search on an engine and a verifier, and compares what came of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tts_eval.engines.hf import HFEngine
from tts_eval.engines.tokens import decoder
from tts_eval.scheduler import Scheduler, Watcher
from tts_eval.search import beam, best_of_n, dvts, rebase
from tts_eval.types import Decoding, Outcome, Prefix, Problem, Sample, Score, Search, Usage, Verifier


METHODS: dict[str, Callable[[int, int], Search]] = {
    "best-of-n": lambda n, rounds: best_of_n(n, scored=True),
    "beam": lambda n, rounds: beam(n, 3, rounds=rounds),
    "lookahead": lambda n, rounds: beam(n, 2, lookahead=2, rounds=rounds),
    "dvts": lambda n, rounds: dvts(n, 3, rounds=rounds),
    "rebase": lambda n, rounds: rebase(n, rounds=rounds),
}
"""From budget and rounds."""

Results = dict[str, tuple[Outcome, Usage]]


class Asked:
    """Watches a scheduler: how many prefixes of each problem were extended, the root apart."""

    def __init__(self) -> None:
        self.extended: Counter[str] = Counter()

    def __call__(self, problem: Problem, request: Sample | Score, reply: object) -> None:
        if isinstance(request, Sample) and request.prefixes != (Prefix(),):
            self.extended[problem.uid] += len(request.prefixes)


class Guesses:
    """A verifier that needs no model: a step's score depends on the text up to it, and on nothing else."""

    kind = "process"
    aggregation = "last"

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> list[tuple[tuple[float, ...], Usage]]:
        return [
            (tuple(random.Random(f"{p.uid} {s.steps[: i + 1]}").random() for i in range(len(s.steps))), Usage())
            for p, s in items
        ]


GUESSES = Guesses()


def search_all(
    engine: HFEngine,
    searches: Iterable[tuple[Problem, Search]],
    verifier: Verifier = GUESSES,
    *,
    in_flight: int = 256,
    watcher: Watcher | None = None,
) -> Results:
    """Runs searches side by side; by uid each outcome with its cost. That nothing is kept by then is checked."""
    scheduler = Scheduler(engine, verifier, in_flight=in_flight, watcher=watcher)
    done = [item for item in scheduler.run(searches) if item is not None]
    assert engine._kept.size == 0
    return {problem.uid: (outcome, usage) for problem, outcome, usage in done}


def assert_same(found: Results, expected: Results) -> None:
    """The same tokens, and the same scores but for rounding."""
    assert sorted(found) == sorted(expected)
    for uid, (outcome, _) in found.items():
        other, _ = expected[uid]
        assert [(f.path, f.tokens, f.steps, f.finish) for f in outcome.finals] == [
            (f.path, f.tokens, f.steps, f.finish) for f in other.finals
        ]
        assert [f.logprob for f in outcome.finals] == pytest.approx([f.logprob for f in other.finals], abs=1e-3)
        for scores, others in zip(outcome.step_scores or (), other.step_scores or (), strict=True):
            assert scores == pytest.approx(others, abs=1e-4)


def total(results: Results) -> Usage:
    """What all of them cost."""
    return sum((usage for _, usage in results.values()), Usage())


def load_engine(folder: str | Path, decoding: Decoding, **options: Any) -> HFEngine:
    """An engine on a model folder, in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return HFEngine(
        model,
        encode=tokenizer.encode,
        decode=decoder(tokenizer),
        end_tokens=[tokenizer.eos_token_id],
        special_tokens=tokenizer.get_added_vocab(),
        context=512,
        decoding=decoding,
        **options,
    )
