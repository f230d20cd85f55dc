"""Which candidate of one problem wins, and which are right."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from tts_eval.analysis.gold import Gold
from tts_eval.analysis.pools import Grader, grade_all
from tts_eval.journal import Record
from tts_eval.selection import Floats, as_classes, candidate_scores, select_chain


@dataclass(frozen=True)
class Answer:
    """One distinct answer, up to equivalence.

    Attributes:
        text: As the first candidate that has it writes it; None stands for having none.
        candidates: Indices of the candidates that have it.
        score: Sum of their scores; None without a verifier, and where there is no answer.
        correct: Whether it is right; None where no gold answer is known.
        selected: Whether it wins.
    """

    text: str | None
    candidates: tuple[int, ...]
    score: float | None
    correct: bool | None
    selected: bool


@dataclass(frozen=True)
class Choice:
    """What a selection makes of the candidates of one problem.

    Attributes:
        selection: How one was chosen.
        aggregation: How step scores became one score.
        scores: Score of each candidate, [n] (NaN where it has none and can't win); None without a verifier.
        selected: Index of the winner; None where no candidate has an answer.
        gold: The gold answer and the problem's level, or None where it isn't known.
        correct: Whether each candidate is right, n of them; None without a gold answer.
        answers: The distinct answers, the most frequent first.
    """

    selection: str
    aggregation: str
    scores: Floats | None
    selected: int | None
    gold: Gold | None
    correct: tuple[bool, ...] | None
    answers: tuple[Answer, ...]


def choose(
    record: Record, gold: Gold | None, grader: Grader, *, selection: str | None = None, aggregation: str | None = None
) -> Choice:
    """Selects among a record's candidates.

    Args:
        record: A problem's candidates.
        gold: What is known of the problem after the run.
        grader: Judges equivalence.
        selection: If None, the adapters' default: with scores the weighted vote, hierarchical among chains; else the
            majority.
        aggregation: If None, that of the search where its strategy has one, else `last`.

    Raises:
        TtsEvalError: If the selection needs scores that the record doesn't hold.
    """
    aggregation = aggregation or record.strategy.get("aggregation") or "last"
    scores = candidate_scores(record.candidates, aggregation)
    if selection is None:
        chained = any(candidate.attempt for candidate in record.candidates)
        selection = "majority" if scores is None else "hierarchical" if chained else "best_of_n_weighted"
    given = [candidate.answer for candidate in record.candidates]
    groups = grader.group(given)
    chains = np.array([candidate.chain for candidate in record.candidates])
    selected = select_chain(as_classes(groups), scores, chains, selection)
    correct = None if gold is None else tuple(grade_all([(gold, answer) for answer in given], grader))
    members: dict[int | None, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    answers = [
        Answer(
            text=given[of[0]],
            candidates=tuple(of),
            score=None if scores is None or group is None else float(scores[of].sum()),
            correct=None if correct is None else correct[of[0]],
            selected=selected in of,
        )
        for group, of in sorted(members.items(), key=lambda item: -len(item[1]))
    ]
    return Choice(selection, aggregation, scores, selected, gold, correct, tuple(answers))
