"""What a verifier's scores are worth: as probabilities of steps, and for telling right solutions from wrong ones.

A process verifier predicts the labels of steps (Snell et al. 2024, section 2), which may be soft: Brier score and
calibration take them as they are; for the area under the ROC curve a step is right from a label of one half on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tts_eval.analysis.bootstrap import Estimate, bootstrap
from tts_eval.analysis.discrimination import auroc
from tts_eval.selection import Aggregation, Booleans, Floats, Integers, aggregate


@dataclass(frozen=True, slots=True)
class JudgedSolution:
    """A solution, what is known of it, and a verifier's scores.

    Attributes:
        question: What groups the solutions of one problem.
        scores: One a step from a process verifier; one for the whole from an outcome verifier.
        labels: What each score should be, in [0, 1]; None where nobody knows.
        correct: Whether the solution ends right, or None where nobody knows.
    """

    question: str
    scores: tuple[float, ...]
    labels: tuple[float | None, ...]
    correct: bool | None


@dataclass(frozen=True, slots=True)
class Bin:
    """The scores between two bounds.

    Attributes:
        low: Lower bound, part of the bin.
        high: Upper bound, part of the last bin only.
        count: How many scores.
        score: Their mean.
        label: Mean of their labels.
    """

    low: float
    high: float
    count: int
    score: float
    label: float


@dataclass(frozen=True, slots=True)
class Depth:
    """The steps at one place of their solutions.

    Attributes:
        step: 1 for the first steps.
        n: How many have a label.
        label: Mean of their labels.
        auroc: Of their scores; None where right or wrong steps are missing.
    """

    step: int
    n: int
    label: float
    auroc: float | None


@dataclass(frozen=True, slots=True)
class ScoreMeasures:
    """Scores against their labels, whichever solution they belong to.

    Attributes:
        n: How many have a label.
        label: Mean of the labels.
        brier: Mean of (score - label)^2; None where the scores aren't probabilities.
        calibration_error: Mean over scores of their bin's |mean score - mean label|; None likewise.
        auroc: Pooled over problems and depths; None where right or wrong ones are missing.
        bins: Bins that are not empty; none where the scores aren't probabilities.
        depths: The same step by step.
    """

    n: int
    label: float
    brier: float | None
    calibration_error: float | None
    auroc: float | None
    bins: tuple[Bin, ...]
    depths: tuple[Depth, ...]


@dataclass(frozen=True, slots=True)
class SolutionMeasures:
    """How well whole solutions are told apart.

    Attributes:
        aggregation: What made one score of a solution's step scores; None where there was but one score.
        n: How many solutions.
        correct: How many of them end right.
        pooled: AUROC over all of them; see `tts_eval.analysis.discrimination` for why it flatters.
        within: AUROC within problems.
        mixed: How many problems have both right and wrong solutions: only those count within problems.
    """

    aggregation: Aggregation | None
    n: int
    correct: int
    pooled: Estimate | None
    within: Estimate | None
    mixed: int


def reliability(scores: Floats, labels: Floats, bins: int = 10) -> tuple[Bin, ...]:
    """Mean label against mean score in bins of equal width, empty ones left out.

    Args:
        scores: In [0, 1], [n].
        labels: Theirs, in [0, 1], [n].
        bins: How many to cut [0, 1] into.
    """
    index = np.minimum((scores * bins).astype(int), bins - 1)
    members = {k: index == k for k in np.unique(index).tolist()}
    return tuple(
        Bin(k / bins, (k + 1) / bins, int(of.sum()), float(scores[of].mean()), float(labels[of].mean()))
        for k, of in members.items()
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error: the mean over scores of their bin's |mean score - mean label|."""
    return sum(b.count * abs(b.score - b.label) for b in bins) / sum(b.count for b in bins)


def brier_score(scores: Floats, labels: Floats) -> float:
    """Mean of (score - label)^2. With soft labels it is the distance to the value, not to a single outcome."""
    return float(np.mean((scores - labels) ** 2))


def score_measures(solutions: Sequence[JudgedSolution]) -> ScoreMeasures | None:
    """Compares all scores with their labels; None where there are no labels."""
    known = [
        (step, score, label)
        for solution in solutions
        for step, (score, label) in enumerate(zip(solution.scores, solution.labels, strict=True), start=1)
        if label is not None
    ]
    if not known:
        return None
    steps, scores, labels = np.array(known, dtype=np.float64).T  # [n] each
    probabilities = bool(((scores >= 0) & (scores <= 1)).all())
    bins = reliability(scores, labels) if probabilities else ()
    return ScoreMeasures(
        n=len(known),
        label=float(labels.mean()),
        brier=brier_score(scores, labels) if probabilities else None,
        calibration_error=calibration_error(bins) if probabilities else None,
        auroc=_auroc(scores, labels >= 0.5),
        bins=bins,
        depths=tuple(_depth(int(step), scores[steps == step], labels[steps == step]) for step in np.unique(steps)),
    )


def _depth(step: int, scores: Floats, labels: Floats) -> Depth:
    return Depth(step, len(scores), float(labels.mean()), _auroc(scores, labels >= 0.5))


def _auroc(scores: Floats, right: Booleans) -> float | None:
    return auroc(scores.tolist(), right.tolist())


def solution_measures(
    solutions: Sequence[JudgedSolution],
    aggregations: Sequence[Aggregation | None],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[SolutionMeasures]:
    """Measures how well right solutions are told from wrong ones, one aggregation after the other.

    Args:
        solutions: Those of which nobody knows whether they are right are left out.
        aggregations: What makes one score of several; None for solutions that have but one.
        resamples: Draws of the bootstrap, which draws problems.
        seed: Of the bootstrap.

    Returns:
        Nothing where nobody knows of any solution.
    """
    known = [solution for solution in solutions if solution.correct is not None]
    if not known:
        return []
    right = np.array([solution.correct for solution in known])
    questions = [solution.question for solution in known]
    measures = []
    for how in aggregations:
        scores = np.array([aggregate(solution.scores, how or "last") for solution in known])
        pooled, within, mixed = _discrimination(questions, scores, right, resamples, seed)
        measures.append(SolutionMeasures(how, len(known), int(right.sum()), pooled, within, mixed))
    return measures


def _discrimination(
    questions: Sequence[str], scores: Floats, right: Booleans, resamples: int, seed: int
) -> tuple[Estimate | None, Estimate | None, int]:
    """AUROC pooled and within problems, and how many problems have both kinds."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, question in enumerate(questions):
        members[question].append(index)
    groups = [np.array(of) for of in members.values()]
    pairs = np.array([int(right[of].sum()) * int((~right[of]).sum()) for of in groups])
    won = pairs * np.array([_auroc(scores[of], right[of]) or 0.0 for of in groups])

    def pooled(drawn: Integers) -> float | None:
        indices = np.concatenate([groups[group] for group in drawn])
        return _auroc(scores[indices], right[indices])

    def within(drawn: Integers) -> float | None:
        return float(won[drawn].sum() / pairs[drawn].sum()) if pairs[drawn].any() else None

    estimates = (bootstrap(len(groups), one, resamples=resamples, seed=seed) for one in (pooled, within))
    return next(estimates), next(estimates), int((pairs > 0).sum())
