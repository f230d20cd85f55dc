"""How hard problems are for the base model, as bins (Snell et al. 2024, section 3.2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from tts_eval.analysis.pools import Grader, PoolSet, load_pools
from tts_eval.types import TtsEvalError


BINS = 5
"""The paper's number of bins."""


def pass_rates(pools: PoolSet) -> dict[str, float]:
    """Each problem's pass@1: the share of its candidates that are right, averaged over seeds."""
    shares: dict[str, list[float]] = defaultdict(list)
    for pool in pools.pools:
        shares[pool.uid].append(float(pool.correct.mean()))
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
