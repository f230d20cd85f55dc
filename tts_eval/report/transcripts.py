"""Solutions with the score of every step, as the paper shows them: chosen by rule, not by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tts_eval.analysis.choice import choose
from tts_eval.analysis.gold import Gold
from tts_eval.analysis.pools import Grader
from tts_eval.journal import Record
from tts_eval.selection import Floats
from tts_eval.types import Candidate


@dataclass(frozen=True)
class Solution:
    """One solution.

    Attributes:
        verdict: `right` or `wrong`.
        score: The score of the whole.
        steps: Each step with its score, None where only the whole was scored.
    """

    verdict: str
    score: float
    steps: Sequence[tuple[str, float | None]]


@dataclass(frozen=True)
class Example:
    """A problem and what the verifier thinks of two solutions.

    Attributes:
        uid: The problem.
        level: Its bin.
        gold: The gold answer.
        solutions: The right and the wrong solution with the highest scores, the higher first.
    """

    uid: str
    level: str
    gold: str
    solutions: Sequence[Solution]


def examples(
    records: Sequence[Record], golds: Mapping[str, Gold], bins: Mapping[str, int], grader: Grader
) -> list[Example]:
    """The first problem of each bin, by uid, that has right and wrong solutions with scores.

    Args:
        records: A journal of independent samples.
        golds: By uid what is known of the problems.
        bins: By uid their bins.
        grader: Judges equivalence.
    """
    found: dict[int, Example] = {}
    for record in sorted(records, key=lambda record: (record.uid, record.seed)):
        number, gold = bins.get(record.uid), golds.get(record.uid)
        if number is None or gold is None or number in found:
            continue
        choice = choose(record, gold, grader)
        if choice.scores is None or choice.correct is None or len(set(choice.correct)) < 2:
            continue
        best = [_best(choice.scores, np.array(choice.correct) == right) for right in (True, False)]
        solutions = [
            _solution(record.candidates[index], float(choice.scores[index]), right)
            for index, right in zip(best, (True, False), strict=True)
        ]
        solutions.sort(key=lambda solution: -solution.score)
        found[number] = Example(record.uid, f"bin {number}", gold.answer, solutions)
    return [example for _, example in sorted(found.items())]


def _best(scores: Floats, among: np.typing.NDArray[np.bool_]) -> int:
    return int(np.where(among & ~np.isnan(scores), scores, -np.inf).argmax())


def _solution(candidate: Candidate, score: float, right: bool) -> Solution:
    scores: Sequence[float | None] = candidate.step_scores or [None] * len(candidate.steps)
    steps = [(step.strip(), of) for step, of in zip(candidate.steps, scores, strict=True)]
    return Solution("right" if right else "wrong", score, steps)
