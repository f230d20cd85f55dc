"""A folder of runs as a sweep leaves them, small and made up: easy and hard problems, a verifier that helps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tts_eval.journal import Journal, Record
from tts_eval.jsonl import Header
from tts_eval.types import Candidate, Usage


TASK = "toy"
PROBLEMS = 40


def write_run(
    folder: Path,
    strategy: dict[str, Any],
    budget: int,
    *,
    model: str = "small",
    verifier: str | None = "prm",
    outcome: bool = False,
    seed: int = 0,
    problems: int = PROBLEMS,
    generations: int | None = None,
) -> Path:
    """Writes one journal; what the samples are follows from the arguments alone."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"model": {"base": "hf", "pretrained": model}, "verifier": verifier and {"name": verifier}, "task": TASK}
    name = "_".join([str(value) for value in strategy.values()] + [str(budget), str(seed), str(verifier)])
    path = folder / f"candidates_{TASK}_{name}.jsonl"
    with Journal.open(path, Header({**about, "strategy": strategy, "budget": budget, "seed": seed})) as journal:
        for number in range(problems):
            random = np.random.default_rng((number, budget, seed, len(name)))
            candidates = tuple(_candidates(random, number, strategy, budget, verifier, outcome))
            usage = Usage(generations=generations or budget, prefill_tokens=9, decode_tokens=10 * budget)
            record = Record(f"p{number}", TASK, strategy, budget, seed, candidates, usage, gold="1", level=number % 3)
            journal.append(record)
    return path


def _candidates(
    random: np.random.Generator, number: int, strategy: dict[str, Any], budget: int, verifier: str | None, outcome: bool
) -> Iterator[Candidate]:
    chance = 0.05 + 0.9 * (1 - number / PROBLEMS) + (0.05 if strategy["name"] == "beam" else 0)
    length = int(strategy.get("length", 1))
    for place in range(budget):
        right = random.random() < chance
        answer = "1" if right else str(random.integers(2, 5))
        scores = tuple(float(s) for s in np.clip(random.normal(0.6 if right else 0.4, 0.2, 2), 0.01, 0.99))
        yield Candidate(
            text=f"<script>alert({place})</script>\n\\boxed{{{answer}}}",
            answer=answer,
            steps=(f"<script>alert({place})</script>\n", f"\\boxed{{{answer}}}"),
            step_scores=scores if verifier and not outcome else None,
            outcome_score=scores[1] if verifier and outcome else None,
            logprob=-1.0,
            tokens=10,
            finish="eos",
            chain=place // length,
            attempt=place % length,
        )


def write_larger(folder: Path, *, parameters: int | None = 14_200, problems: int = PROBLEMS) -> Path:
    """What a plain run of lm-eval leaves: two thirds of the problems solved."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_args": {"pretrained": "large"}, "model_num_parameters": parameters}
    (folder / "results_2026-01-01T00-00-00.000000.json").write_text(json.dumps({"config": config}))
    lines = [{"doc": {"unique_id": f"p{number}"}, "exact_match": float(number % 3 > 0)} for number in range(problems)]
    samples = folder / f"samples_{TASK}_2026-01-01T00-00-00.000000.jsonl"
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_everything(folder: Path) -> None:
    """Runs for every figure: search, an outcome verifier, chains, and chains read without history."""
    write_run(folder, {"name": "best-of-n"}, 16)
    for budget in (1, 4, 16):
        write_run(folder, {"name": "beam", "width": 4}, budget)
        write_run(folder, {"name": "lookahead", "lookahead": 1, "width": 4}, budget, generations=2 * budget)
    write_run(folder, {"name": "best-of-n"}, 16, verifier="orm", outcome=True)
    for history, verifier in ((True, "revision-orm"), (False, "orm")):
        for chains in (1, 4, 16):
            shape = {"name": "revise", "chains": chains, "length": 16 // chains, "history": history}
            write_run(folder, shape, 16, model="revision", verifier=verifier, outcome=True)
