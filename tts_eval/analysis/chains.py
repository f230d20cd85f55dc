"""Chains of revisions from journals: accuracy of every shape, chains x length (Snell et al. 2024, section 4).

Chains are independent of one another, and a chain that is cut short is a shorter chain. So a run of C chains of L
attempts tells what c <= C chains of l <= L attempts would have given, averaged over the subsets of its chains.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np

from tts_eval.analysis.pools import Pool, PoolSet
from tts_eval.analysis.subsets import permutations, subset_key
from tts_eval.selection import (
    Aggregation,
    Booleans,
    ChainWeight,
    Floats,
    candidate_scores,
    chain_votes,
    chain_winners,
    coverage,
    expected_correctness,
)
from tts_eval.types import TtsEvalError


ChainMeasure = Literal["majority", "best_of_n_weighted", "hierarchical", "last_attempt", "coverage"]
CHAIN_MEASURES: tuple[ChainMeasure, ...] = get_args(ChainMeasure)
"""The selections of `tts_eval.selection.chain_votes`, and `coverage`, which an oracle reaches."""

SCORED: tuple[ChainMeasure, ...] = ("best_of_n_weighted", "hierarchical")
"""Those that need a verifier's scores."""

SHAPE_PARAMETERS = ("chains", "length", "ratio")
"""Those of a strategy's parameters that say how a budget is spread."""


class Shape(NamedTuple):
    """How a budget is spread.

    Attributes:
        length: Attempts in a chain.
        chains: Chains side by side.
    """

    length: int
    chains: int

    @property
    def budget(self) -> int:
        """The paper's N."""
        return self.length * self.chains

    @property
    def ratio(self) -> float:
        """Sequential to parallel."""
        return self.length / self.chains


@dataclass(frozen=True)
class Run:
    """What was sampled in one shape.

    Attributes:
        shape: Its shape.
        pools: One or more seeds of each problem, by uid; candidates chain by chain, the first attempt first.
    """

    shape: Shape
    pools: dict[str, tuple[Pool, ...]]


@dataclass(frozen=True)
class Family:
    """Runs that differ in nothing but their shape.

    Attributes:
        task: lm-eval's task name.
        strategy: See `PoolSet`; without the shape.
        uids: The problems that all runs have.
        runs: The one with the most chains first; of as many chains the shorter.
    """

    task: str
    strategy: str
    uids: tuple[str, ...]
    runs: tuple[Run, ...]

    def run_for(self, shape: Shape) -> Run:
        """The run that says most about a shape: of those with so long chains the one with the most of them."""
        return next(run for run in self.runs if run.shape.length >= shape.length and run.shape.chains >= shape.chains)

    @property
    def problems(self) -> PoolSet:
        """A pool of each problem, to part them by level or bin."""
        shape, pools = self.runs[0].shape, self.runs[0].pools
        return PoolSet(self.task, self.strategy, shape.budget, False, tuple(pools[uid][0] for uid in self.uids))


def families(sets: Sequence[PoolSet]) -> tuple[list[Family], list[str]]:
    """Gathers chains of revisions.

    Args:
        sets: What `load_pools` returned.

    Returns:
        The families, and notes for the user on what was left out.

    Raises:
        TtsEvalError: If there are no chains at all, some are broken, or runs of a family have no problem in common.
    """
    notes: list[str] = []
    gathered: dict[tuple[str, str], dict[Shape, dict[str, list[Pool]]]] = {}
    for pools in sets:
        if pools.strategy.split()[0] != "revise" and all(c.attempt == 0 for p in pools.pools for c in p.candidates):
            notes.append(f"{pools.task}, {pools.strategy}: not chains of revisions, left out")
            continue
        runs = gathered.setdefault((pools.task, _without_shape(pools.strategy)), defaultdict(lambda: defaultdict(list)))
        for pool in pools.pools:
            shape, in_order = _in_order(pool)
            runs[shape][pool.uid].append(in_order)
    if not gathered:
        raise TtsEvalError("no chains of revisions in these journals; name journals of tts-revise")
    found = []
    for (task, strategy), runs in gathered.items():
        shared = [uid for uid in next(iter(runs.values())) if all(uid in pools for pools in runs.values())]
        if not shared:
            raise TtsEvalError(
                f"{task}, {strategy}: no problem is in all of its runs; name the journals of some of them"
            )
        missing = len({uid for pools in runs.values() for uid in pools}) - len(shared)
        if missing:
            notes.append(f"{task}, {strategy}: {missing} problems that not all of its runs have are left out")
        ordered = sorted(runs, key=lambda shape: (-shape.chains, shape.length))
        kept = tuple(Run(shape, {uid: tuple(runs[shape][uid]) for uid in shared}) for shape in ordered)
        found.append(Family(task, strategy, tuple(shared), kept))
    return found, notes


def _without_shape(strategy: str) -> str:
    name, _, parameters = strategy.removesuffix(")").partition(" (")
    kept = [part for part in parameters.split(", ") if part and part.split("=")[0] not in SHAPE_PARAMETERS]
    return f"{name} ({', '.join(kept)})" if kept else name


def _in_order(pool: Pool) -> tuple[Shape, Pool]:
    """A pool's shape, and the pool with its attempts chain by chain."""
    places = [(candidate.chain, candidate.attempt) for candidate in pool.candidates]
    order = sorted(range(len(places)), key=places.__getitem__)
    shape = Shape(length=max(attempt for _, attempt in places) + 1, chains=max(chain for chain, _ in places) + 1)
    if [places[i] for i in order] != list(itertools.product(range(shape.chains), range(shape.length))):
        raise TtsEvalError(
            f"problem {pool.uid}: its {len(places)} attempts aren't {shape.chains} whole chains of {shape.length}; "
            "delete its line in the journal, or leave the journal out"
        )
    candidates = tuple(pool.candidates[i] for i in order)
    return shape, replace(pool, candidates=candidates, classes=pool.classes[order], correct=pool.correct[order])


def shapes_of(family: Family, budgets: Sequence[int] | None = None) -> list[Shape]:
    """The shapes that a family can speak about: powers of two, and the runs' own numbers.

    Args:
        family: The runs.
        budgets: Only those that spend one of these budgets.

    Returns:
        Budget by budget, the shortest chains first.
    """
    found = {
        Shape(length, chains)
        for run in family.runs
        for length in _steps(run.shape.length)
        for chains in _steps(run.shape.chains)
    }
    wanted = (shape for shape in found if budgets is None or shape.budget in budgets)
    return sorted(wanted, key=lambda shape: (shape.budget, shape.length))


def _steps(most: int) -> list[int]:
    return sorted({1 << i for i in range(most.bit_length())} | {most})


def measures_of(family: Family, measures: Sequence[ChainMeasure] = CHAIN_MEASURES) -> list[ChainMeasure]:
    """Those of the measures that a family can fill: without scores for all attempts, only what needs none."""
    pools = [pool for run in family.runs for of_problem in run.pools.values() for pool in of_problem]
    scored = all(candidate_scores(pool.candidates, "last") is not None for pool in pools)
    return [measure for measure in measures if scored or measure not in SCORED]


def shape_values(
    family: Family,
    shapes: Sequence[Shape],
    measures: Sequence[ChainMeasure],
    *,
    aggregation: Aggregation = "last",
    weight: ChainWeight = "best",
    resamples: int = 1000,
    seed: int = 0,
) -> Floats:
    """Each problem's chance to be right in each shape.

    The mean over all subsets of a run's chains if there are at most `resamples`, else over that many random ones. Seeds
    of one problem are averaged.

    Args:
        family: The runs.
        shapes: Some of `shapes_of`.
        measures: Some of `measures_of`.
        aggregation: How step scores become one score.
        weight: See `tts_eval.selection.chain_votes`.
        resamples: Subsets a problem and shape.
        seed: Keys the subsets, together with problem and run seed.

    Returns:
        [problems, shapes, measures], problems as in `family.uids`.
    """
    values = np.empty((len(family.uids), len(shapes), len(measures)))
    for run in family.runs:
        places = [i for i, shape in enumerate(shapes) if family.run_for(shape) is run]
        for problem, uid in enumerate(family.uids if places else ()):
            of_seeds = []
            for pool in run.pools[uid]:
                attempts = _Attempts(pool, run.shape, aggregation, weight, subset_key(seed, pool), resamples)
                of_seeds.append([[attempts.value(measure, shapes[i]) for measure in measures] for i in places])
            values[problem, places] = np.mean(of_seeds, axis=0)
    return values


class _Attempts:
    """The chains of one pool, and what shapes cut out of them are worth."""

    def __init__(
        self, pool: Pool, shape: Shape, aggregation: Aggregation, weight: ChainWeight, key: int, resamples: int
    ):
        grid = shape.chains, shape.length
        scores = candidate_scores(pool.candidates, aggregation)
        self._classes, self._correct = pool.classes.reshape(grid), pool.correct.reshape(grid)
        self._scores = None if scores is None else scores.reshape(grid)
        self._weight, self._key, self._resamples = weight, key, resamples
        self._votes: dict[tuple[str, int], Floats] = {}

    def value(self, measure: ChainMeasure, shape: Shape) -> float:
        """The chance that a measure's selection from a random subset of the chains, cut short, is right."""
        classes, correct = self._classes[:, : shape.length], self._correct[:, : shape.length]
        if measure == "coverage":
            return coverage(np.any(correct, axis=1), shape.chains)
        if (measure, shape.length) not in self._votes:
            scores = None if self._scores is None else self._scores[:, : shape.length].ravel()
            chains = np.arange(len(classes)).repeat(shape.length)
            self._votes[measure, shape.length] = chain_votes(classes.ravel(), scores, chains, measure, self._weight)
        taken = _subsets(self._key, len(classes), shape.chains, self._resamples)
        winning = chain_winners(self._votes[measure, shape.length], taken)
        return float(expected_correctness(winning, classes.ravel(), correct.ravel()).mean())


def _subsets(key: int, n: int, k: int, resamples: int) -> Booleans:
    """Subsets of k of n chains, [r, n]: all of them, or `resamples` random ones."""
    # A place in a shuffle for each chain: those that come first.
    return _combinations(n, k) if math.comb(n, k) <= resamples else permutations(key, n, resamples) < k


@functools.lru_cache(maxsize=64)
def _combinations(n: int, k: int) -> Booleans:
    return np.array([np.isin(np.arange(n), subset) for subset in itertools.combinations(range(n), k)])
