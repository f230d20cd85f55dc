"""Adaptive-Consistency: no more samples once the leading answer is safe (Aggarwal et al. 2023, arXiv 2305.11860)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import betainc

from tts_eval.types import Outcome, Prefix, Sample, Score, Search


Classes = Callable[[Sequence[Prefix]], npt.NDArray[np.integer]]
"""From solutions to the class of each one's answer, [n]: equal answers share one; without an answer it is negative."""


def adaptive(
    budget: int, batch: int, confidence: float, classes: Classes, *, scored: bool, seen: tuple[Prefix, ...] = ()
) -> Search:
    """Best-of-N that stops once the leading answer is likely to stay the majority.

    The samples are the first of best-of-N's. The paper asks after every sample; in batches it takes fewer rounds and a
    few more samples.

    Args:
        budget: Most solutions to sample.
        batch: How many are sampled at a time.
        confidence: Stops where `lead` is above; 0.95 in the paper, and 1 never stops.
        classes: Groups equal answers. Whether one is right is not asked.
        scored: Whether a verifier scores the steps of every solution.
        seen: Solutions that were sampled before and vote too. They are no part of the outcome.

    Returns:
        A search whose outcome holds the solutions in the order of their sample index.
    """
    solutions: tuple[Prefix, ...] = ()
    while len(solutions) < budget and lead(classes(seen + solutions)) <= confidence:
        more = min(batch, budget - len(solutions))
        solutions += yield Sample((Prefix(),), more, "end", alive=(Prefix(),), first=len(solutions))
    if not scored:
        return Outcome(solutions, None, generations=len(solutions))
    scores = (yield Score(solutions)) if solutions else ()
    return Outcome(solutions, scores, generations=len(solutions))


def lead(classes: npt.NDArray[np.integer]) -> float:
    """The posterior probability that the most frequent answer is more probable than the next one.

    Of the votes v1 and v2 for the two, the share of the first is Beta(v1 + 1, v2 + 1), and must be above 1/2.

    Args:
        classes: See `Classes`, [n]. Negative ones don't vote.

    Returns:
        0.5, without a vote, to 1.
    """
    second, first = np.sort(np.bincount(classes[classes >= 0], minlength=2))[-2:]
    return float(betainc(second + 1, first + 1, 0.5))
