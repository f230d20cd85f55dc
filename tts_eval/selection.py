"""Late selection: from the scores and answers of a pool of candidates to one answer (Snell et al. 2024, section 3).

Everything here works on numbers alone: `classes` says which candidates reached an equivalent answer, `scores` what the
verifier thinks. Whether an answer is right is no argument of a selection; `expected_correctness` weighs the winners
afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from tts_eval.types import Candidate, TtsEvalError


Aggregation = Literal["last", "min", "prod", "mean", "max"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)

Selection = Literal["majority", "best_of_n", "best_of_n_weighted"]
SELECTIONS: tuple[Selection, ...] = get_args(Selection)

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.integer]
Booleans: TypeAlias = npt.NDArray[np.bool_]

UNPARSABLE = -1
"""Class of a candidate without an answer: it never votes and never wins."""

_ROUNDING = 1e-9  # Votes that differ by less, relative to the best, differ only in the order they were summed in.


def aggregate(step_scores: Sequence[float], how: str) -> float:
    """Reduces the step scores of a solution to one score (section 2).

    Args:
        step_scores: At least one score.
        how: One of `AGGREGATIONS`. `last` suits verifiers trained on Monte-Carlo values, `min` and `prod` those
            trained on human correctness labels.

    Raises:
        TtsEvalError: If `how` is unknown.
    """
    require_choice("aggregation", how, AGGREGATIONS)
    if how == "last":
        return float(step_scores[-1])
    return float(getattr(np, how)(step_scores))


def candidate_scores(candidates: Sequence[Candidate], how: str) -> Floats | None:
    """Returns one score a candidate, [n]: its step scores aggregated, or else its outcome score.

    None if a candidate with an answer has neither, or no verifier has seen any; a candidate without an answer, or
    without a single step, may lack them (NaN), it can't win.

    Raises:
        TtsEvalError: If `how` is unknown.
    """
    require_choice("aggregation", how, AGGREGATIONS)
    scores = np.full(len(candidates), np.nan)
    for i, candidate in enumerate(candidates):
        if candidate.step_scores:
            scores[i] = aggregate(candidate.step_scores, how)
        elif candidate.outcome_score is not None:
            scores[i] = candidate.outcome_score
        elif candidate.answer is not None:
            return None
    seen = any(candidate.step_scores is not None or candidate.outcome_score is not None for candidate in candidates)
    return scores if seen else None


def as_classes(groups: Sequence[int | None]) -> Integers:
    """Turns a grader's group ids (None: no answer) into classes 0, 1, ... and `UNPARSABLE`, [n]."""
    order: dict[int, int] = {}
    return np.array([UNPARSABLE if g is None else order.setdefault(g, len(order)) for g in groups], dtype=np.int64)


def winners(classes: Integers, scores: Floats | None, subsets: Integers, selection: str) -> Booleans:
    """Finds the winning answers of many subsets of one pool at once.

    Args:
        classes: Answer class of each candidate, [n], `UNPARSABLE` or 0 .. C-1.
        scores: Score of each candidate, [n]; None serves `majority` only.
        subsets: Indices of candidates, [r, k]: each row is one subset, without repetition.
        selection: One of `SELECTIONS`. `majority` counts the candidates of each class, `best_of_n_weighted` sums their
            scores, `best_of_n` takes the class of the highest score.

    Returns:
        [r, C]: which classes win in each subset. Tied classes all win; where no candidate has an answer none does.

    Raises:
        TtsEvalError: If the selection is unknown, or needs scores and there are none.
    """
    require_choice("selection", selection, SELECTIONS)
    if scores is None and selection != "majority":
        raise TtsEvalError(f"selection {selection} needs verifier scores; give a verifier, or use selection majority")
    r, answers = len(subsets), int(classes.max(initial=UNPARSABLE)) + 1
    # Candidates without an answer get a column of their own, the last, which never wins.
    columns = np.where(classes == UNPARSABLE, answers, classes)[subsets]  # [r, k]
    cells = columns + np.arange(r)[:, None] * (answers + 1)  # [r, k], into the raveled [r, C+1]
    winning = np.zeros((r, answers + 1), dtype=bool)
    flat = winning.reshape(-1)  # a view
    if scores is not None and selection == "best_of_n":
        merit = np.where(columns < answers, scores[subsets], -np.inf)  # [r, k]
        flat[cells[merit == merit.max(axis=1, keepdims=True)]] = True
    else:
        flat[cells] = True  # The answers that occur at all: even a negative sum beats an absent one.
        weights = np.ones(len(classes)) if scores is None or selection == "majority" else scores
        votes = np.bincount(cells.ravel(), weights[subsets].ravel(), minlength=winning.size).reshape(winning.shape)
        votes = np.where(winning, votes, -np.inf)[:, :answers]  # [r, C]
        best = votes.max(axis=1, keepdims=True, initial=-np.inf)
        winning[:, :answers] &= votes >= best - _ROUNDING * np.abs(best)
    return winning[:, :answers]


def expected_correctness(winning: Booleans, classes: Integers, correct: Booleans) -> Floats:
    """Returns the chance that a winner drawn uniformly from the tied classes is right, [r]; 0 where nothing won.

    Args:
        winning: What `winners` returned, [r, C].
        classes: As given to `winners`, [n].
        correct: Whether each candidate's answer is right, [n]. Should a grader disagree with itself inside a class,
            the class counts with its mean.
    """
    if winning.shape[1] == 0:
        return np.zeros(len(winning))
    parsed = classes != UNPARSABLE
    size = np.bincount(classes[parsed], minlength=winning.shape[1])
    right = np.bincount(classes[parsed], correct[parsed], minlength=winning.shape[1]) / np.maximum(size, 1)
    return (winning @ right) / np.maximum(winning.sum(axis=1), 1)


def select(classes: Integers, scores: Floats | None, selection: str) -> int | None:
    """Picks the one candidate whose text is returned.

    Of tied classes the one whose member comes first wins; inside the class the member with the highest score, the first
    of them on a tie.

    Args:
        classes: Answer class of each candidate, [n].
        scores: Score of each candidate, [n], or None without a verifier.
        selection: One of `SELECTIONS`.

    Returns:
        Index of a candidate; None if no candidate has an answer.

    Raises:
        TtsEvalError: If the selection is unknown, or needs scores and there are none.
    """
    winning = winners(classes, scores, np.arange(len(classes))[None], selection)[0]
    contenders = [i for i, answer in enumerate(classes) if answer != UNPARSABLE and winning[answer]]
    if not contenders:
        return None
    members = [i for i in contenders if classes[i] == classes[contenders[0]]]
    return members[0] if scores is None else max(members, key=lambda i: scores[i])


def coverage(correct: Booleans, k: int) -> float:
    """Chance that k of the n candidates, drawn without replacement, hold a right one: `1 - C(n-c, k) / C(n, k)`.

    The unbiased estimator of pass@k (Chen et al. 2021, 2107.03374).

    Args:
        correct: Whether each candidate is right, [n].
        k: 1 <= k <= n.
    """
    n, wrong = len(correct), int(np.sum(~correct))
    # The quotient of binomials, factor by factor so that none overflows; past `wrong` a factor is 0.
    return 1.0 - float(np.prod(1.0 - k / np.arange(wrong + 1, n + 1))) if wrong >= k else 1.0


def require_choice(what: str, name: str, choices: Sequence[str]) -> None:
    """Raises a TtsEvalError that lists the choices if `name` is none of them."""
    if name not in choices:
        raise TtsEvalError(f"unknown {what} {name!r}; choose from {', '.join(choices)}")
