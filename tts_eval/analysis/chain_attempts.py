"""What each attempt of a chain is worth, and what it does to the one before (Snell et al. 2024, section 4).

The paper saw 38 % of the correct attempts turned into wrong ones by the next revision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from tts_eval.analysis.accuracy import wilson_interval
from tts_eval.analysis.bootstrap import Estimate
from tts_eval.analysis.chains import Family, Shape
from tts_eval.analysis.pools import Pool
from tts_eval.analysis.resampling import bootstrap_ratios
from tts_eval.selection import UNPARSABLE, Floats, Integers


AttemptMeasure = Literal["accuracy", "gain", "broken", "mended", "same", "back", "new", "none"]
ATTEMPT_MEASURES: tuple[AttemptMeasure, ...] = get_args(AttemptMeasure)
"""What is measured of an attempt.

`accuracy`: share of the chains in which it is right (pass@1). `gain`: that less the accuracy of the first attempt of
the same chains. `broken`: of the chains whose attempt before was right, the share in which this one is wrong; `mended`:
of the others, the share in which this one is right. The last four say how answers change and add up to 1: the `same`
answer as before, `back` to one that came earlier in the chain, a `new` one, or `none` at all.
"""


@dataclass(frozen=True)
class AttemptRow:
    """One number.

    Attributes:
        task: lm-eval's task name.
        strategy: See `Family`.
        level: The problems' difficulty label or bin; None for all problems.
        attempt: 1 for the first; None for all after the first together.
        chains: How many chains of a problem tell: those of the run with the most chains among those with so many
            attempts. None for all attempts together, where it differs.
        measure: One of `ATTEMPT_MEASURES`; the first attempt has an accuracy, and may have no answer, but that is all.
        value: 0 to 1, or a difference of such.
        low: Lower end of the 95 % interval: Wilson's for the accuracy of an attempt, else bootstrap over problems.
        high: Its upper end.
        n: Number of problems.
    """

    task: str
    strategy: str
    level: Any
    attempt: int | None
    chains: int | None
    measure: AttemptMeasure
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class AttemptValues:
    """Counts for the ratios that `ATTEMPT_MEASURES` are: above and below the line, each a mean over a problem's chains.

    Attributes:
        family: The runs.
        level: The problems' difficulty label or bin; None for all problems.
        chains: How many chains of a problem tell about each attempt.
        tops: [problems, attempts, measures].
        bottoms: [problems, attempts, measures].
    """

    family: Family
    level: Any
    chains: Sequence[int]
    tops: Floats
    bottoms: Floats

    def part(self, level: Any, members: Integers) -> AttemptValues:
        """The same for fewer problems.

        Args:
            level: What they are called.
            members: Their places.
        """
        return AttemptValues(self.family, level, self.chains, self.tops[members], self.bottoms[members])


def attempt_values(family: Family) -> AttemptValues:
    """Looks at every attempt of every chain.

    An attempt is measured in the run that has the most chains among those that go so far, so that the first ones, which
    all runs have, rest on many chains. Seeds of one problem are averaged.
    """
    longest = max(run.shape.length for run in family.runs)
    runs = [family.run_for(Shape(length, chains=1)) for length in range(1, longest + 1)]
    size = len(family.uids), longest, len(ATTEMPT_MEASURES)
    tops, bottoms = np.zeros(size), np.zeros(size)
    for run in family.runs:
        places = [attempt for attempt, of_attempt in enumerate(runs) if of_attempt is run]
        for problem, uid in enumerate(family.uids if places else ()):
            of_seeds = np.mean([_ratios(pool, run.shape) for pool in run.pools[uid]], axis=0)
            tops[problem, places], bottoms[problem, places] = of_seeds[:, places]
    return AttemptValues(family, None, [run.shape.chains for run in runs], tops, bottoms)


def _ratios(pool: Pool, shape: Shape) -> Floats:
    """What is above and below the line in one pool, [2, attempts, measures]."""
    classes = pool.classes.reshape(shape.chains, shape.length)
    right = pool.correct.reshape(classes.shape).astype(np.float64)
    before = np.zeros_like(right)
    before[:, 1:] = right[:, :-1]
    later = np.ones_like(right)
    later[:, 0] = 0  # the first attempt has none before it
    none = classes == UNPARSABLE
    same, seen = np.zeros_like(none), np.zeros_like(none)
    same[:, 1:] = classes[:, 1:] == classes[:, :-1]
    for attempt in range(1, shape.length):
        seen[:, attempt] = (classes[:, :attempt] == classes[:, attempt, None]).any(axis=1)
    ones = np.ones_like(right)
    above_and_below = {
        "accuracy": (right, ones),
        "gain": (right - right[:, :1], later),
        "broken": (before * (1 - right), later * before),
        "mended": ((1 - before) * right * later, later * (1 - before)),
        "same": (same & ~none, later),
        "back": (seen & ~same & ~none, later),
        "new": (~seen & ~none & (later > 0), later),
        "none": (none, ones),
    }
    pairs = [above_and_below[measure] for measure in ATTEMPT_MEASURES]
    return np.array([[part.mean(axis=0) for part in parts] for parts in zip(*pairs, strict=True)]).swapaxes(1, 2)


def attempt_rows(found: AttemptValues, *, resamples: int = 1000, seed: int = 0) -> list[AttemptRow]:
    """Attempt by attempt, and last all after the first together, each attempt counting the same.

    Args:
        found: What `attempt_values` returned.
        resamples: Draws of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        Measure by measure for each attempt; without those that an attempt doesn't have.
    """
    n = len(found.tops)
    tops, bottoms = ([*part.swapaxes(0, 1), part[:, 1:].sum(axis=1)] for part in (found.tops, found.bottoms))
    wide = (np.concatenate(parts, axis=1) for parts in (tops, bottoms))  # [problems, (attempts + 1) * measures]
    estimates = iter(bootstrap_ratios(*wide, resamples=resamples, seed=seed))
    rows = []
    numbers: list[tuple[int | None, int | None]] = [*enumerate(found.chains, start=1), (None, None)]
    for attempt, chains in numbers:
        for measure in ATTEMPT_MEASURES:
            estimate = next(estimates)
            if estimate is not None:
                where = found.family.task, found.family.strategy, found.level, attempt, chains, measure
                rows.append(AttemptRow(*where, *_interval(estimate, attempt, measure, n), n))
    return rows


def _interval(found: Estimate, attempt: int | None, measure: AttemptMeasure, n: int) -> tuple[float, float, float]:
    if measure == "accuracy" and attempt is not None:
        return (found.value, *wilson_interval(found.value, n))
    return found.value, found.low, found.high
