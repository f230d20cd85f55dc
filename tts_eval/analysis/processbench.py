"""ProcessBench (Zheng et al. 2024, 2412.06559): does a verifier find the first wrong step of a solution?

It says that the first step whose score is below a threshold is wrong. Its accuracy on solutions with a wrong step and
that on solutions without one are summed up by their harmonic mean, F1: one alone is easily had at the other's cost.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tts_eval.analysis.accuracy import wilson_interval
from tts_eval.analysis.bootstrap import Estimate, bootstrap
from tts_eval.schema import from_json
from tts_eval.selection import Integers
from tts_eval.types import TtsEvalError


NO_ERROR = -1
"""The label of a solution whose steps are all right."""

TUNING_SHARE = 0.2
"""Share of the questions that the threshold is chosen on."""


@dataclass(frozen=True, slots=True)
class AnnotatedSolution:
    """One row of ProcessBench.

    Attributes:
        id: Its name.
        problem: The question.
        steps: The solution, step by step, without delimiters.
        label: Index of the first wrong step, or `NO_ERROR`.
        final_answer_correct: Whether it ends right, which it may in spite of a wrong step.
    """

    id: str
    problem: str
    steps: tuple[str, ...]
    label: int
    final_answer_correct: bool


@dataclass(frozen=True, slots=True)
class Located:
    """A solution of which a verifier has scored the steps.

    Attributes:
        question: What the split and the intervals go by.
        scores: One a step.
        label: Index of the first wrong step, or `NO_ERROR`.
    """

    question: str
    scores: tuple[float, ...]
    label: int


@dataclass(frozen=True, slots=True)
class FirstErrorMeasures:
    """How well first errors are found, 0 to 1.

    Attributes:
        threshold: A step that scores below it is called wrong.
        tuned_on: How many solutions it was chosen on, which are not measured; None where it was given.
        erroneous: Share of the solutions with a wrong step whose first wrong step is found exactly; Wilson interval.
        erroneous_n: How many of those there are.
        correct: Share of the others of which no step is called wrong; Wilson interval.
        correct_n: How many of those there are.
        f1: Harmonic mean of the two; bootstrap interval over questions, the threshold being what it is.
    """

    threshold: float
    tuned_on: int | None
    erroneous: Estimate | None
    erroneous_n: int
    correct: Estimate | None
    correct_n: int
    f1: Estimate | None


def read_processbench(path: Path) -> list[AnnotatedSolution]:
    """Reads a file of ProcessBench: a JSON array of solutions.

    Raises:
        TtsEvalError: Names the file, the solution and what is wrong in it.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TtsEvalError(f"{path}: {error.strerror}; check --data") from error
    except ValueError as error:
        raise TtsEvalError(f"{path}: not JSON: {error}; get the file again") from error
    if not isinstance(rows, list) or not rows:
        raise TtsEvalError(f"{path}: holds no list of solutions as ProcessBench has; check --data")
    return [_solution(row, f"{path}: solution {number}") for number, row in enumerate(rows, start=1)]


def _solution(row: object, where: str) -> AnnotatedSolution:
    try:
        solution: AnnotatedSolution = from_json(AnnotatedSolution, row, "")
    except TtsEvalError as error:
        raise TtsEvalError(f"{where}: {str(error).strip()}; mend or delete it") from error
    if not NO_ERROR <= solution.label < len(solution.steps) or not solution.steps:
        raise TtsEvalError(
            f"{where}: label {solution.label} is neither {NO_ERROR} nor one of its {len(solution.steps)} steps; mend "
            "or delete it"
        )
    return solution


def first_error(scores: Sequence[float], threshold: float) -> int:
    """Index of the first score below the threshold, or `NO_ERROR`."""
    return next((index for index, score in enumerate(scores) if score < threshold), NO_ERROR)


def f1(erroneous: float, correct: float) -> float:
    """Harmonic mean of the two accuracies; 0 where both are."""
    return 2 * erroneous * correct / (erroneous + correct) if erroneous + correct else 0.0


def choose_threshold(solutions: Sequence[Located]) -> float:
    """The threshold with the highest F1; if several have it, the one in the middle of them.

    Args:
        solutions: Some with a wrong step and some without.
    """
    wrong = np.array([solution.label != NO_ERROR for solution in solutions])
    ranges = np.array([_right_between(solution) for solution in solutions])  # [solutions, 2]
    distinct = np.unique(np.concatenate([solution.scores for solution in solutions]))
    # Between two scores, where the middle generalises best, and above all; below all F1 is 0.
    thresholds = np.array([*(distinct[:-1] + distinct[1:]) / 2, math.nextafter(distinct[-1], math.inf)])
    right = (ranges[:, :1] < thresholds) & (thresholds <= ranges[:, 1:])  # [solutions, thresholds]
    values = [f1(*pair) for pair in zip(right[wrong].mean(axis=0), right[~wrong].mean(axis=0), strict=True)]
    best = np.flatnonzero(np.array(values) == max(values))
    return float(thresholds[best[len(best) // 2]])


def _right_between(solution: Located) -> tuple[float, float]:
    """The thresholds (above the first, up to the second) for which `first_error` gives the label."""
    if solution.label == NO_ERROR:
        return -math.inf, min(solution.scores)
    return solution.scores[solution.label], min(solution.scores[: solution.label], default=math.inf)


def first_error_measures(
    solutions: Sequence[Located], *, threshold: float | None = None, seed: int = 0
) -> FirstErrorMeasures:
    """Measures on all solutions with a threshold that is given, or chooses it on a share of the questions.

    Args:
        solutions: At least one.
        threshold: If None, it is chosen on `TUNING_SHARE` of the questions, and measured is on the others.
        seed: Of the split and of the bootstrap.

    Raises:
        TtsEvalError: If a threshold has to be chosen and the split for it has solutions of one kind only.
    """
    tuned_on = None
    if threshold is None:
        split = tuning_questions([(solution.question, solution.label) for solution in solutions], seed)
        tuning = [solution for solution in solutions if solution.question in split]
        solutions = [solution for solution in solutions if solution.question not in split]
        threshold, tuned_on = choose_threshold(tuning), len(tuning)
    counts: dict[str, list[int]] = {}
    for solution in solutions:
        row = counts.setdefault(solution.question, [0, 0, 0, 0])
        kind = 0 if solution.label != NO_ERROR else 2
        row[kind] += first_error(solution.scores, threshold) == solution.label
        row[kind + 1] += 1
    table = np.array(list(counts.values())).reshape(-1, 4)  # [questions, right and all of each kind]
    found, wrong, passed, good = table.sum(axis=0).tolist()

    def statistic(drawn: Integers) -> float | None:
        found, wrong, passed, good = table[drawn].sum(axis=0)
        return f1(found / wrong, passed / good) if wrong and good else None

    f1_found = bootstrap(len(table), statistic, seed=seed)
    return FirstErrorMeasures(threshold, tuned_on, _share(found, wrong), wrong, _share(passed, good), good, f1_found)


def tuning_questions(labels: Sequence[tuple[str, int]], seed: int) -> set[str]:
    """Draws the questions that the threshold is chosen on.

    Args:
        labels: The question and the label of each solution.
        seed: Of the draw.

    Raises:
        TtsEvalError: If their solutions all have a wrong step, or none has.
    """
    questions = {question for question, _ in labels}
    drawn = draw_questions(questions, round(TUNING_SHARE * len(questions)), seed)
    wrong = [label != NO_ERROR for question, label in labels if question in drawn]
    if all(wrong) or not any(wrong):
        raise TtsEvalError(
            f"the threshold can't be chosen: a fifth of the questions has {len(wrong)} solutions, {sum(wrong)} of them "
            "with a wrong step, and needs both kinds; use more data (--limit), another --seed, or give --threshold"
        )
    return drawn


def draw_questions(questions: Iterable[str], n: int, seed: int) -> set[str]:
    """Draws n distinct questions, whatever order they come in; a larger n adds to those of a smaller one."""
    return set(sorted(set(questions), key=lambda text: hashlib.sha256(f"{seed} {text}".encode()).digest())[:n])


def _share(right: int, n: int) -> Estimate | None:
    return Estimate(right / n, *wilson_interval(right / n, n)) if n else None
