"""Intervals of statistics that have no formula, by resampling whole questions: their solutions go together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tts_eval.selection import Integers


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(
    clusters: int, statistic: Callable[[Integers], float | None], *, resamples: int = 1000, seed: int = 0
) -> Estimate | None:
    """Estimates a statistic, with the 95 % percentile interval over resampled clusters.

    Args:
        clusters: How many there are, at least one.
        statistic: From the numbers of the clusters drawn, some of them several times, to a value; None where they
            don't have one. Such draws don't count.
        resamples: Number of draws.
        seed: Of the draws.

    Returns:
        None where the clusters as they are don't have a value.
    """
    value = statistic(np.arange(clusters))
    if value is None:
        return None
    random = np.random.default_rng(seed)
    drawn = [statistic(random.integers(clusters, size=clusters)) for _ in range(resamples)]
    low, high = np.quantile([one for one in drawn if one is not None] or [value], (0.025, 0.975))
    return Estimate(float(value), float(low), float(high))
