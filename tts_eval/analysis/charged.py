"""A policy on predicted difficulty that pays for its prediction (the paper doesn't charge it, section 1).

The first k samples of a problem say, by their mean verifier score, which bin it is in. Where the policy then asks for
independent samples, the k are the first of the N; where it asks for a search, they come on top of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tts_eval.analysis.policies import Option, choice_shares, random_half
from tts_eval.analysis.pools import PoolSet
from tts_eval.analysis.subsets import permutations, subset_key
from tts_eval.selection import Aggregation, Floats, Integers, Selection, candidate_scores, expected_correctness, winners


@dataclass(frozen=True)
class Probed:
    """Each problem's samples, drawn again and again: what the first k say, and what the first N are worth.

    Attributes:
        parameters: Of the strategy that the samples are of.
        means: The running mean of the verifier's scores: after k samples at k - 1, [problems, draws, n].
        right: By budget each problem's chance to be right in each draw, [problems, draws].
    """

    parameters: Mapping[str, Any]
    means: Floats
    right: dict[int, Floats]


@dataclass(frozen=True)
class Charged:
    """What a policy is worth that estimates difficulty from k samples.

    Attributes:
        probes: k.
        costs: Generations of each problem, probes included, mean over the splits, [problems].
        values: Each problem's chance to be right under choices that it had no part in, [problems].
        accuracies: The accuracy of each split, [splits].
        same_bin: Share of the problems that the probes put into the bin that all samples do.
    """

    probes: int
    costs: Floats
    values: Floats
    accuracies: Floats
    same_bin: float


def probe(
    pools: PoolSet,
    uids: Sequence[str],
    budgets: Sequence[int],
    *,
    most: int,
    selection: Selection,
    aggregation: Aggregation = "last",
    draws: int = 50,
    seed: int = 0,
) -> Probed | None:
    """Draws the samples of each problem in random orders.

    Args:
        pools: Independent samples of the base model.
        uids: The problems wanted; of several seeds of one the first.
        budgets: The N to select from.
        most: The largest k.
        selection: How an answer is selected from the first N.
        aggregation: How step scores become one score.
        draws: So many orders.
        seed: Of the orders.

    Returns:
        None where some sample has no score.
    """
    by_uid = {pool.uid: pool for pool in reversed(pools.pools)}
    means, right = [], {budget: np.empty((len(uids), draws)) for budget in budgets}
    for place, uid in enumerate(uids):
        pool = by_uid[uid]
        scores = candidate_scores(pool.candidates, aggregation)
        if scores is None:
            return None
        orders = permutations(subset_key(seed, pool), len(scores), draws)
        known = np.nan_to_num(scores, nan=0.0)[orders[:, :most]]  # without an answer there is no hope either
        means.append(known.cumsum(axis=1) / np.arange(1, known.shape[1] + 1))
        for budget in budgets:
            winning = winners(pool.classes, scores, orders[:, :budget], selection)
            right[budget][place] = expected_correctness(winning, pool.classes, pool.correct)
    return Probed(pools.parameters, np.stack(means), right)


def charged(
    probed: Probed,
    options: Sequence[Option],
    bins: Integers,
    thresholds: Sequence[float],
    *,
    budget: int,
    probes: int,
    splits: int = 100,
    seed: int = 0,
) -> Charged:
    """Scores a policy whose bins come from k samples of the problem itself.

    In each bin half the problems, by the bins of all their samples, choose the option; it serves those problems of the
    other half that the probes put into that bin.

    Args:
        probed: See `probe`.
        options: What may be chosen at this budget, of the same problems (see `policies.options_at`).
        bins: Predicted bins from all samples, [problems].
        thresholds: What separates them (see `difficulty.quantile_thresholds`).
        budget: N, one of those that were probed.
        probes: k <= N.
        splits: See `policies.cross_validate`.
        seed: Likewise.
    """
    means = probed.means[:, :, probes - 1]  # [problems, draws]
    found = 1 + (means[..., None] < np.asarray(thresholds)).sum(axis=-1)  # [problems, draws]
    numbers = np.arange(1, len(thresholds) + 2)
    reused = [option.parameters == probed.parameters for option in options]
    values = np.stack([option.values for option in options], axis=1)  # [problems, options]
    costs = np.array([option.cost for option in options]) + np.where(reused, 0, probes)
    in_bin = (found[..., None] == numbers).astype(np.float64)  # [problems, draws, bins]
    share = in_bin.mean(axis=1)  # [problems, bins]
    # What each option is worth to a problem where the probes say bin b: the samples are those that were drawn.
    drawn = np.einsum("pdb,pd->pb", in_bin, probed.right[budget]) / found.shape[1]
    worth = np.where(reused, drawn[..., None], share[..., None] * values[:, None, :])  # [problems, bins, options]
    held_out, spent = np.zeros((splits, len(values))), np.zeros(len(values))
    for split in range(splits):
        half = random_half(bins, split, seed)
        for fold, other in ((half, ~half), (~half, half)):
            chosen = np.stack([choice_shares(values[fold & (bins == number)]) for number in numbers])  # [bins, options]
            held_out[split, other] = np.einsum("pbo,bo->p", worth[other], chosen)
            spent[other] += share[other] @ (chosen @ costs) / splits
    same = float((found == bins[:, None]).mean())
    return Charged(probes, spent, held_out.mean(axis=0), held_out.mean(axis=1), same)
