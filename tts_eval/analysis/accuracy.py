"""Accuracy at every budget from one stored pool of candidates, with intervals (Snell et al. 2024, sections 3 and 5).

A budget k smaller than the pool is what k of its n candidates give, averaged over subsets drawn without replacement: an
unbiased estimate of a run with budget k, and a far steadier one than the first k candidates.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np

from tts_eval.analysis.paired import detectable_difference
from tts_eval.analysis.pools import Pool, PoolSet
from tts_eval.analysis.resampling import bootstrap_mean
from tts_eval.analysis.subsets import permutations, subset_key
from tts_eval.selection import (
    Aggregation,
    Floats,
    Integers,
    candidate_scores,
    coverage,
    expected_correctness,
    winners,
)


Measure = Literal["mean", "majority", "best_of_n", "best_of_n_weighted", "coverage"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
"""The selections, and what frames them: `mean` (a candidate at random) and `coverage` (an oracle picks; pass@k)."""

SCORED: tuple[Measure, ...] = ("best_of_n", "best_of_n_weighted")
"""The measures that need a verifier's scores, and an aggregation of them."""

Column = tuple[Measure, Aggregation | None]


@dataclass(frozen=True)
class Row:
    """One accuracy.

    Attributes:
        task: lm-eval's task name.
        strategy: The strategy's name (see `PoolSet`).
        budget: Candidates selected from; for strategies other than independent sampling, the run's N.
        aggregation: How step scores became one score; None where no score is used.
        selection: One of `MEASURES`.
        accuracy: Mean over the problems of the chance that the answer is right, 0 to 1.
        low: Lower end of the 95 % interval (see `wilson_interval`).
        high: Its upper end.
        n: Number of problems.
        level: The problems' difficulty label, where they are shown apart.
    """

    task: str
    strategy: str
    budget: int
    aggregation: Aggregation | None
    selection: Measure
    accuracy: float
    low: float
    high: float
    n: int
    level: Any = None


@dataclass(frozen=True)
class Difference:
    """How much one measure is better than another on the same problems.

    Attributes:
        task: See `Row`.
        strategy: See `Row`.
        budget: See `Row`.
        aggregation: See `Row`.
        selection: The one.
        against: The other.
        difference: Mean over the problems of the one's chance to be right less the other's.
        low: Lower end of the 95 % interval: bootstrap over problems, whose pairs stay together.
        high: Its upper end.
        detectable: The smallest true difference that so many problems would show in four of five cases.
        n: Number of problems.
        level: See `Row`.
    """

    task: str
    strategy: str
    budget: int
    aggregation: Aggregation | None
    selection: Measure
    against: Measure
    difference: float
    low: float
    high: float
    detectable: float
    n: int
    level: Any = None


def wilson_interval(accuracy: float, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of an accuracy over n problems.

    The accuracy is a mean of chances in [0, 1] rather than of right/wrong, so it need not be a multiple of 1/n. A
    variable in [0, 1] with mean p has variance at most p(1-p), that of right/wrong, so the interval is conservative.

    Args:
        accuracy: 0 to 1.
        n: At least 1.
    """
    z = NormalDist().inv_cdf(0.975)
    centre = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    # Rounding would put the ends of 0 and of 1 a hair inside, and an error bar has no negative length.
    return max(0.0, min(accuracy, centre - half)), min(1.0, max(accuracy, centre + half))


def pool_budgets(pools: PoolSet) -> list[int]:
    """The budgets that a set can speak about: 1, 2, 4, ... and n for independent samples, else only the run's own.

    n is the size of the smallest pool, so that every budget is measured on the same problems.
    """
    if not pools.independent:
        return [pools.budget]
    n = min(len(pool.candidates) for pool in pools.pools)
    return sorted({1 << i for i in range(n.bit_length()) if 1 << i <= n} | {n})


def accuracy_rows(
    pools: PoolSet,
    *,
    measures: Sequence[Measure] = MEASURES,
    aggregations: Sequence[Aggregation] = ("last",),
    budgets: Sequence[int] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Row]:
    """Measures one set of pools.

    `mean` and `coverage` follow closed formulas. The selections average over all k-subsets of a pool if there are at
    most `resamples` of them, else over that many random ones. Seeds of one problem are averaged: n counts problems.

    Args:
        pools: What `load_pools` returned.
        measures: Columns wanted; those that need scores are left out where any pool has none.
        aggregations: One column a scored measure and aggregation.
        budgets: A selection of `pool_budgets`, the default; for independent samples any up to the smallest pool.
        resamples: Subsets a problem and budget.
        seed: Keys the subsets, together with problem and run seed: a problem's value depends on no other problem.

    Returns:
        Budget by budget, measure by measure.
    """
    wanted = pool_budgets(pools) if budgets is None else budgets
    columns, by_problem = _values(pools, measures, aggregations, wanted, resamples, seed)
    values = np.array(list(by_problem.values()))
    n = len(values)
    return [
        Row(pools.task, pools.strategy, budget, how, measure, float(p), *wilson_interval(float(p), n), n)
        for budget, of_budget in zip(wanted, values.mean(axis=0), strict=True)
        for (measure, how), p in zip(columns, of_budget, strict=True)
    ]


def differences(
    pools: PoolSet,
    against: Measure,
    *,
    measures: Sequence[Measure] = MEASURES,
    aggregations: Sequence[Aggregation] = ("last",),
    budgets: Sequence[int] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Difference]:
    """Compares measures with one of them, problem by problem.

    Args:
        pools: See `accuracy_rows`.
        against: A measure that needs no scores.
        measures: The measures to compare with it.
        aggregations: See `accuracy_rows`.
        budgets: See `accuracy_rows`.
        resamples: Subsets a problem and budget, and draws of the bootstrap.
        seed: Of both.

    Returns:
        Budget by budget, measure by measure.
    """
    wanted = pool_budgets(pools) if budgets is None else budgets
    others = [measure for measure in measures if measure != against]
    columns, by_problem = _values(pools, [against, *others], aggregations, wanted, resamples, seed)
    values = np.array(list(by_problem.values()))
    gains = values[:, :, 1:] - values[:, :, :1]  # [problems, budgets, columns]
    n = len(gains)
    found = []
    for i, budget in enumerate(wanted):
        for (measure, how), gain in zip(columns[1:], gains[:, i].T, strict=True):
            mean = bootstrap_mean(gain, resamples=resamples, seed=seed)
            ends = mean.value, mean.low, mean.high, detectable_difference(gain)
            found.append(Difference(pools.task, pools.strategy, budget, how, measure, against, *ends, n))
    return found


def values_by_problem(
    pools: PoolSet, *, measure: Measure, aggregation: Aggregation, budgets: Sequence[int], resamples: int, seed: int
) -> dict[str, Floats]:
    """Each problem's chance to be right at each budget, [budgets]; no problem where scores are needed and missing.

    Args:
        pools: See `accuracy_rows`.
        measure: One of `MEASURES`.
        aggregation: Of the scores, if it needs them.
        budgets: See `accuracy_rows`.
        resamples: Subsets a problem and budget.
        seed: See `accuracy_rows`.
    """
    columns, by_problem = _values(pools, [measure], [aggregation], budgets, resamples, seed)
    return {uid: values[:, 0] for uid, values in by_problem.items()} if columns else {}


def by_level(pools: PoolSet) -> list[tuple[Any, PoolSet]]:
    """Parts a set by the problems' difficulty label, in its order; problems without one come last."""
    levels = {pool.level for pool in pools.pools}
    ordered = sorted(levels, key=lambda level: (level is None, level if isinstance(level, int) else 0, str(level)))
    parts = {level: tuple(pool for pool in pools.pools if pool.level == level) for level in ordered}
    return [(level, replace(pools, pools=part)) for level, part in parts.items()]


def _values(
    pools: PoolSet,
    measures: Sequence[Measure],
    aggregations: Sequence[Aggregation],
    budgets: Sequence[int],
    resamples: int,
    seed: int,
) -> tuple[list[Column], dict[str, Floats]]:
    """The columns that the pools can fill, and each problem's chances to be right, [budgets, columns]."""
    scores = {how: [candidate_scores(pool.candidates, how) for pool in pools.pools] for how in aggregations}
    usable = [how for how, of_pools in scores.items() if all(s is not None for s in of_pools)]
    columns: list[Column] = [
        (measure, how) for measure in measures for how in (usable if measure in SCORED else [None])
    ]
    by_problem: dict[str, list[Floats]] = defaultdict(list)
    for i, pool in enumerate(pools.pools):
        subsets = [_subsets(pool, k, resamples, seed) if pools.independent else _all(pool) for k in budgets]
        of_pool = {how: of_pools[i] for how, of_pools in scores.items()}
        by_problem[pool.uid].append(np.array([[_value(pool, c, of_pool, s) for c in columns] for s in subsets]))
    return columns, {uid: np.mean(seeds, axis=0) for uid, seeds in by_problem.items()}


def _value(pool: Pool, column: Column, scores: dict[Aggregation, Floats | None], subsets: Integers) -> float:
    """The chance that the column's selection from a random row of `subsets`, [r, k], is right."""
    measure, how = column
    if measure == "mean":
        return float(pool.correct.mean())
    if measure == "coverage":
        return coverage(pool.correct, subsets.shape[1])
    winning = winners(pool.classes, None if how is None else scores[how], subsets, measure)
    return float(expected_correctness(winning, pool.classes, pool.correct).mean())


def _all(pool: Pool) -> Integers:
    return np.arange(len(pool.candidates))[None]


def _subsets(pool: Pool, k: int, resamples: int, seed: int) -> Integers:
    """Subsets of size k of a pool, [r, k]: all of them, or `resamples` random ones."""
    n = len(pool.candidates)
    if math.comb(n, k) <= resamples:
        return _combinations(n, k)
    return permutations(subset_key(seed, pool), n, resamples)[:, :k]


@functools.lru_cache(maxsize=64)
def _combinations(n: int, k: int) -> Integers:
    return np.array(list(itertools.combinations(range(n), k)))
