"""How hard problems are for the base model, as bins (Snell et al. 2024, section 3.2)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy.stats import rankdata

from tts_eval.analysis.accuracy import by_level
from tts_eval.analysis.pools import Grader, Pool, PoolSet, load_pools
from tts_eval.selection import Aggregation, Floats, candidate_scores
from tts_eval.types import TtsEvalError


BINS = 5
"""The paper's number of bins."""

THRESHOLDS = (0.5, 0.1)
"""Easy, medium and hard by pass@1, whatever the other problems are like (Liu et al. 2025, arXiv 2502.06703)."""

Kind = Literal["oracle", "predicted", "absolute", "level"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Quantiles of pass@1, quantiles of the verifier's mean score, `THRESHOLDS`, and the data's own labels."""


def pass_rates(pools: PoolSet) -> dict[str, float]:
    """Each problem's pass@1: the share of its candidates that are right, averaged over seeds."""
    shares: dict[str, list[float]] = defaultdict(list)
    for pool in pools.pools:
        shares[pool.uid].append(float(pool.correct.mean()))
    return {uid: float(np.mean(of_seeds)) for uid, of_seeds in shares.items()}


def mean_scores(pools: PoolSet, aggregation: Aggregation = "last") -> dict[str, float]:
    """What the verifier thinks of each problem: its mean score over the samples, averaged over seeds; no labels needed.

    A sample without any step has no score and counts 0, as in `tts_eval.search.optimal`.

    Args:
        pools: Independent samples.
        aggregation: How step scores become one score; the paper's is the last step's.

    Returns:
        Nothing where some pool has no scores.
    """
    shares: dict[str, list[float]] = defaultdict(list)
    for pool in pools.pools:
        scores = candidate_scores(pool.candidates, aggregation)
        if scores is None:
            return {}
        shares[pool.uid].append(float(np.nan_to_num(scores).mean()))
    return {uid: float(np.mean(of_seeds)) for uid, of_seeds in shares.items()}


def quantile_bins(rates: Mapping[str, float], bins: int = BINS) -> dict[str, int]:
    """Cuts problems into bins of about equal size, bin 1 the easiest.

    How the paper treats ties is unstated, but its bins are uneven. Here problems with equal rates stay together, in the
    bin that holds the middle of their ranks: whoever comes first in the data has no advantage. Many equal rates make
    uneven bins, or even empty ones.

    Args:
        rates: A pass@1 for each problem.
        bins: How many to cut into.

    Returns:
        The bin of each problem, 1 to `bins`.
    """
    ranks = rankdata(-np.array(list(rates.values())))  # 1 for the easiest; ties have the mean of their ranks
    numbers = np.floor((ranks - 0.5) * bins / len(ranks)).astype(int) + 1
    return dict(zip(rates, numbers.tolist(), strict=True))


def quantile_thresholds(rates: Mapping[str, float], bins: int = BINS) -> tuple[float, ...]:
    """What separates `quantile_bins`: the midpoints between neighbours, descending, `bins - 1` of them.

    A problem is in bin b if b - 1 of them are above its rate.
    """
    numbers = quantile_bins(rates, bins)
    found: list[float] = []
    for number in range(1, bins):
        easier = [rate for uid, rate in rates.items() if numbers[uid] <= number]
        harder = [rate for uid, rate in rates.items() if numbers[uid] > number]
        # Beyond all rates where the bins on one side are empty.
        above = min(easier, default=math.nextafter(max(rates.values()), math.inf))
        found.append((above + max(harder)) / 2 if easier and harder else above if harder else min(rates.values()))
    return tuple(found)


def threshold_bins(rates: Mapping[str, float], thresholds: Sequence[float] = THRESHOLDS) -> dict[str, int]:
    """Cuts problems at fixed rates, bin 1 where the rate is at least the first.

    Args:
        rates: A pass@1, or a verifier's mean score, for each problem.
        thresholds: Descending.
    """
    return {uid: 1 + sum(rate < threshold for threshold in thresholds) for uid, rate in rates.items()}


def level_bins(pools: PoolSet) -> dict[str, int]:
    """The data's own difficulty labels, numbered in their order; problems without one are left out."""
    known = [(level, part) for level, part in by_level(pools) if level is not None]
    return {pool.uid: number for number, (_, part) in enumerate(known, start=1) for pool in part.pools}


def bins_of(kind: Kind, pools: PoolSet, *, aggregation: Aggregation = "last", bins: int = BINS) -> dict[str, int]:
    """The bin of each problem, 1 the easiest.

    Args:
        kind: What difficulty is.
        pools: Independent samples of the base model, the more the better.
        aggregation: How step scores become one score, for `predicted`.
        bins: How many quantiles.

    Returns:
        Nothing where the samples don't tell: without scores, or without labels.
    """
    if kind == "level":
        return level_bins(pools)
    rates = mean_scores(pools, aggregation) if kind == "predicted" else pass_rates(pools)
    if not rates:
        return {}
    return threshold_bins(rates) if kind == "absolute" else quantile_bins(rates, bins)


@dataclass(frozen=True)
class Stability:
    """How far bins depend on which samples were drawn.

    Attributes:
        kind: What difficulty is.
        samples: So many of each problem, at least.
        same: Share of the problems that are in the same bin when the samples are drawn again with replacement.
        near: Share of those that are in the same bin or in one beside it.
        problems: Number of problems in each bin, the easiest first.
    """

    kind: Kind
    samples: int
    same: float
    near: float
    problems: tuple[int, ...]


def stability(
    kind: Kind, pools: PoolSet, *, aggregation: Aggregation = "last", bins: int = BINS, draws: int = 100, seed: int = 0
) -> Stability | None:
    """Bins problems again from samples drawn with replacement; see `bins_of`.

    Returns:
        None where the samples don't tell the bins.
    """
    whole = bins_of(kind, pools, aggregation=aggregation, bins=bins)
    if not whole:
        return None
    of_bins = tuple(Counter(whole.values())[number] for number in range(1, max(whole.values()) + 1))
    seeds: dict[str, list[Floats]] = defaultdict(list)
    for pool in pools.pools:
        seeds[pool.uid].append(_values(kind, pool, aggregation))
    values = {uid: np.concatenate(of_seeds) for uid, of_seeds in seeds.items()}
    n = min(map(len, values.values()))
    if kind == "level":
        return Stability(kind, n, 1.0, 1.0, of_bins)
    random = np.random.default_rng(seed)
    moves: list[int] = []
    for _ in range(draws):
        again = {uid: float(random.choice(of_uid, len(of_uid)).mean()) for uid, of_uid in values.items()}
        found = threshold_bins(again) if kind == "absolute" else quantile_bins(again, bins)
        moves += [abs(found[uid] - whole[uid]) for uid in found]
    moved = np.array(moves)
    return Stability(kind, n, float((moved == 0).mean()), float((moved <= 1).mean()), of_bins)


def _values(kind: Kind, pool: Pool, aggregation: Aggregation) -> Floats:
    """What a problem's difficulty is the mean of, [n]."""
    scores = candidate_scores(pool.candidates, aggregation) if kind == "predicted" else None
    return pool.correct.astype(np.float64) if scores is None else np.nan_to_num(scores)


def load_bins(path: Path, grader: Grader, bins: int = BINS) -> dict[str, dict[str, int]]:
    """Oracle bins from a journal of independent samples of the base model, the more the better.

    Args:
        path: The journal, or a folder that holds one.
        grader: Judges equivalence.
        bins: How many to cut into.

    Returns:
        By task the bin of each problem.

    Raises:
        TtsEvalError: If there is no such journal, or there are several of one task.
    """
    found: dict[str, PoolSet] = {}
    for pools in load_pools([path], grader)[0]:
        if not pools.independent:
            raise TtsEvalError(
                f"{path}: bins need independent samples, and {pools.strategy} is a joint search; "
                "name a journal of tts-best-of-n with the base model"
            )
        if pools.task in found:
            raise TtsEvalError(
                f"{path}: holds several runs of {pools.task} ({found[pools.task].strategy}; {pools.strategy}), and "
                "bins need one; name a single journal of the base model"
            )
        found[pools.task] = pools
    return {task: quantile_bins(pass_rates(pools), bins) for task, pools in found.items()}


def by_bin(pools: PoolSet, bins: Mapping[str, int]) -> list[tuple[str, PoolSet]]:
    """Parts a set by the bins of its problems, the easiest first; problems without a bin are left out.

    Returns:
        `bin 1` and so on, without those that would be empty, each with its part.
    """
    numbers = sorted({bins[pool.uid] for pool in pools.pools if pool.uid in bins})
    members = {number: tuple(pool for pool in pools.pools if bins.get(pool.uid) == number) for number in numbers}
    return [(f"bin {number}", replace(pools, pools=part)) for number, part in members.items()]
