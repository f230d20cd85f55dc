"""What compute-optimal scaling gains over spending the same budget in one way (Snell et al. 2024, sections 5 and 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tts_eval.analysis.accuracy import wilson_interval
from tts_eval.analysis.approaches import Approach
from tts_eval.analysis.charged import Charged, Probed, charged
from tts_eval.analysis.efficiency import efficiency
from tts_eval.analysis.paired import detectable_difference
from tts_eval.analysis.policies import CrossValidated, cross_validate, in_sample
from tts_eval.analysis.resampling import bootstrap_mean
from tts_eval.selection import Floats, Integers


@dataclass(frozen=True)
class PolicyRow:
    """A policy at one budget.

    Attributes:
        approach: `search` or `revisions`.
        policy: How it knows the difficulty: a kind of bins, or `predicted, k probes` where it pays for that.
        level: The problems' bin; None for all.
        budget: N, generations a problem.
        cost: What it really spends, mean over the problems and splits; with probes it may be above N.
        accuracy: On problems that had no part in the choice, 0 to 1, with the ends
        low: of its 95 % interval,
        high: see `wilson_interval`.
        spread: Standard deviation of the accuracy over the splits. None for parts.
        chosen_on_all: The accuracy where the same problems choose and score: flattered. None for parts and probes.
        baseline: The accuracy of independent samples with that many generations.
        difference: Its accuracy less the baseline's at the same budget, with
        difference_low: the ends of the 95 % interval, by a paired bootstrap over the problems.
        difference_high: The upper one.
        detectable: The smallest true difference that so many problems would show in four of five cases.
        efficiency: How many times its generations the baseline needs for the same accuracy.
        efficiency_low: Lower end of the 95 % interval; 0 where the baseline is better at its smallest budget already.
        efficiency_high: Its upper end; infinite where the baseline doesn't get there within its largest budget.
        bound: `at least` or `at most` where the efficiency itself is such a bound, else empty.
        n: Number of problems.
    """

    approach: str
    policy: str
    level: Any
    budget: int
    cost: float
    accuracy: float
    low: float
    high: float
    spread: float | None
    chosen_on_all: float | None
    baseline: float
    difference: float
    difference_low: float
    difference_high: float
    detectable: float
    efficiency: float
    efficiency_low: float
    efficiency_high: float
    bound: str
    n: int


@dataclass(frozen=True)
class ChoiceRow:
    """How often a strategy is chosen.

    Attributes:
        approach: See `PolicyRow`.
        policy: See `PolicyRow`.
        level: The bin, 1 the easiest.
        budget: N.
        strategy: The option.
        share: Of the random halves that chose it; options that tie share.
        accuracy: Its accuracy on all problems of the bin.
        n: Number of problems in the bin.
    """

    approach: str
    policy: str
    level: int
    budget: int
    strategy: str
    share: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class PolicyCurve:
    """A policy's held-out values at every budget.

    Attributes:
        policy: See `PolicyRow`.
        costs: What it spends on each problem, mean over the splits, [problems, budgets].
        values: [problems, budgets].
        splits: The accuracy of each split, [splits, budgets].
    """

    policy: str
    costs: Floats
    values: Floats
    splits: Floats


def policy_curve(
    approach: Approach, policy: str, bins: Integers, *, splits: int = 100, seed: int = 0
) -> tuple[PolicyCurve, list[ChoiceRow]]:
    """Cross-validates a policy at every budget.

    Args:
        approach: What may be chosen.
        policy: What to call it.
        bins: The bin of each problem, [problems].
        splits: See `tts_eval.analysis.policies.cross_validate`.
        seed: Of the splits.
    """
    columns: list[CrossValidated] = []
    costs, choices = [], []
    for budget, options in approach.options.items():
        values = np.stack([option.values for option in options], axis=1)
        found = cross_validate(values, bins, splits=splits, seed=seed)
        columns.append(found)
        costs.append(found.chosen[bins - 1] @ [option.cost for option in options])
        choices += _choices(approach, policy, budget, found, bins)
    values = np.stack([column.values for column in columns], axis=1)
    by_split = np.stack([column.accuracies for column in columns], axis=1)
    return PolicyCurve(policy, np.stack(costs, axis=1), values, by_split), choices


def charged_curve(
    approach: Approach,
    probed: Probed,
    bins: Integers,
    thresholds: Sequence[float],
    *,
    probes: int,
    splits: int = 100,
    seed: int = 0,
) -> PolicyCurve:
    """The policy on predicted difficulty that pays for k probes, at every budget that has room for them.

    Args:
        approach: What may be chosen.
        probed: The samples of the same problems, drawn again and again.
        bins: Predicted bins from all samples, [problems].
        thresholds: What separates them.
        probes: k.
        splits: See `policy_curve`.
        seed: Likewise.
    """
    found: list[Charged] = [
        charged(probed, options, bins, thresholds, budget=budget, probes=probes, splits=splits, seed=seed)
        for budget, options in approach.options.items()
        if budget >= probes
    ]
    return PolicyCurve(
        f"predicted, {probes} probe{'s' if probes > 1 else ''} charged",
        np.stack([one.costs for one in found], axis=1),
        np.stack([one.values for one in found], axis=1),
        np.stack([one.accuracies for one in found], axis=1),
    )


def policy_rows(
    approach: Approach,
    curve: PolicyCurve,
    bins: Integers | None = None,
    *,
    level: Any = None,
    members: Integers | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[PolicyRow]:
    """Compares a policy with the baseline, budget by budget.

    Args:
        approach: Whose options it chooses from.
        curve: The policy.
        bins: For the flattered accuracy; None leaves it out.
        level: What the problems are called.
        members: Their places; None takes all.
        resamples: Draws of the bootstrap.
        seed: Of the bootstrap.
    """
    places = np.arange(len(approach.uids)) if members is None else members
    baseline = approach.baseline.values[places]
    budgets = list(approach.options)[-curve.values.shape[1] :]
    rows = []
    for column, budget in enumerate(budgets):
        values, cost = curve.values[places, column], float(curve.costs[places, column].mean())
        accuracy, n = float(values.mean()), len(values)
        # What the same generations are worth to the baseline; probes may make it more than N.
        spent = max(budget, cost)
        others = approach.baseline_at(spent)[places]
        gain = bootstrap_mean(values - others, resamples=resamples, seed=seed)
        found = efficiency(values, spent, baseline, approach.baseline.costs, resamples=resamples, seed=seed)
        low, high = wilson_interval(accuracy, n)
        rows.append(
            PolicyRow(
                approach=approach.name,
                policy=curve.policy,
                level=level,
                budget=budget,
                cost=cost,
                accuracy=accuracy,
                low=low,
                high=high,
                spread=float(curve.splits[:, column].std()) if members is None else None,
                chosen_on_all=None if bins is None else _flattered(approach, budget, bins),
                baseline=float(others.mean()),
                difference=gain.value,
                difference_low=gain.low,
                difference_high=gain.high,
                detectable=detectable_difference(values - others),
                efficiency=found.factor.value,
                efficiency_low=0.0 if found.low.at_most else found.low.value,
                efficiency_high=float("inf") if found.high.at_least else found.high.value,
                bound="at least" if found.factor.at_least else "at most" if found.factor.at_most else "",
                n=n,
            )
        )
    return rows


def chosen_names(approach: Approach, bins: Integers, number_of_bins: int) -> Mapping[int, list[str]]:
    """By budget the strategy that is best in each bin, on all problems: what a policy file holds; see `in_sample`."""
    found = {}
    for budget, options in approach.options.items():
        values = np.stack([option.values for option in options], axis=1)
        found[budget] = [options[place].name for place in in_sample(values, bins, number_of_bins)]
    return found


def _flattered(approach: Approach, budget: int, bins: Integers) -> float:
    values = np.stack([option.values for option in approach.options[budget]], axis=1)
    best = in_sample(values, bins, int(bins.max()))
    return float(values[np.arange(len(values)), best[bins - 1]].mean())


def _choices(
    approach: Approach, policy: str, budget: int, found: CrossValidated, bins: Integers
) -> list[ChoiceRow]:
    rows = []
    for number, shares in enumerate(found.chosen, start=1):
        members = bins == number
        if members.any():
            rows += [
                ChoiceRow(
                    *(approach.name, policy, number, budget, option.name, float(share)),
                    float(option.values[members].mean()),
                    int(members.sum()),
                )
                for option, share in zip(approach.options[budget], shares, strict=True)
            ]
    return rows
