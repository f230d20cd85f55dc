"""Proxy against gold: does more budget buy right answers, or only higher scores (Gao et al. 2023, 2210.10760)?

Best-of-N picks the answer that its verifier likes best. The verifier's score, the proxy, rises with N by construction;
accuracy, the gold, follows for as long as the verifier is right about the best of so many. The budget from which on
only the proxy rises is the hacking threshold (Khalaf et al. 2025, 2506.19248).
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import hypergeom

from tts_eval.analysis.accuracy import pool_budgets, values_by_problem, wilson_interval
from tts_eval.analysis.pools import Pool, PoolSet
from tts_eval.analysis.resampling import bootstrap_counts, bootstrap_mean
from tts_eval.selection import UNPARSABLE, Aggregation, Floats, candidate_scores


_ROUNDING = 1e-9  # Standard errors below it are those of differences that don't vary at all.


@dataclass(frozen=True)
class HackingRow:
    """Best-of-N at one budget.

    Attributes:
        task: lm-eval's task name.
        strategy: The strategy's name (see `PoolSet`).
        budget: The paper's N.
        aggregation: How step scores became one score.
        level: The problems' difficulty label or bin, where they are shown apart.
        n: Number of problems.
        proxy: Mean score of the selected answer, over the problems that have an answer at all, with
        proxy_low: the ends of its 95 % interval, by a bootstrap over problems.
        proxy_high: The upper one.
        accuracy: Share of the problems whose selected answer is right, with
        low: the ends of its 95 % interval,
        high: see `wilson_interval`.
        best: The budget with the highest accuracy; the same in all rows.
        proxy_change: The proxy here less that at the best budget, with
        proxy_change_low: the ends of its 95 % interval, by a paired bootstrap.
        proxy_change_high: The upper one.
        change: The accuracy here less that at the best budget, with
        change_low: the ends of its 95 % interval, by a paired bootstrap. The best budget is picked from the same data,
            so the interval is simultaneous: with 95 % it holds for all pairs of budgets at once.
        change_high: The upper one.
    """

    task: str
    strategy: str
    budget: int
    aggregation: Aggregation
    level: Any
    n: int
    proxy: float
    proxy_low: float
    proxy_high: float
    accuracy: float
    low: float
    high: float
    best: int
    proxy_change: float
    proxy_change_low: float
    proxy_change_high: float
    change: float
    change_low: float
    change_high: float


def hacking_rows(
    sets: Sequence[PoolSet],
    *,
    aggregation: Aggregation = "last",
    resamples: int = 1000,
    seed: int = 0,
    level: Any = None,
) -> list[HackingRow]:
    """Measures proxy and accuracy of the selection `best_of_n` over the budget.

    Args:
        sets: One set of independent samples, which speaks for all smaller budgets, or those of one joint search at
            several budgets. Problems count that all of them have.
        aggregation: How step scores become one score.
        resamples: Subsets a problem and budget for the accuracy, see `accuracy_rows`; the proxy is the exact mean over
            all subsets. Also draws of the bootstrap.
        seed: Of both.
        level: Put in the rows.

    Returns:
        Budget by budget; nothing where scores are missing, or no problem has answers everywhere.
    """
    ordered = sorted(sets, key=lambda pools: pools.budget)
    budgets = [budget for pools in ordered for budget in pool_budgets(pools)]
    curves = _curves(ordered, aggregation, resamples, seed)
    if curves is None:
        return []
    accuracy, proxy = curves
    n, best = len(accuracy), int(accuracy.mean(axis=0).argmax())
    changes = accuracy.mean(axis=0) - accuracy.mean(axis=0)[best]
    margins = _margins(accuracy, best, resamples, seed)
    rows = []
    for i, budget in enumerate(budgets):
        columns = proxy[:, i], proxy[:, i] - proxy[:, best]
        score, rise = (bootstrap_mean(column, resamples=resamples, seed=seed) for column in columns)
        right, change, margin = float(accuracy[:, i].mean()), float(changes[i]), float(margins[i])
        row = HackingRow(
            *(ordered[0].task, ordered[0].strategy, budget),
            *(aggregation, level, n),
            *(score.value, score.low, score.high),
            *(right, *wilson_interval(right, n)),
            budgets[best],
            *(rise.value, rise.low, rise.high),
            *(change, change - margin, change + margin),
        )
        rows.append(row)
    return rows


def hacking_threshold(rows: Sequence[HackingRow]) -> int | None:
    """The budget from which on the selection exploits its verifier: accuracy falls while the proxy still rises.

    Args:
        rows: What `hacking_rows` returned.

    Returns:
        The budget with the highest accuracy, if at some larger one both changes are significant: accuracy's interval
        lies below 0, the proxy's above. Else None.
    """
    return next((row.best for row in rows if row.change_high < 0 < row.proxy_change_low), None)


def _curves(
    sets: Sequence[PoolSet], aggregation: Aggregation, resamples: int, seed: int
) -> tuple[Floats, Floats] | None:
    """Accuracy and proxy of each problem at each budget of the sets: [problems, budgets], [with an answer, budgets]."""
    gold, proxies = [], []
    for pools in sets:
        budgets = pool_budgets(pools)
        how: dict[str, Any] = {"aggregation": aggregation, "budgets": budgets}
        gold.append(values_by_problem(pools, measure="best_of_n", resamples=resamples, seed=seed, **how))
        proxies.append(_proxies(pools, **how))
    common = [uid for uid in gold[0] if all(uid in of for of in gold)]
    answered = [uid for uid in common if all(uid in of for of in proxies)]
    if not answered:
        return None
    accuracy = np.array([np.concatenate([of[uid] for of in gold]) for uid in common])
    return accuracy, np.array([np.concatenate([of[uid] for of in proxies]) for uid in answered])


def _margins(accuracy: Floats, best: int, resamples: int, seed: int) -> Floats:
    """Half widths of the simultaneous intervals of all budgets' differences to one of them, [budgets].

    Each difference has a standard error; how many of them the largest error among all pairs of budgets is, in 95 % of
    the draws, is what all intervals have in common (the bootstrap's max-t).
    """
    draws = bootstrap_counts(len(accuracy), resamples, seed) @ accuracy / len(accuracy)
    draws -= accuracy.mean(axis=0)
    errors = draws[:, :, None] - draws[:, None, :]  # [draws, budgets, budgets]
    standard = errors.std(axis=0)
    several = np.abs(errors) / np.where(standard > _ROUNDING, standard, np.inf)
    return np.quantile(several.max(axis=(1, 2)), 0.95) * standard[best]


def _proxies(pools: PoolSet, aggregation: Aggregation, budgets: Sequence[int]) -> dict[str, Floats]:
    """Each problem's mean score of the selected answer at each budget, [budgets]; seeds are averaged.

    Left out are problems of which a pool has no answer at all, or no scores.
    """
    by_problem: dict[str, list[Floats | None]] = defaultdict(list)
    for pool in pools.pools:
        sizes = budgets if pools.independent else [len(pool.candidates)]
        by_problem[pool.uid].append(_best_scores(pool, aggregation, sizes))
    known = {uid: [one for one in seeds if one is not None] for uid, seeds in by_problem.items()}
    return {uid: np.mean(seeds, axis=0) for uid, seeds in known.items() if len(seeds) == len(by_problem[uid])}


def _best_scores(pool: Pool, aggregation: Aggregation, sizes: Sequence[int]) -> Floats | None:
    """The mean of the highest score in a random subset of each size that has an answer, [sizes]."""
    scores = candidate_scores(pool.candidates, aggregation)
    answered = pool.classes != UNPARSABLE
    if scores is None or not answered.any():
        return None
    ascending = np.sort(scores[answered])
    # Those without an answer can't win: they rank below all others.
    chances = np.array([_highest_chances(len(scores), k)[-len(ascending) :] for k in sizes])  # [sizes, answered]
    return chances @ ascending / chances.sum(axis=1)


@functools.lru_cache(maxsize=64)
def _highest_chances(n: int, k: int) -> Floats:
    """The chance of each of n ranks to be the highest in a random subset of size k, lowest rank first, [n]."""
    return np.diff(hypergeom.pmf(k, n, np.arange(n + 1), k))  # all k are among the lowest i: C(i, k) / C(n, k)
