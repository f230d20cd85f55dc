"""Late selection: from the scores and answers of candidates to one answer (Snell et al. 2024, sections 3 and 4).

Everything here works on numbers alone: `classes` says which candidates reached an equivalent answer, `scores` what the
verifier thinks. Whether an answer is right is no argument of a selection; `expected_correctness` weighs the winners
afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from tts_eval.types import Candidate, TtsEvalError


Aggregation = Literal["last", "min", "prod", "mean", "max"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)

Selection = Literal["majority", "best_of_n", "best_of_n_weighted"]
SELECTIONS: tuple[Selection, ...] = get_args(Selection)

ChainSelection = Literal["majority", "best_of_n_weighted", "hierarchical", "last_attempt"]
CHAIN_SELECTIONS: tuple[ChainSelection, ...] = get_args(ChainSelection)
"""The selections among chains of revisions that have a definition here: see `chain_votes`."""

EVERY_SELECTION: tuple[str, ...] = tuple(dict.fromkeys((*SELECTIONS, *CHAIN_SELECTIONS)))
"""What `select_chain` takes."""

WITHOUT_SCORES = ("majority", "last_attempt")
"""Selections that look at no scores."""

ChainWeight = Literal["best", "sum"]
CHAIN_WEIGHTS: tuple[ChainWeight, ...] = get_args(ChainWeight)
"""What the winner of a chain brings to the vote across chains: see `chain_votes`."""

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
    if scores is None:
        refuse_without_scores(selection)
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
        winning[:, :answers] = _largest(np.where(winning, votes, -np.inf)[:, :answers])
    return winning[:, :answers]


def _largest(votes: Floats) -> Booleans:
    """Which votes are the largest of their row, up to rounding; -inf stands for none."""
    best = votes.max(axis=1, keepdims=True, initial=-np.inf)
    return (votes > -np.inf) & (votes >= best - _ROUNDING * np.abs(best))


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
    return _representative(contenders, classes, scores)


def _representative(contenders: Sequence[int], classes: Integers, scores: Floats | None) -> int:
    """Of the class that comes first the member with the highest score, the first of them on a tie."""
    members = [i for i in contenders if classes[i] == classes[contenders[0]]]
    return members[0] if scores is None else max(members, key=lambda i: scores[i])


def chain_votes(
    classes: Integers, scores: Floats | None, chains: Integers, selection: str, weight: str = "best"
) -> Floats:
    """What each chain of revisions gives to each answer; the answer with the largest sum over the chains wins.

    `majority` counts and `best_of_n_weighted` sums the scores of all attempts, whichever chain they are in.
    `last_attempt` counts the last attempts alone. `hierarchical` is the paper's choice with a verifier (section 4): a
    weighted vote inside each chain, then one among the chains' winners. With chains of one attempt, or with one chain,
    it is `best_of_n_weighted`.

    What a winner weighs in the second vote is unstated. A weighted vote is among solutions, each with its score, so by
    default a winner counts as one solution with the score of its best member (`best`); `sum` lets it keep the sum that
    it won with. Also unstated: answers that tie inside a chain share what the chain gives, the most that one of them
    would have got, in equal parts.

    Args:
        classes: Answer class of each attempt, [n], `UNPARSABLE` or 0 .. A-1.
        scores: Score of each attempt, [n]; None serves `majority` and `last_attempt` only.
        chains: Chain of each attempt, [n], 0 .. C-1; the attempts of a chain in their order.
        selection: One of `CHAIN_SELECTIONS`.
        weight: One of `CHAIN_WEIGHTS`; only `hierarchical` looks at it.

    Returns:
        [C, A]; NaN where a chain gives nothing to an answer.

    Raises:
        TtsEvalError: If a name is unknown, or scores are needed and there are none.
    """
    require_choice("selection", selection, CHAIN_SELECTIONS)
    require_choice("weight", weight, CHAIN_WEIGHTS)
    if scores is None:
        refuse_without_scores(selection)
    shape = int(chains.max()) + 1, int(classes.max(initial=UNPARSABLE)) + 1
    voting = classes != UNPARSABLE
    if selection == "last_attempt":
        voting &= _last(chains)
    cells = chains[voting] * shape[1] + classes[voting]  # into the raveled [C, A]
    counts = np.bincount(cells, minlength=math.prod(shape)).reshape(shape)
    if scores is None or selection in WITHOUT_SCORES:
        return np.where(counts > 0, counts, np.nan)
    sums = np.bincount(cells, scores[voting], minlength=math.prod(shape)).reshape(shape)
    if selection == "best_of_n_weighted":
        return np.where(counts > 0, sums, np.nan)
    winning = _largest(np.where(counts > 0, sums, -np.inf))
    best = np.full(math.prod(shape), -np.inf)
    np.maximum.at(best, cells, scores[voting])
    brought = np.where(winning, sums if weight == "sum" else best.reshape(shape), -np.inf)
    brought = brought.max(axis=1, keepdims=True, initial=-np.inf)  # [C, 1]
    return np.where(winning, brought / np.maximum(winning.sum(axis=1, keepdims=True), 1), np.nan)


def _last(chains: Integers) -> Booleans:
    """Whether each attempt is the last of its chain."""
    places = np.zeros(int(chains.max()) + 1, dtype=np.int64)
    np.maximum.at(places, chains, np.arange(len(chains)))
    return places[chains] == np.arange(len(chains))


def chain_winners(votes: Floats, taken: Booleans) -> Booleans:
    """Finds the winning answers of many subsets of one problem's chains at once.

    Args:
        votes: What `chain_votes` returned, [C, A].
        taken: Which chains are part of each subset, [r, C].

    Returns:
        [r, A]: which classes win in each subset. Tied classes all win; where no chain gives anything none does.
    """
    weights = taken.astype(np.float64)
    given = ~np.isnan(votes)
    totals = weights @ np.where(given, votes, 0.0)  # [r, A]
    return _largest(np.where(weights @ given > 0, totals, -np.inf))


def select_chain(
    classes: Integers, scores: Floats | None, chains: Integers, selection: str, weight: str = "best"
) -> int | None:
    """Picks the one attempt whose text is returned, among chains of revisions; compare `select`.

    Of tied answers the one wins whose attempt comes first. Its text is the attempt with the highest score, the first
    of them on a tie: with `hierarchical` of the chains that the answer won, with `last_attempt` of the last attempts.

    Args:
        classes: See `chain_votes`.
        scores: See `chain_votes`.
        chains: See `chain_votes`.
        selection: One of `EVERY_SELECTION`.
        weight: See `chain_votes`.

    Returns:
        Index of an attempt; None if none that counts has an answer.

    Raises:
        TtsEvalError: If a name is unknown, or scores are needed and there are none.
    """
    if selection in SELECTIONS:
        return select(classes, scores, selection)
    require_choice("selection", selection, EVERY_SELECTION)
    votes = chain_votes(classes, scores, chains, selection, weight)
    winning = chain_winners(votes, np.ones((1, len(votes)), dtype=bool))[0]
    counts = _last(chains) if selection == "last_attempt" else np.ones(len(classes), dtype=bool)
    contenders = [
        i
        for i, (chain, answer) in enumerate(zip(chains, classes, strict=True))
        if counts[i] and answer != UNPARSABLE and winning[answer] and not np.isnan(votes[chain, answer])
    ]
    return _representative(contenders, classes, scores) if contenders else None


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


def refuse_without_scores(selection: str) -> None:
    """Raises a TtsEvalError if a selection can't do without scores."""
    if selection not in WITHOUT_SCORES:
        raise TtsEvalError(f"selection {selection} needs verifier scores; give a verifier, or use selection majority")


def require_choice(what: str, name: str, choices: Sequence[str]) -> None:
    """Raises a TtsEvalError that lists the choices if `name` is none of them."""
    if name not in choices:
        raise TtsEvalError(f"unknown {what} {name!r}; choose from {', '.join(choices)}")
