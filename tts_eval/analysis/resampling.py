"""Bootstrap intervals of many statistics at once: like `tts_eval.analysis.bootstrap`, as one product of matrices."""

from __future__ import annotations

import functools
import math

import numpy as np

from tts_eval.analysis.bootstrap import Estimate
from tts_eval.selection import Floats


FEWEST = 6
"""Of fewer problems no difference can be told from zero at 5 %, whatever they say: 2 x 0.5^5 is more."""


@functools.lru_cache(maxsize=16)  # every table draws the same problems again
def bootstrap_counts(clusters: int, resamples: int, seed: int) -> Floats:
    """How often each cluster is in each draw, [resamples, clusters]; the draws are those of `bootstrap`."""
    drawn = np.random.default_rng(seed).integers(clusters, size=(resamples, clusters))
    cells = drawn + np.arange(resamples)[:, None] * clusters
    return np.bincount(cells.ravel(), minlength=resamples * clusters).reshape(drawn.shape).astype(np.float64)


def percentiles(draws: Floats) -> tuple[Floats, Floats]:
    """The ends of the 95 % percentile interval of each column, [draws, m]; NaNs don't count."""
    quantile = np.nanquantile if np.isnan(draws).any() else np.quantile  # the former is many times slower
    low, high = quantile(draws, (0.025, 0.975), axis=0)
    return low, high


def interval(draws: Floats, n: int) -> tuple[float, float]:
    """The 95 % percentile interval of a mean over n problems, [draws]; NaN where they are fewer than `FEWEST`."""
    if n < FEWEST:
        return math.nan, math.nan
    low, high = percentiles(draws)
    return float(low), float(high)


def bootstrap_ratios(tops: Floats, bottoms: Floats, *, resamples: int = 1000, seed: int = 0) -> list[Estimate | None]:
    """Estimates ratios of sums over clusters; a mean is one whose bottoms are all 1.

    Args:
        tops: What is summed above the line, [clusters, m].
        bottoms: What is summed below it, [clusters, m], none of it negative.
        resamples: Number of draws.
        seed: Of the draws, which are the same for all m.

    Returns:
        m estimates; None where nothing is below the line. Draws in which nothing is don't count.
    """
    counts = bootstrap_counts(len(tops), resamples, seed)
    some = bottoms.sum(axis=0) > 0
    above, below = counts @ tops[:, some], counts @ bottoms[:, some]  # [resamples, m]
    draws = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    values = tops[:, some].sum(axis=0) / bottoms[:, some].sum(axis=0)
    found = (Estimate(*map(float, one)) for one in zip(values, *percentiles(draws), strict=True))
    return [next(found) if any_below else None for any_below in some]


def bootstrap_mean(values: Floats, *, resamples: int = 1000, seed: int = 0) -> Estimate:
    """Estimates the mean of one value a cluster, [clusters]; see `interval`."""
    draws = bootstrap_counts(len(values), resamples, seed) @ values / len(values)
    return Estimate(float(values.mean()), *interval(draws, len(values)))
