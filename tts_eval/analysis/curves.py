"""Accuracy over what it costs, problem by problem: what policies, efficiency and exchange rates are made of."""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tts_eval.analysis.accuracy import Measure, pool_budgets, values_by_problem
from tts_eval.analysis.pools import PoolSet
from tts_eval.jsonl import flatten
from tts_eval.selection import Aggregation, Floats


@dataclass(frozen=True)
class Curve:
    """One strategy at every budget that was run.

    Attributes:
        name: The strategy, with the parameters that tell it from others of that name.
        parameters: Its `name` and everything that it was given.
        costs: Generations a problem (section 3), ascending; a lookahead of k costs k + 1 times the solutions.
        budgets: The N of the runs, as many.
        uids: The problems.
        values: Each problem's chance to be right, [problems, costs].
    """

    name: str
    parameters: Mapping[str, Any]
    costs: tuple[float, ...]
    budgets: tuple[int, ...]
    uids: tuple[str, ...]
    values: Floats

    def place(self, cost: float) -> int | None:
        """The column of the largest run that costs no more; None where all do."""
        return bisect.bisect_right(self.costs, cost * (1 + 1e-9)) - 1 if self.costs[0] <= cost * (1 + 1e-9) else None

    def on(self, uids: Sequence[str]) -> Curve:
        """The same on fewer problems, in that order."""
        places = {uid: place for place, uid in enumerate(self.uids)}
        return replace(self, uids=tuple(uids), values=self.values[[places[uid] for uid in uids]])


def at_budget(values: Floats, costs: Sequence[float], budget: float) -> tuple[Floats, float]:
    """Each problem's value at a budget, between two that were run on a line over log2.

    Args:
        values: [problems, costs].
        costs: Generations a problem, ascending.
        budget: Above the largest cost, that one is taken; likewise below the smallest.

    Returns:
        [problems], and the budget that was taken.
    """
    taken = min(max(budget, costs[0]), costs[-1])
    place = float(np.interp(np.log2(taken), np.log2(costs), np.arange(len(costs))))
    below, share = int(place), place - int(place)
    above = min(below + 1, len(costs) - 1)
    return (1 - share) * values[:, below] + share * values[:, above], taken


def curves_of(
    sets: Sequence[PoolSet],
    *,
    measure: Measure,
    aggregation: Aggregation = "last",
    resamples: int = 200,
    seed: int = 0,
) -> tuple[list[Curve], list[str]]:
    """Gathers the runs of each strategy.

    Args:
        sets: Of one task, one policy and one verifier.
        measure: How an answer is selected.
        aggregation: How step scores become one score.
        resamples: Subsets a problem and budget of independent samples.
        seed: Of the subsets.

    Returns:
        A curve a strategy, and notes on what was left out.
    """
    by_strategy: dict[str, list[PoolSet]] = defaultdict(list)
    for pools in sets:
        by_strategy[json.dumps(pools.own, sort_keys=True)].append(pools)
    how: dict[str, Any] = {"measure": measure, "aggregation": aggregation, "resamples": resamples, "seed": seed}
    joint = [pools.budget for pools in sets if not pools.independent]
    curves, notes = [], []
    for runs in by_strategy.values():
        name = _name(runs[0], sets)
        curve = _independent(runs, joint, how) if runs[0].independent else _joint(runs, how)
        if curve is None:
            notes.append(f"{name}: left out, its runs have no problem in common or lack scores for {measure}")
        else:
            curves.append(replace(curve, name=name))
    return curves, notes


def align(curves: Sequence[Curve]) -> tuple[list[Curve], int]:
    """Keeps the problems that all curves have, in the first one's order.

    Returns:
        The curves, and how many problems some curve has but not all.
    """
    shared = set.intersection(*(set(curve.uids) for curve in curves)) if curves else set()
    ordered = [uid for uid in curves[0].uids if uid in shared] if curves else []
    missing = len({uid for curve in curves for uid in curve.uids}) - len(ordered)
    return [curve.on(ordered) for curve in curves], missing


def _independent(runs: Sequence[PoolSet], joint: Sequence[int], how: Mapping[str, Any]) -> Curve | None:
    """Of several runs the largest, which speaks for all smaller budgets, those of the searches among them."""
    largest = max(runs, key=lambda pools: pool_budgets(pools)[-1])
    told = pool_budgets(largest)
    told = sorted({*told, *(budget for budget in joint if budget < told[-1])})
    values = values_by_problem(largest, budgets=told, **how)
    if not values:
        return None
    return Curve("", largest.parameters, tuple(map(float, told)), tuple(told), tuple(values), _stack(values))


def _joint(runs: Sequence[PoolSet], how: Mapping[str, Any]) -> Curve | None:
    columns = []
    for pools in runs:
        values = values_by_problem(pools, budgets=[pools.budget], **how)
        if values:
            columns.append((_generations(pools), pools.budget, values))
    columns.sort(key=lambda column: column[:2])
    shared = [uid for uid in columns[0][2] if all(uid in values for _, _, values in columns)] if columns else []
    if not shared:
        return None
    costs, budgets, _ = zip(*columns, strict=True)
    matrix = np.column_stack([[values[uid][0] for uid in shared] for _, _, values in columns])
    return Curve("", runs[0].parameters, costs, budgets, tuple(shared), matrix)


def _generations(pools: PoolSet) -> float:
    """The mean over the problems; where the journal doesn't tell, what N solutions cost (section 5.2)."""
    known = [pool.usage.generations for pool in pools.pools if pool.usage.generations]
    if len(known) == len(pools.pools):
        return float(np.mean(known))
    return float(pools.budget * (1 + int(pools.parameters.get("lookahead") or 0)))


def _stack(values: Mapping[str, Floats]) -> Floats:
    return np.stack(list(values.values()))


def _name(one: PoolSet, sets: Sequence[PoolSet]) -> str:
    """Its name, and what tells it from the other strategies of that name."""
    name = str(one.parameters.get("name", one.strategy))
    alike = [_flat(pools) for pools in sets if pools.parameters.get("name") == one.parameters.get("name")]
    common = frozenset.intersection(*alike)
    differing = [f"{key}={json.loads(value)}" for key, value in sorted(_flat(one) - common)]
    return f"{name} ({', '.join(differing)})" if differing else name


def _flat(pools: PoolSet) -> frozenset[tuple[str, str]]:
    return frozenset((key, json.dumps(value)) for key, value in flatten(pools.own))
