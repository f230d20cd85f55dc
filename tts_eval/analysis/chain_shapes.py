"""Accuracy of chains of revisions by shape, with what is paired about it (Snell et al. 2024, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tts_eval.analysis.accuracy import wilson_interval
from tts_eval.analysis.chains import ChainMeasure, Family, Shape
from tts_eval.analysis.paired import detectable_difference
from tts_eval.analysis.resampling import bootstrap_mean
from tts_eval.selection import Floats, Integers


@dataclass(frozen=True)
class ShapeValues:
    """Each problem's chance to be right, for some of a family's problems.

    Attributes:
        family: The runs.
        level: The problems' difficulty label or bin; None for all problems.
        shapes: As `shapes_of` returns them.
        measures: As `measures_of` returns them.
        values: See `shape_values`; [problems, shapes, measures].
    """

    family: Family
    level: Any
    shapes: Sequence[Shape]
    measures: Sequence[ChainMeasure]
    values: Floats

    def part(self, level: Any, members: Integers) -> ShapeValues:
        """The same for fewer problems.

        Args:
            level: What they are called.
            members: Their places.
        """
        return ShapeValues(self.family, level, self.shapes, self.measures, self.values[members])

    def of(self, shape: Shape, measure: ChainMeasure) -> Floats:
        """A column of `values`, [problems]."""
        return self.values[:, list(self.shapes).index(shape), list(self.measures).index(measure)]


@dataclass(frozen=True)
class ShapeRow:
    """One accuracy.

    Attributes:
        task: lm-eval's task name.
        strategy: See `Family`.
        level: See `ShapeValues`.
        budget: The paper's N, length x chains.
        length: Attempts in a chain.
        chains: Chains side by side.
        selection: One of `CHAIN_MEASURES`.
        accuracy: Mean over the problems of the chance that the answer is right, 0 to 1.
        low: Lower end of the 95 % interval (see `wilson_interval`).
        high: Its upper end.
        gain: Accuracy less that of the same budget in parallel, chains of one attempt each; None where no run tells.
        gain_low: Lower end of the 95 % interval: bootstrap over problems, whose pairs stay together.
        gain_high: Its upper end.
        detectable: The smallest true gain that so many problems would show in four of five cases; None likewise.
        n: Number of problems.
    """

    task: str
    strategy: str
    level: Any
    budget: int
    length: int
    chains: int
    selection: ChainMeasure
    accuracy: float
    low: float
    high: float
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    detectable: float | None
    n: int


@dataclass(frozen=True)
class ShapeDifference:
    """How much one selection is better than another from the same attempts.

    Attributes:
        task: See `ShapeRow`.
        strategy: See `ShapeRow`.
        level: See `ShapeRow`.
        budget: See `ShapeRow`.
        length: See `ShapeRow`.
        chains: See `ShapeRow`.
        selection: The one.
        against: The other.
        difference: Mean over the problems of the one's chance to be right less the other's.
        low: Lower end of the 95 % interval: bootstrap over problems, whose pairs stay together.
        high: Its upper end.
        detectable: The smallest true difference that so many problems would show in four of five cases.
        n: Number of problems.
    """

    task: str
    strategy: str
    level: Any
    budget: int
    length: int
    chains: int
    selection: ChainMeasure
    against: ChainMeasure
    difference: float
    low: float
    high: float
    detectable: float
    n: int


def shape_rows(found: ShapeValues, *, resamples: int = 1000, seed: int = 0) -> list[ShapeRow]:
    """Accuracy of each shape and selection.

    Args:
        found: The problems' values.
        resamples: Draws of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        Shape by shape, selection by selection.
    """
    n = len(found.values)
    rows = []
    for shape in found.shapes:
        parallel = Shape(length=1, chains=shape.budget)
        for measure in found.measures:
            values = found.of(shape, measure)
            gain = gain_low = gain_high = seen = None
            if parallel in found.shapes:
                gain, gain_low, gain_high, seen = _compared(values - found.of(parallel, measure), resamples, seed)
            accuracy = float(values.mean())
            low, high = wilson_interval(accuracy, n)
            where = found.family.task, found.family.strategy, found.level, shape.budget, shape.length, shape.chains
            rows.append(ShapeRow(*where, measure, accuracy, low, high, gain, gain_low, gain_high, seen, n))
    return rows


def shape_differences(
    found: ShapeValues, against: ChainMeasure, *, resamples: int = 1000, seed: int = 0
) -> list[ShapeDifference]:
    """Compares the selections with one of them, shape by shape.

    Args:
        found: The problems' values.
        against: One of its measures.
        resamples: Draws of the bootstrap.
        seed: Of the bootstrap.
    """
    rows = []
    for shape in found.shapes:
        for measure in found.measures:
            if measure != against:
                gains = found.of(shape, measure) - found.of(shape, against)
                where = found.family.task, found.family.strategy, found.level, shape.budget, shape.length, shape.chains
                rows.append(ShapeDifference(*where, measure, against, *_compared(gains, resamples, seed), len(gains)))
    return rows


def _compared(gains: Floats, resamples: int, seed: int) -> tuple[float, float, float, float]:
    """The mean of paired differences, [problems], its interval, and what would have shown."""
    mean = bootstrap_mean(gains, resamples=resamples, seed=seed)
    return mean.value, mean.low, mean.high, detectable_difference(gains)
