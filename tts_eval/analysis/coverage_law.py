"""How coverage grows with the budget, and how much of it a selection leaves behind.

Brown et al. 2024 (2407.21787, section 3.1) found that coverage over k samples often follows an exponentiated power law,
`c = exp(-a k^-b)` with a, b > 0: the logarithm of coverage shrinks towards 0 like a power of k.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from tts_eval.analysis.bootstrap import Estimate
from tts_eval.analysis.resampling import bootstrap_counts, bootstrap_mean, percentiles
from tts_eval.selection import Floats


@dataclass(frozen=True, slots=True)
class CoverageLaw:
    """A fitted law.

    Attributes:
        a: Minus the logarithm of the fitted coverage at k = 1, with its 95 % interval.
        b: How fast that shrinks; each doubling of k multiplies it by 2^-b.
        r_squared: Share of the curve's variance over the budgets that the law explains.
        n: Number of problems.
    """

    a: Estimate
    b: Estimate
    r_squared: float
    n: int

    def coverage(self, budgets: Sequence[int]) -> Floats:
        """The fitted coverage at each budget, [budgets]."""
        return _law(np.log(budgets), float(np.log(self.a.value)), self.b.value)


@dataclass(frozen=True)
class SelectionGap:
    """What a selection leaves behind at one budget.

    Attributes:
        budget: The paper's N.
        coverage: Share of the problems with a right candidate.
        selected: Share of those whose selected answer is right.
        gap: The one less the other, with
        low: the ends of the 95 % interval, by a paired bootstrap over the problems.
        high: The upper one.
        n: Number of problems.
    """

    budget: int
    coverage: float
    selected: float
    gap: float
    low: float
    high: float
    n: int


def coverage_law(
    values: Floats, budgets: Sequence[int], *, resamples: int = 300, seed: int = 0
) -> CoverageLaw | None:
    """Fits the law to the mean coverage of problems, by least squares in coverage itself.

    Args:
        values: Each problem's chance that k samples hold a right one, [problems, budgets] (see `selection.coverage`).
        budgets: The k, at least 1, ascending.
        resamples: Draws of problems to which the law is fitted again, for the intervals.
        seed: Of the draws.

    Returns:
        None with fewer than three budgets, which any such law fits, or where coverage doesn't grow, or all at once.
    """
    logs, curve = np.log(budgets), values.mean(axis=0)
    fitted = _fit(logs, curve)
    if fitted is None:
        return None
    curves = bootstrap_counts(len(values), resamples, seed) @ values / len(values)  # [resamples, budgets]
    draws = np.array([_fit(logs, one) or (np.nan, np.nan) for one in curves])  # [resamples, 2]
    draws[:, 0] = np.exp(draws[:, 0])
    (a_low, b_low), (a_high, b_high) = (end.tolist() for end in percentiles(draws))
    log_a, b = fitted
    missed = ((curve - _law(logs, log_a, b)) ** 2).sum() / ((curve - curve.mean()) ** 2).sum()
    a = Estimate(float(np.exp(log_a)), a_low, a_high)
    return CoverageLaw(a, Estimate(b, b_low, b_high), float(1 - missed), len(values))


def selection_gap(
    coverage: Floats, selected: Floats, budgets: Sequence[int], *, resamples: int = 1000, seed: int = 0
) -> list[SelectionGap]:
    """Compares a selection with an oracle's, problem by problem.

    Args:
        coverage: Each problem's chance to have a right candidate, [problems, budgets].
        selected: Its chance that the selected answer is right, likewise.
        budgets: The budgets.
        resamples: Draws of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        Budget by budget.
    """
    rows = []
    for i, budget in enumerate(budgets):
        gap = bootstrap_mean(coverage[:, i] - selected[:, i], resamples=resamples, seed=seed)
        means = float(coverage[:, i].mean()), float(selected[:, i].mean())
        rows.append(SelectionGap(budget, *means, gap.value, gap.low, gap.high, len(coverage)))
    return rows


def _law(logs: Floats, log_a: float, b: float) -> Floats:
    """Coverage at budgets with these logarithms."""
    return np.exp(-np.exp(log_a - b * logs))


def _fit(logs: Floats, curve: Floats) -> tuple[float, float] | None:
    """The law's log(a) and b; None where the curve has none."""
    if len(curve) < 3 or curve[-1] <= curve[0]:
        return None
    # log(-log c) is a line in log k: start from the one through both ends, which may be at 0 or 1.
    first, last = np.log(-np.log(np.clip(curve[[0, -1]], 0.001, 0.999)))
    b = (first - last) / (logs[-1] - logs[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)  # of the covariance: intervals are bootstrapped
        try:
            (log_a, b), _ = curve_fit(_law, logs, curve, p0=(first + b * logs[0], b), maxfev=200)
        except RuntimeError:  # no optimum
            return None
    return float(log_a), float(b)
