"""Strategies against one of them at equal budgets, problem by problem (Snell et al. 2024, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tts_eval.analysis.accuracy import Measure, pool_budgets, values_by_problem, wilson_interval
from tts_eval.analysis.pools import PoolSet
from tts_eval.analysis.resampling import bootstrap_mean
from tts_eval.selection import Aggregation, Floats
from tts_eval.types import TtsEvalError


_DETECTABLE = 2.8  # standard errors: what a two-sided test at 5 % finds with a power of 80 % (1.96 + 0.84)


@dataclass(frozen=True)
class Comparison:
    """A strategy at one budget, and how much better it is than another on the same problems.

    Attributes:
        task: lm-eval's task name.
        strategy: The one (see `PoolSet`).
        against: The other.
        budget: Of both, the paper's N (section 3).
        selection: How both choose an answer.
        aggregation: How step scores became one score, or None.
        accuracy: The one's, 0 to 1, with
        low: the ends of its 95 % interval,
        high: see `wilson_interval`.
        difference: Its accuracy less the other's, with
        difference_low: the ends of the 95 % interval, by a paired bootstrap over the problems.
        difference_high: The upper one.
        detectable: The smallest true difference that so many problems would show in four of five cases.
        n: Number of problems.
        level: The problems' level or bin, where they are shown apart.
    """

    task: str
    strategy: str
    against: str
    budget: int
    selection: Measure
    aggregation: Aggregation | None
    accuracy: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    detectable: float
    n: int
    level: Any = None


def baseline_of(sets: Sequence[PoolSet], name: str) -> dict[str, PoolSet]:
    """The strategy to compare with, by task: of several runs the largest, since it speaks for all smaller budgets.

    Raises:
        TtsEvalError: If there is none of that name, or it isn't one of independent samples.
    """
    found: dict[str, PoolSet] = {}
    for pools in sets:
        if is_run_of(pools, name) and pools.independent:
            largest = max(found.get(pools.task, pools), pools, key=lambda one: pool_budgets(one)[-1])
            found[pools.task] = replace(largest, strategy=name)
    if not found:
        known = sorted({pools.strategy.split(" (")[0] for pools in sets if pools.independent})
        raise TtsEvalError(
            f"--against {name}: no such run; the runs of independent samples here are {', '.join(known) or 'none'}"
        )
    return found


def is_run_of(pools: PoolSet, name: str) -> bool:
    """Whether the set is of a strategy of that name, whatever parameters tell it from others."""
    return pools.strategy.split(" (")[0] == name


def compare(
    pools: PoolSet,
    baseline: PoolSet,
    *,
    selection: Measure,
    aggregation: Aggregation,
    budgets: Sequence[int] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: Any = None,
) -> list[Comparison]:
    """Compares a strategy with independent samples, on the problems that both have.

    Args:
        pools: The one. Of independent samples every budget is measured, of a joint search its own.
        baseline: The other, of which each budget is the mean over subsets of its samples (see `accuracy_rows`).
        selection: For both.
        aggregation: For both, if the selection needs scores.
        budgets: The budgets to show; by default all that both can speak about.
        resamples: Subsets a problem and budget, and draws of the bootstrap.
        seed: Of both.
        level: See `Comparison`.

    Returns:
        Budget by budget; nothing where the two have no problem or no budget in common, or a score is missing.
    """
    possible = [k for k in pool_budgets(pools) if k <= pool_budgets(baseline)[-1]]
    wanted = possible if budgets is None else [k for k in budgets if k in possible]
    how: dict[str, Any] = {"measure": selection, "aggregation": aggregation, "resamples": resamples, "seed": seed}
    mine = values_by_problem(pools, budgets=wanted, **how)
    theirs = values_by_problem(baseline, budgets=wanted, **how)
    common = [uid for uid in mine if uid in theirs]
    if not wanted or not common:
        return []
    values, others = (np.array([of[uid] for uid in common]) for of in (mine, theirs))  # [problems, budgets]
    return [
        _comparison(pools, baseline, budget, values[:, i], values[:, i] - others[:, i], how, level)
        for i, budget in enumerate(wanted)
    ]


def _comparison(
    pools: PoolSet,
    baseline: PoolSet,
    budget: int,
    values: Floats,
    gains: Floats,
    how: dict[str, Any],
    level: Any,
) -> Comparison:
    n, accuracy = len(values), float(values.mean())
    gain = bootstrap_mean(gains, resamples=how["resamples"], seed=how["seed"])
    error = float(gains.std(ddof=1)) / n**0.5 if n > 1 else float("nan")
    return Comparison(
        task=pools.task,
        strategy=pools.strategy,
        against=baseline.strategy,
        budget=budget,
        selection=how["measure"],
        aggregation=None if how["measure"] == "majority" else how["aggregation"],
        accuracy=accuracy,
        low=wilson_interval(accuracy, n)[0],
        high=wilson_interval(accuracy, n)[1],
        difference=gain.value,
        difference_low=gain.low,
        difference_high=gain.high,
        detectable=_DETECTABLE * error,
        n=n,
        level=level,
    )
