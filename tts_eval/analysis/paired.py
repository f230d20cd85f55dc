"""Two strategies on the same problems: is the difference more than chance, and which difference could be seen at all?

What is paired stays paired: problems differ far more than strategies do, and the difference within a problem is free of
that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm

from tts_eval.analysis.bootstrap import Estimate
from tts_eval.analysis.resampling import interval
from tts_eval.selection import Booleans, Floats


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's exact test of two strategies on the same problems.

    Attributes:
        one_only: How many problems only the one got right.
        other_only: How many only the other did.
        p_value: How probable a split at least as uneven is if both are equally good, 0 to 1; two-sided.
    """

    one_only: int
    other_only: int
    p_value: float


def mcnemar(one: Booleans, other: Booleans) -> McNemar:
    """Tests whether two strategies are equally good; problems that both got right, or both wrong, say nothing.

    Args:
        one: Whether the one strategy's answer is right, [problems]; that of one run, not a mean over subsets or seeds.
        other: The other's, of the same problems in the same order.
    """
    one_only, other_only = int((one & ~other).sum()), int((other & ~one).sum())
    discordant = one_only + other_only
    p_value = float(binomtest(one_only, discordant).pvalue) if discordant else 1.0
    return McNemar(one_only, other_only, p_value)


def nested_bootstrap(values: Floats, *, resamples: int = 1000, seed: int = 0) -> Estimate:
    """Estimates a mean over problems of means over seeds; resamples the problems, and in each drawn one its seeds.

    With one seed it is `bootstrap_mean`. With more the interval says what another run on other problems could give; a
    mean over seeds already varies with them, so it is a little wider than need be, never narrower.

    Args:
        values: [problems, seeds], NaN where a problem has fewer seeds; at least one each. To compare two strategies,
            the one's value less the other's.
        resamples: Number of draws.
        seed: Of the draws; the problems drawn are those of `bootstrap`.
    """
    ordered = np.sort(values, axis=1)  # NaNs last; the order of a problem's seeds is of no meaning
    sizes = (~np.isnan(values)).sum(axis=1)
    random = np.random.default_rng(seed)
    drawn = random.integers(len(values), size=(resamples, len(values)))
    counts = sizes[drawn]  # [resamples, problems]
    totals = np.zeros(drawn.shape)
    for place in range(values.shape[1]):
        picked = random.integers(counts)
        totals += np.where(place < counts, ordered[drawn, picked], 0.0)
    draws = (totals / counts).mean(axis=1)
    return Estimate(float(np.nanmean(values, axis=1).mean()), *interval(draws, len(values)))


def detectable_difference(gains: Floats, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest true difference that a two-sided test on as many problems finds with the given power.

    Args:
        gains: The paired differences, [problems].
        power: The chance to find it.
        alpha: The chance to find a difference where there is none.

    Returns:
        In the unit of `gains`; NaN for a single problem.
    """
    n = len(gains)
    if n < 2:
        return float("nan")
    deviation = gains.std(ddof=1)
    return float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * deviation / n**0.5)


def half_width(n: int, accuracy: float = 0.5) -> float:
    """Half of the 95 % interval of one accuracy over n problems, by the normal approximation: 0.044 for 500 problems.

    For an idea of what n problems can tell; tables have `wilson_interval`.

    Args:
        n: Number of problems, at least 1.
        accuracy: 0 to 1; at one half it is widest.
    """
    return float(norm.ppf(0.975) * (accuracy * (1 - accuracy) / n) ** 0.5)
