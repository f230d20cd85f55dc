"""Signs that a search exploits its verifier instead of solving the problem (Snell et al. 2024, section 3).

The paper saw repeated steps that say little and score high, solutions of one or two steps, and accuracy that falls with
the budget on easy problems. Each has a column here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tts_eval.analysis.accuracy import accuracy_rows
from tts_eval.analysis.discrimination import auroc_within
from tts_eval.analysis.pools import Pool, PoolSet
from tts_eval.selection import Aggregation, Selection, candidate_scores
from tts_eval.types import Candidate


SHORT = 2
"""Most steps of a solution that the paper calls overly short."""


@dataclass(frozen=True)
class Diagnosis:
    """One strategy at one budget.

    Attributes:
        task: lm-eval's task name.
        strategy: The strategy's name (see `PoolSet`).
        budget: See `tts_eval.analysis.Row`.
        level: The problems' difficulty label, where they are shown apart.
        n: Number of problems.
        solutions: Number of solutions.
        steps: Mean steps of a solution.
        tokens: Mean tokens of a solution, or None where the engine couldn't tell.
        repeated: Share of the steps that occurred before in their solution.
        short: Share of the solutions with at most `SHORT` steps.
        score_right: Mean score of the right solutions; None without scores, or where there are none.
        score_wrong: Of the wrong ones.
        auroc: The chance that a right solution scores higher than a wrong one of the same problem.
        accuracy: Share of the problems whose selected answer is right.
        coverage: Share of those with a right solution at all.
        gap: Share of those with a right solution, but a wrong selected answer.
    """

    task: str
    strategy: str
    budget: int
    level: Any
    n: int
    solutions: int
    steps: float
    tokens: float | None
    repeated: float
    short: float
    score_right: float | None
    score_wrong: float | None
    auroc: float | None
    accuracy: float
    coverage: float
    gap: float


def diagnose(
    pools: PoolSet,
    *,
    selection: Selection | None = None,
    aggregation: Aggregation = "last",
    resamples: int = 1000,
    seed: int = 0,
    level: Any = None,
) -> list[Diagnosis]:
    """Measures one set of pools.

    Independent samples give a line for each budget. There only accuracy, coverage and gap depend on it: the solutions
    are the same at all budgets.

    Args:
        pools: What `load_pools` returned.
        selection: If None, the weighted vote where all pools have scores, else the majority.
        aggregation: How step scores become one score.
        resamples: See `accuracy_rows`.
        seed: See `accuracy_rows`.
        level: Put in the lines.

    Returns:
        Budget by budget; nothing where the selection needs scores that some pool doesn't have.
    """
    scored = all(candidate_scores(pool.candidates, aggregation) is not None for pool in pools.pools)
    wanted = selection or ("best_of_n_weighted" if scored else "majority")
    rows = accuracy_rows(
        pools, measures=(wanted, "coverage"), aggregations=(aggregation,), resamples=resamples, seed=seed
    )
    coverage = {row.budget: row.accuracy for row in rows if row.selection == "coverage"}
    solutions = [candidate for pool in pools.pools for candidate in pool.candidates]
    shape, scores = _shape(solutions), _scores(pools.pools, aggregation)
    return [
        Diagnosis(
            pools.task,
            pools.strategy,
            row.budget,
            level,
            row.n,
            len(solutions),
            **shape,
            **scores,
            accuracy=row.accuracy,
            coverage=coverage[row.budget],
            gap=coverage[row.budget] - row.accuracy,
        )
        for row in rows
        if row.selection == wanted
    ]


def repeated_steps(steps: Sequence[str]) -> int:
    """How many steps say what an earlier one of the same solution said; blanks at either end don't count."""
    return len(steps) - len({step.strip() for step in steps})


def _shape(solutions: Sequence[Candidate]) -> dict[str, Any]:
    steps = sum(len(solution.steps) for solution in solutions)
    tokens = [solution.tokens for solution in solutions if solution.tokens is not None]
    return {
        "steps": steps / len(solutions),
        "tokens": float(np.mean(tokens)) if len(tokens) == len(solutions) else None,
        "repeated": sum(repeated_steps(solution.steps) for solution in solutions) / max(1, steps),
        "short": float(np.mean([len(solution.steps) <= SHORT for solution in solutions])),
    }


def _scores(pools: Sequence[Pool], aggregation: Aggregation) -> dict[str, Any]:
    """Scores against correctness, over the solutions that have a score."""
    groups: list[tuple[str, int]] = []
    scores: list[float] = []
    correct: list[bool] = []
    for pool in pools:
        of_pool = candidate_scores(pool.candidates, aggregation)
        if of_pool is not None:
            seen = ~np.isnan(of_pool)
            groups += [(pool.uid, pool.seed)] * int(seen.sum())
            scores += of_pool[seen].tolist()
            correct += pool.correct[seen].tolist()
    return {
        "score_right": _mean([score for score, right in zip(scores, correct, strict=True) if right]),
        "score_wrong": _mean([score for score, right in zip(scores, correct, strict=True) if not right]),
        "auroc": auroc_within(groups, scores, correct),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
