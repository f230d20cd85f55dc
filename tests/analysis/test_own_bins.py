"""Bins cut by best-of-N's own samples flatter a policy; bins cut by others don't (docs/report.md)."""

from __future__ import annotations

import numpy as np

from tts_eval.analysis.approaches import search_approach
from tts_eval.analysis.compute_optimal import policy_curve
from tts_eval.analysis.difficulty import bins_of
from tts_eval.analysis.pools import Pool, PoolSet
from tts_eval.analysis.roles import Roles
from tts_eval.types import Candidate


PROBLEMS, BUDGET = 200, 16


def samples(strategy: str, seed: int) -> PoolSet:
    """Samples of problems of every difficulty, by whatever strategy the same."""
    random = np.random.default_rng((seed, len(strategy)))
    pools = []
    for number in range(PROBLEMS):
        right = random.random(BUDGET) < (number + 0.5) / PROBLEMS
        answers = np.where(right, "1", random.integers(2, 5, BUDGET).astype(str))
        candidates = tuple(Candidate(a, a, (a,), None, None, None, 1, "eos", i, 0) for i, a in enumerate(answers))
        classes = np.unique(answers, return_inverse=True)[1]
        pools.append(Pool(f"p{number}", seed, None, candidates, classes, right))
    independent = strategy == "best-of-n"
    return PoolSet("toy", strategy, BUDGET, independent, tuple(pools), {"name": strategy})


def gain(draw: int, *, own: bool) -> float:
    """What choosing between best-of-N and its equal seems to gain on held-out problems."""
    base, equal = samples("best-of-n", draw), samples("beam", draw)
    approach = search_approach(Roles("toy", base, (base, equal), None, None, None, ()), resamples=20)
    of_problem = bins_of("oracle", base if own else samples("best-of-n", 1000 + draw))
    bins = np.array([of_problem[uid] for uid in approach.uids])
    curve, _ = policy_curve(approach, "oracle", bins, splits=20)
    column = list(approach.options).index(BUDGET)
    return float(np.mean(curve.values[:, column] - approach.baseline_at(BUDGET)))


def test_strategies_that_are_alike_gain_nothing_by_bins_of_other_samples() -> None:
    own, other = (np.array([gain(draw, own=shared) for draw in range(12)]) for shared in (True, False))
    error = other.std() / np.sqrt(len(other))
    assert abs(other.mean()) < 3 * error
    assert own.mean() > other.mean() + 3 * error
    assert own.mean() > 0.01
