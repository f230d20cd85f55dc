"""Strategies against one of them at equal budgets, problem by problem (Snell et al. 2024, figure 3)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tts_eval.analysis.accuracy import SCORED, Measure, pool_budgets, values_by_problem, wilson_interval
from tts_eval.analysis.bootstrap import Estimate
from tts_eval.analysis.paired import detectable_difference
from tts_eval.analysis.pools import PoolSet
from tts_eval.analysis.resampling import bootstrap_mean
from tts_eval.selection import Aggregation, Floats
from tts_eval.types import TtsEvalError


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


def baselines_of(sets: Sequence[PoolSet], name: str) -> list[PoolSet]:
    """The runs to compare with: one a task, model, verifier, way of asking and of sampling.

    Of several such runs the largest, since it speaks for all smaller budgets. Where a task has one baseline, it is
    called `name`; of several each keeps the parameters that tell it from the others.

    Raises:
        TtsEvalError: If there is none of that name, or it isn't one of independent samples.
    """
    found: dict[str, PoolSet] = {}
    for pools in sets:
        if is_run_of(pools, name) and pools.independent:
            whose = json.dumps([pools.task, pools.model, pools.verifier, pools.prompts, pools.own], sort_keys=True)
            found[whose] = max(found.get(whose, pools), pools, key=lambda one: pool_budgets(one)[-1])
    if not found:
        known = sorted({pools.strategy.split(" (")[0] for pools in sets if pools.independent})
        raise TtsEvalError(
            f"--against {name}: no such run; the runs of independent samples here are {', '.join(known) or 'none'}"
        )
    tasks = Counter(pools.task for pools in found.values())
    return [pools if tasks[pools.task] > 1 else replace(pools, strategy=name) for pools in found.values()]


def is_run_of(pools: PoolSet, name: str) -> bool:
    """Whether the set is of a strategy of that name, whatever parameters tell it from others."""
    return pools.strategy.split(" (")[0] == name


@dataclass(frozen=True)
class Measured:
    """What each problem's chance to be right is, at each budget.

    Attributes:
        pools: Whose.
        budgets: The budgets.
        selection: How an answer is chosen.
        aggregation: How step scores become one score.
        values: By problem, [budgets]; none where scores are needed and missing.
    """

    pools: PoolSet
    budgets: Sequence[int]
    selection: Measure
    aggregation: Aggregation
    values: Mapping[str, Floats]


def baseline_for(pools: PoolSet, baselines: Sequence[Measured]) -> Measured | None:
    """What to compare a run with: the baseline of its own model, verifier and way of asking.

    Without such a one the likest of its model, as a majority needs no verifier; None without any of its model.
    """
    alike = [one for one in baselines if one.pools.task == pools.task and one.pools.model == pools.model]

    def likeness(one: Measured) -> tuple[bool, bool, int, int]:
        of = one.pools
        shared = sum(pools.own.get(name) == value for name, value in of.own.items())
        return of.verifier == pools.verifier, of.prompts == pools.prompts, shared, pool_budgets(of)[-1]

    return max(alike, key=likeness, default=None)


def measure(
    pools: PoolSet,
    budgets: Sequence[int],
    *,
    selection: Measure,
    aggregation: Aggregation,
    resamples: int = 1000,
    seed: int = 0,
) -> Measured:
    """Measures one strategy once, for however many comparisons.

    Args:
        pools: What was sampled. Of independent samples each budget is the mean over subsets (see `accuracy_rows`).
        budgets: Those wanted; what the pools can't speak about is left out.
        selection: See `Measured`.
        aggregation: See `Measured`.
        resamples: Subsets a problem and budget.
        seed: Of the subsets.
    """
    possible = pool_budgets(pools)
    told = [k for k in budgets if k in possible or (pools.independent and k <= possible[-1])]
    how: dict[str, Any] = {"measure": selection, "aggregation": aggregation, "resamples": resamples, "seed": seed}
    values = values_by_problem(pools, budgets=told, **how) if told else {}
    return Measured(pools, told, selection, aggregation, values)


def compare(
    one: Measured, other: Measured, problems: Sequence[str], *, resamples: int = 1000, seed: int = 0, level: Any = None
) -> list[Comparison]:
    """Compares two strategies.

    Args:
        one: The one.
        other: The other, measured in the same way.
        problems: Those to compare on; of them count those that both have.
        resamples: Draws of the bootstrap.
        seed: Of the bootstrap.
        level: What these problems are called.

    Returns:
        Budget by budget of those that both can speak about; nothing without a problem in common.
    """
    common = [uid for uid in problems if uid in one.values and uid in other.values]
    rows = []
    for budget in one.budgets if common else ():
        if budget in other.budgets:
            values, others = (
                np.array([of.values[uid][list(of.budgets).index(budget)] for uid in common]) for of in (one, other)
            )
            gain = bootstrap_mean(values - others, resamples=resamples, seed=seed)
            rows.append(_row(one, other, budget, values, others, gain, level))
    return rows


def _row(
    one: Measured, other: Measured, budget: int, values: Floats, others: Floats, gain: Estimate, level: Any
) -> Comparison:
    n, accuracy = len(values), float(values.mean())
    low, high = wilson_interval(accuracy, n)
    return Comparison(
        task=one.pools.task,
        strategy=one.pools.strategy,
        against=other.pools.strategy,
        budget=budget,
        selection=one.selection,
        aggregation=one.aggregation if one.selection in SCORED else None,
        accuracy=accuracy,
        low=low,
        high=high,
        difference=gain.value,
        difference_low=gain.low,
        difference_high=gain.high,
        detectable=detectable_difference(values - others),
        n=n,
        level=level,
    )
