"""How well scores tell right from wrong: the area under the ROC curve, pooled and within problems (section 2).

A verifier may learn which *problems* are hard without learning which *solutions* are right; the pooled area rewards
that, selection among the solutions of one problem doesn't. So a verifier is judged by the area within problems.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import rankdata


def auroc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """The chance that a random right item scores higher than a random wrong one; a tie counts half.

    Args:
        scores: One finite number an item.
        labels: Whether the item is right.

    Returns:
        0 to 1, or None where right or wrong items are missing.
    """
    won, pairs = _pairs_won(scores, labels)
    return won / pairs if pairs else None


def auroc_within(groups: Sequence[Hashable], scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """The chance that, of a random pair of a right and a wrong item of the same group, the right one scores higher.

    That is the mean of `auroc` over the groups that have both, each weighted by its number of such pairs.

    Args:
        groups: The item's group, such as its problem.
        scores: One finite number an item.
        labels: Whether the item is right.

    Returns:
        0 to 1, or None where no group has both right and wrong items.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    counts = [_pairs_won([scores[i] for i in of], [labels[i] for i in of]) for of in members.values()]
    pairs = sum(n for _, n in counts)
    return sum(won for won, _ in counts) / pairs if pairs else None


def _pairs_won(scores: Sequence[float], labels: Sequence[bool]) -> tuple[float, int]:
    """How many pairs (right, wrong) the right item wins, ties half; and how many pairs there are (Mann-Whitney's U)."""
    right = np.asarray(labels, dtype=bool)
    n = int(right.sum())
    u = rankdata(scores)[right].sum() - n * (n + 1) / 2
    return float(u), n * (len(right) - n)
