"""Sequential against parallel: which shape of chains is best for a budget (Snell et al. 2024, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tts_eval.analysis.chain_shapes import ShapeValues
from tts_eval.analysis.chains import ChainMeasure, Shape
from tts_eval.analysis.policies import best_shares
from tts_eval.analysis.resampling import bootstrap_counts, bootstrap_mean, percentiles
from tts_eval.selection import Floats


RATIO_MEASURES: tuple[ChainMeasure, ...] = ("hierarchical", "majority")
"""The paper's two selections for chains: with a verifier, and without."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class BestShape:
    """The best shape for a budget, and how sure that is.

    Attributes:
        task: See `ShapeRow`.
        strategy: See `ShapeRow`.
        level: See `ShapeRow`.
        budget: See `ShapeRow`.
        selection: See `ShapeRow`.
        length: Of the shape that has the highest accuracy; of equal ones the shortest.
        chains: Likewise.
        accuracy: Its accuracy, flattered since it was chosen for it.
        often: In what share of the bootstrap's draws it is the best; shapes that tie share a draw.
        ratio_low: Lower end of the 95 % interval of the best ratio, length / chains, over the same draws.
        ratio_high: Its upper end.
        over_sequential: Its accuracy less that of one chain, flattered likewise.
        over_sequential_low: Lower end of the 95 % interval (see `ShapeRow.gain_low`) of this shape, once chosen.
        over_sequential_high: Its upper end.
        over_parallel: The same against chains of one attempt.
        over_parallel_low: Likewise.
        over_parallel_high: Likewise.
        held_out: What choosing among all shapes gains over choosing between the two pure ones, on problems that had no
            part in the choice: the mean over the bootstrap's draws, each measured where it left problems out. Not
            flattered. None with too few problems.
        held_out_low: Lower end of its 95 % interval, over the same draws; rather wide, since a draw leaves out a third.
        held_out_high: Its upper end.
        n: Number of problems.
    """

    task: str
    strategy: str
    level: Any
    budget: int
    selection: ChainMeasure
    length: int
    chains: int
    accuracy: float
    often: float
    ratio_low: float
    ratio_high: float
    over_sequential: float
    over_sequential_low: float
    over_sequential_high: float
    over_parallel: float
    over_parallel_low: float
    over_parallel_high: float
    held_out: float | None
    held_out_low: float | None
    held_out_high: float | None
    n: int


def best_shapes(found: ShapeValues, *, resamples: int = 1000, seed: int = 0) -> list[BestShape]:
    """The best shape for each budget that has both pure shapes and a mixed one, and for each of `RATIO_MEASURES`.

    Args:
        found: The problems' values.
        resamples: Draws of the bootstrap.
        seed: Of the bootstrap.
    """
    measures = [measure for measure in RATIO_MEASURES if measure in found.measures]
    rows = []
    for budget in sorted({shape.budget for shape in found.shapes}):
        shapes = [shape for shape in found.shapes if shape.budget == budget]  # the shortest chains first
        if len(shapes) > 2 and shapes[0].length == 1 and shapes[-1].chains == 1:
            rows += [_best(found, shapes, measure, resamples, seed) for measure in measures]
    return rows


def _best(found: ShapeValues, shapes: Sequence[Shape], measure: ChainMeasure, resamples: int, seed: int) -> BestShape:
    values = np.stack([found.of(shape, measure) for shape in shapes], axis=1)  # [n, s]
    n = len(values)
    counts = bootstrap_counts(n, resamples, seed)
    chosen = best_shares(counts @ values / n)  # [draws, s]
    often = chosen.mean(axis=0)
    best = int(best_shares(values.mean(axis=0)[None])[0].argmax())
    at_most = often.cumsum()
    low, high = (shapes[int((at_most < end - _ROUNDING).sum())].ratio for end in (0.025, 0.975))
    sequential, parallel = (
        bootstrap_mean(values[:, best] - values[:, end], resamples=resamples, seed=seed) for end in (-1, 0)
    )
    return BestShape(
        found.family.task,
        found.family.strategy,
        found.level,
        shapes[0].budget,
        measure,
        shapes[best].length,
        shapes[best].chains,
        float(values[:, best].mean()),
        float(often[best]),
        low,
        high,
        *(sequential.value, sequential.low, sequential.high),
        *(parallel.value, parallel.low, parallel.high),
        *_held_out(values, counts, chosen),
        n,
    )


def _held_out(values: Floats, counts: Floats, chosen: Floats) -> tuple[float | None, float | None, float | None]:
    """What the choice among all shapes gains over that between the ends: mean and percentiles over the draws.

    Each draw chooses, and the problems that it left out say what the choice is worth.
    """
    ends = [0, -1]
    between_ends = np.zeros_like(chosen)
    between_ends[:, ends] = best_shares((counts @ values / len(values))[:, ends])
    without = (counts == 0).astype(np.float64)  # [draws, n]
    some = without.any(axis=1)
    if not some.any():
        return None, None, None
    gains = (chosen - between_ends) * (without @ values)  # [draws, s]
    gains = gains[some].sum(axis=1) / without[some].sum(axis=1)
    low, high = percentiles(gains)
    return float(gains.mean()), float(low), float(high)
