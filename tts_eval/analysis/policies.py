"""The compute-optimal policy: for each difficulty bin the best strategy (Snell et al. 2024, sections 1 and 5).

The best of several strategies is flattered by having been chosen. So a policy is scored as in the paper: in each bin,
what was chosen on one half of the problems is scored on the other half. How the halves are drawn is unstated; here at
random, many times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tts_eval.analysis.curves import Curve
from tts_eval.selection import Booleans, Floats, Integers


_ROUNDING = 1e-9


@dataclass(frozen=True)
class Option:
    """One strategy that may be chosen at some budget.

    Attributes:
        name: The strategy.
        parameters: Its `name` and everything that it was given.
        cost: What it really costs, generations a problem; at most the budget.
        values: Each problem's chance to be right, [problems].
    """

    name: str
    parameters: Mapping[str, Any]
    cost: float
    values: Floats


@dataclass(frozen=True)
class CrossValidated:
    """What choosing a strategy for each bin is worth at one budget.

    Attributes:
        values: Each problem's chance to be right under a choice that it had no part in, mean over the splits,
            [problems].
        accuracies: The accuracy of each split, [splits].
        chosen: How often each option is chosen in each bin, [bins, options]; options that tie share.
    """

    values: Floats
    accuracies: Floats
    chosen: Floats

    @property
    def spread(self) -> float:
        """Standard deviation of the accuracy over the splits."""
        return float(self.accuracies.std())


def options_at(curves: Sequence[Curve], budget: float) -> list[Option]:
    """What may be chosen at a budget: of each strategy the largest run that costs no more.

    Args:
        curves: Of the same problems (see `tts_eval.analysis.curves.align`).
        budget: Generations a problem.
    """
    places = [(curve, curve.place(budget)) for curve in curves]
    return [
        Option(curve.name, curve.parameters, curve.costs[place], curve.values[:, place])
        for curve, place in places
        if place is not None
    ]


def best_shares(accuracies: Floats) -> Floats:
    """1 for the largest of each row, or a fraction for each of those that tie, [rows, options]."""
    best = accuracies >= accuracies.max(axis=1, keepdims=True) - _ROUNDING
    return np.asarray(best / best.sum(axis=1, keepdims=True), dtype=np.float64)


def cross_validate(values: Floats, bins: Integers, *, splits: int = 100, seed: int = 0) -> CrossValidated:
    """Chooses in each bin on one half of its problems and scores on the other, and the other way round.

    A bin of a single problem has nothing to choose on: it gets the mean of all options.

    Args:
        values: Each problem's chance to be right under each option, [problems, options].
        bins: The bin of each problem, from 1, [problems].
        splits: So many seeded random splits.
        seed: Of the splits: the same for any values, so that budgets and policies can be compared.
    """
    numbers = range(1, int(bins.max()) + 1)
    held_out = np.zeros((splits, len(values)))
    chosen = np.zeros((len(numbers), values.shape[1]))
    for split in range(splits):
        half = random_half(bins, split, seed)
        for fold in (half, ~half):
            for number in numbers:
                shares = choice_shares(values[fold & (bins == number)])
                scored = ~fold & (bins == number)
                held_out[split, scored] = values[scored] @ shares
                chosen[number - 1] += shares / (2 * splits)
    return CrossValidated(held_out.mean(axis=0), held_out.mean(axis=1), chosen)


def random_half(bins: Integers, split: int, seed: int) -> Booleans:
    """Half of each bin, [problems]; where the halves can't be equal, chance decides which is larger."""
    random = np.random.default_rng((seed, split))
    half = np.zeros(len(bins), dtype=bool)
    for number in range(1, int(bins.max()) + 1):
        members = random.permutation(np.flatnonzero(bins == number))
        half[members[: (len(members) + int(random.integers(2))) // 2]] = True
    return half


def in_sample(values: Floats, bins: Integers, number_of_bins: int) -> Integers:
    """The option that is best in each bin, the first of those that tie, [bins]: what a policy file holds.

    A bin without a problem, be it the last, has what is best on all problems.
    """
    members = [bins == number for number in range(1, number_of_bins + 1)]
    return np.array([int(choice_shares(values[of] if of.any() else values).argmax()) for of in members])


def choice_shares(values: Floats) -> Floats:
    """What is chosen on some problems, [options]: the best, shared where several are; all alike without a problem."""
    if not len(values):
        return np.full(values.shape[1], 1 / values.shape[1])
    return np.asarray(best_shares(values.mean(axis=0)[None])[0], dtype=np.float64)
