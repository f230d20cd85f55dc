"""Test-time against pretraining compute at equal FLOPs (Snell et al. 2024, section 7).

A model M times as large costs M times as much to train and to ask. What it costs more than the small one is K
generations a problem of the small one; K depends on R, the tokens inferred over those trained on. The larger model
answers once, greedily.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tts_eval.analysis.curves import at_budget
from tts_eval.analysis.flops import (
    Accounting,
    inference_flops,
    matching_budget,
    matching_ratio,
    pretraining_flops,
)
from tts_eval.analysis.paired import detectable_difference
from tts_eval.analysis.resampling import FEWEST, bootstrap_counts, bootstrap_mean, percentiles
from tts_eval.selection import Floats


Verdict = Literal["win", "tie", "lose"]

WITHIN = 1.03
"""A budget this little above one that was run is taken as that."""


@dataclass(frozen=True)
class Exchange:
    """Test-time compute against the larger model, at one R, on some problems.

    Attributes:
        strategy: How the small model spends its budget.
        level: The problems' bin; None for all.
        ratio: R, inference tokens over pretraining tokens.
        budget: K, the generations a problem that match the larger model.
        measured: The budget at which the small model was scored: K, or the one nearest to it that was run.
        accuracy: The small model's there, between two budgets on a line over log2.
        larger: The larger model's.
        gain: (accuracy - larger) / larger, the paper's relative gain; None where the larger model solves nothing.
        gain_low: Lower end of its 95 % interval: paired bootstrap over problems; None with fewer than `FEWEST`.
        gain_high: Its upper end.
        difference: accuracy - larger,
        difference_low: with its interval, NaN with fewer than `FEWEST` problems,
        difference_high: likewise.
        detectable: The smallest true difference that so many problems would show in four of five cases.
        verdict: Of test-time compute: whether the interval of the difference is above or below zero. None where that
            isn't told: it was scored with more than equal FLOPs and doesn't lose even so, or with fewer and doesn't
            win even so.
        n: Number of problems.
    """

    strategy: str
    level: Any
    ratio: float
    budget: float
    measured: float
    accuracy: float
    larger: float
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    difference: float
    difference_low: float
    difference_high: float
    detectable: float
    verdict: Verdict | None
    n: int

    @property
    def at_least(self) -> bool:
        """Whether fewer generations were run than would match: the small model may be better than measured."""
        return _more(self.budget, self.measured)

    @property
    def at_most(self) -> bool:
        """Whether more generations were run than match: the small model is worse than measured."""
        return _more(self.measured, self.budget)


@dataclass(frozen=True)
class Threshold:
    """From which R on the larger model is worth it, on some problems.

    Attributes:
        strategy: See `Exchange`.
        level: See `Exchange`.
        budget: The budget at which the small model first reaches the larger one's accuracy; None where it doesn't
            within what was run.
        ratio: The R at which that budget matches the larger model: below it test-time compute is better, above it the
            larger model. None where no R does: with a budget up to M test-time compute is better at every R; where the
            budget is None the larger model is better at every R whose K was run.
        at_least: Whether a smaller budget might have done, and the R be larger: the smallest that was run did.
        n: Number of problems.
    """

    strategy: str
    level: Any
    budget: float | None
    ratio: float | None
    at_least: bool
    n: int


@dataclass(frozen=True)
class TotalFlops:
    """Pretraining and inference of both models at one R.

    Attributes:
        ratio: R.
        inference_tokens: R times the tokens that the base was trained on: what the larger model writes in its life.
        pretraining: FLOPs of training the base.
        inference: FLOPs of `budget` times as many tokens from the base.
        larger_pretraining: FLOPs of training the larger model on as many tokens.
        larger_inference: FLOPs of the larger model's tokens.
        budget: K, at which the sums of both models are equal.
    """

    ratio: float
    inference_tokens: float
    pretraining: float
    inference: float
    larger_pretraining: float
    larger_inference: float
    budget: float


def total_flops(
    parameters: int, tokens: float, *, times: float, ratios: Sequence[float], accounting: Accounting
) -> list[TotalFlops]:
    """Both models' FLOPs over their life, where both were trained on as many tokens.

    Args:
        parameters: The base's.
        tokens: D_pretrain.
        times: M.
        ratios: The R's.
        accounting: See `tts_eval.analysis.flops`.
    """
    rows = []
    for ratio in ratios:
        written, budget = ratio * tokens, matching_budget(times, ratio, accounting)
        ours = pretraining_flops(parameters, tokens), inference_flops(parameters, written * budget, accounting)
        theirs = times * ours[0], inference_flops(times * parameters, written, accounting)
        rows.append(TotalFlops(ratio, written, *ours, *theirs, budget))
    return rows


def exchange(
    strategy: str,
    values: Floats,
    costs: Sequence[float],
    larger: Floats,
    *,
    times: float,
    ratios: Sequence[float],
    accounting: Accounting,
    level: Any = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Exchange]:
    """Compares both at each R.

    Args:
        strategy: What to call the small model's way of spending its budget.
        values: Each problem's chance to be right, [problems, costs].
        costs: Generations a problem, ascending.
        larger: What the larger model made of the same problems, [problems].
        times: M.
        ratios: The R's.
        accounting: See `tts_eval.analysis.flops`.
        level: What the problems are called.
        resamples: Draws of the bootstrap.
        seed: Of the bootstrap.
    """
    n, rows = len(values), []
    counts = bootstrap_counts(n, resamples, seed)
    for ratio in ratios:
        budget = matching_budget(times, ratio, accounting)
        small, measured = at_budget(values, costs, budget)
        ours, theirs = counts @ small / n, counts @ larger / n  # [draws]
        paired = bootstrap_mean(small - larger, resamples=resamples, seed=seed)
        relative = np.divide(ours - theirs, theirs, out=np.full_like(ours, np.nan), where=theirs > 0)
        gain_low, gain_high = map(float, percentiles(relative)) if (theirs > 0).any() and n >= FEWEST else (None, None)
        accuracy, of_larger = float(small.mean()), float(larger.mean())
        verdict: Verdict | None = "win" if paired.low > 0 else "lose" if paired.high < 0 else "tie"
        if (_more(measured, budget) and verdict != "lose") or (_more(budget, measured) and verdict != "win"):
            verdict = None
        rows.append(
            Exchange(
                strategy=strategy,
                level=level,
                ratio=ratio,
                budget=budget,
                measured=measured,
                accuracy=accuracy,
                larger=of_larger,
                gain=(accuracy - of_larger) / of_larger if of_larger else None,
                gain_low=gain_low,
                gain_high=gain_high,
                difference=accuracy - of_larger,
                difference_low=paired.low,
                difference_high=paired.high,
                detectable=detectable_difference(small - larger),
                verdict=verdict,
                n=n,
            )
        )
    return rows


def _more(one: float, other: float) -> bool:
    return one > other * WITHIN


def worth_it_from(
    strategy: str,
    values: Floats,
    costs: Sequence[float],
    larger: Floats,
    *,
    times: float,
    accounting: Accounting,
    level: Any = None,
) -> Threshold:
    """The inverse question: from which R on is the larger model worth it? See `exchange` for the arguments."""
    curve, goal = values.mean(axis=0), float(larger.mean())
    reached = np.flatnonzero(curve >= goal)
    if not len(reached):
        return Threshold(strategy, level, None, None, False, len(values))
    first = int(reached[0])
    if first == 0:
        budget = float(costs[0])
    else:
        share = (goal - curve[first - 1]) / (curve[first] - curve[first - 1])
        budget = float(2 ** (np.log2(costs[first - 1]) * (1 - share) + np.log2(costs[first]) * share))
    ratio = matching_ratio(times, budget, accounting)
    bound = first == 0 and ratio is not None
    return Threshold(strategy, level, budget, ratio, bound, len(values))
