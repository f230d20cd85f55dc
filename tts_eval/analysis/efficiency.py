"""How many times the budget a baseline needs to do as well as a method (Snell et al. 2024, section 6).

The paper says that compute-optimal scaling does as well as best-of-N with about 4x less compute (16 against 64
generations with search, 64 against 256 with revisions). Here that factor has an interval, and says where it is a mere
bound because the baseline wasn't measured far enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tts_eval.analysis.resampling import bootstrap_counts
from tts_eval.selection import Floats


_ROUNDING = 1e-9  # Accuracies that differ by less differ only in the order they were summed in.


@dataclass(frozen=True, slots=True)
class Factor:
    """An efficiency factor, or a bound of it.

    Attributes:
        value: The factor or bound; 4 says that the baseline needs four times the budget.
        at_least: Whether it is a lower bound: the baseline doesn't get there within its largest budget.
        at_most: Whether it is an upper bound: the baseline is better already at its smallest budget.
    """

    value: float
    at_least: bool = False
    at_most: bool = False


@dataclass(frozen=True, slots=True)
class Efficiency:
    """How efficient a method is at one budget.

    Attributes:
        budget: The method's.
        accuracy: The method's, 0 to 1.
        factor: The budget at which the baseline first has that accuracy, divided by the method's.
        low: Lower end of the 95 % interval, by a paired bootstrap over the problems.
        high: Its upper end.
        n: Number of problems.
    """

    budget: float
    accuracy: float
    factor: Factor
    low: Factor
    high: Factor
    n: int


def efficiency(
    method: Floats, budget: float, baseline: Floats, budgets: Sequence[float], *, resamples: int = 1000, seed: int = 0
) -> Efficiency:
    """Measures a method against a baseline on the same problems.

    Between two measured budgets the baseline's accuracy is taken to be linear in the logarithm of the budget. Where the
    curve falls and rises again the first crossing counts.

    Args:
        method: Each problem's chance to be right, [problems].
        budget: The method's, in any unit that is also the baseline's: generations, tokens, FLOPs.
        baseline: Each problem's chance to be right at each budget, [problems, budgets].
        budgets: The baseline's, positive, ascending.
        resamples: Draws of problems, the same for both.
        seed: Of the draws.
    """
    n = len(method)
    values = np.column_stack([baseline, method])
    draws = bootstrap_counts(n, resamples, seed) @ values / n  # [resamples, budgets + 1]
    means = np.vstack([values.mean(axis=0), draws])
    logs = np.log2(budgets)
    reached = _first_reached(means[:, :-1], means[:, -1], logs)
    ordered = np.sort(reached[1:])
    # Order statistics as they are: between a number and an infinity there is nothing to interpolate.
    low, high = ordered[math.floor(0.025 * (resamples - 1))], ordered[math.ceil(0.975 * (resamples - 1))]
    factor, low_factor, high_factor = (_factor(log, logs, budget) for log in (reached[0], low, high))
    return Efficiency(budget, float(method.mean()), factor, low_factor, high_factor, n)


def _first_reached(curves: Floats, targets: Floats, logs: Floats) -> Floats:
    """The logarithm of the budget at which each curve first reaches its target, from the left.

    Args:
        curves: [draws, budgets].
        targets: [draws].
        logs: Of the budgets, [budgets].

    Returns:
        [draws]; infinite where the curve never reaches it, minus infinity where it starts above.
    """
    reaches = curves >= targets[:, None] - _ROUNDING
    first = reaches.argmax(axis=1)
    before = np.maximum(first - 1, 0)
    rows = np.arange(len(curves))
    left, right = curves[rows, before], curves[rows, first]
    share = np.clip((targets - left) / np.where(right > left, right - left, 1.0), 0.0, 1.0)
    found = logs[before] + share * (logs[first] - logs[before])
    found[curves[:, 0] > targets + _ROUNDING] = -np.inf
    found[~reaches.any(axis=1)] = np.inf
    return found


def _factor(log: float, logs: Floats, budget: float) -> Factor:
    within = float(np.clip(log, logs[0], logs[-1]))
    return Factor(2.0**within / budget, at_least=bool(log == np.inf), at_most=bool(log == -np.inf))
