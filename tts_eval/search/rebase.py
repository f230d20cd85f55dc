"""REBASE, reward-balanced search (Wu et al. 2024, arXiv 2408.00724): beyond the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tts_eval.search.beam import ROUNDS
from tts_eval.search.places import Value, last_score, split_finished
from tts_eval.types import Outcome, Prefix, Sample, Score, Search


def rebase(budget: int, *, softmax_temperature: float = 0.2, value: Value = last_score, rounds: int = ROUNDS) -> Search:
    """Shares the open places out among all unfinished prefixes, in proportion to the softmax of their values.

    As in beam search a finished solution is final and keeps its place. The shares are rounded to whole numbers by
    largest remainders, so that they add up; a prefix whose share rounds to 0 is dropped.

    Args:
        budget: N, the number of solutions.
        softmax_temperature: The lower, the more the best get; not that of sampling.
        value: From a solution's step scores to the number that weighs it.
        rounds: Most steps of a solution.

    Returns:
        A search whose outcome holds N solutions, in the order in which they ended.
    """
    finals, beams = split_finished((yield Sample((Prefix(),), budget, "step")))
    for _ in range(rounds - 1):
        if not beams:
            break
        values = [value(scores) for scores in (yield Score(beams))]
        shares = softmax_shares(values, budget - len(finals), softmax_temperature)
        kept, counts = zip(*((beam, share) for beam, share in zip(beams, shares, strict=True) if share), strict=True)
        ended, beams = split_finished((yield Sample(kept, counts, "step")))
        finals += ended
    finals += beams
    return Outcome(finals, (yield Score(finals)), generations=budget)


def softmax_shares(values: Sequence[float], places: int, temperature: float) -> list[int]:
    """Rounds `places * softmax(values / temperature)` to whole numbers that add up to `places`.

    Equal remainders go to the earlier value.
    """
    highest = max(values)
    weights = [math.exp((value - highest) / temperature) for value in values]
    total = sum(weights)
    exact = [places * weight / total for weight in weights]
    shares = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: shares[index] - exact[index])
    for index in by_remainder[: places - sum(shares)]:
        shares[index] += 1
    return shares
