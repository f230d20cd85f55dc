r"""Our picks against those that search-and-learn stored for its own best-of-4 generations of Llama-3.2-3B-Instruct.

Every one of the 90 stored picks (10 problems, 3 rules, budgets 1, 2, 4) is ours too, once two things about *answers*
are allowed for; none is about selection:

- search-and-learn takes the last number of a solution without `\boxed{}`. With our default, no box is no answer, and 15
  picks differ: candidate 0 of number_theory/515 and of precalculus/927 has no box, can't vote, and so can't win.
- Its normaliser has a unit "q ." that it applies as a regular expression, which eats the "q -" of one answer
  (intermediate_algebra/1994). The stored string names the same candidate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tts_eval.answers import default_grader, extract_answer
from tts_eval.journal import Record
from tts_eval.selection import as_classes, candidate_scores, select, winners
from tts_eval.types import Candidate, Usage


FILE = Path(__file__).parents[3] / "shared" / "data" / "generations" / "search_and_learn_llama3b_bon4.jsonl"

pytestmark = pytest.mark.skipif(not FILE.exists(), reason=f"needs the generations in {FILE}")

RULES = {"naive": "best_of_n", "weighted": "best_of_n_weighted", "maj": "majority"}
BUDGETS = (1, 2, 4)

EATEN = {r"2p+\frac{1}{2}\frac{11}{3}": r"2p + \frac{1}{2}q - \frac{11}{3}"}

WITHOUT_BOX = {
    *(("test/number_theory/515.json", rule, k) for rule in RULES for k in (1, 2)),
    *(("test/precalculus/927.json", rule, k) for rule in RULES for k in (1, 2, 4)),
}


def to_record(row: dict[str, Any], fallback: str | None) -> Record:
    candidates = tuple(
        Candidate(
            text=text,
            answer=extract_answer(text, fallback),
            steps=tuple(text.split("\n\n")),
            step_scores=tuple(scores),
            outcome_score=None,
            logprob=None,
            tokens=None,
            finish="eos",
            chain=i,
            attempt=0,
        )
        for i, (text, scores) in enumerate(zip(row["completions"], row["scores"], strict=True))
    )
    strategy = {"name": "best_of_n"}
    return Record(row["unique_id"], "math", strategy, 4, 0, candidates, Usage(), row["answer"], row["level"])


def differing_picks(fallback: str | None) -> Iterator[tuple[str, str, int]]:
    """Names the stored picks that aren't among our winners, or that differ from the one answer we would return."""
    grader = default_grader()
    for line in FILE.read_text().splitlines():
        row = json.loads(line)
        candidates = to_record(row, fallback).candidates
        answers = [candidate.answer for candidate in candidates]
        classes = as_classes(grader.group(answers))
        scores = candidate_scores(candidates, "last")
        assert scores == pytest.approx(row["agg_scores"])
        for rule, k in ((rule, k) for rule in RULES for k in BUDGETS):
            winning = winners(classes, scores, np.arange(k)[None], RULES[rule])[0]
            pick = select(classes[:k], scores[:k], RULES[rule])
            stored = extract_answer(row[f"pred_{rule}@{k}"])
            stored = EATEN.get(stored, stored)
            tied = [answers[int(np.flatnonzero(classes == answer)[0])] for answer in np.flatnonzero(winning)]
            if not any(grader.grade((answer, stored) for answer in tied)):
                yield row["unique_id"], rule, k
            else:
                assert grader.grade([(answers[pick], stored)]) == [True], "ties are broken alike: the first answer"


def test_every_stored_pick_is_ours_when_answers_are_read_alike() -> None:
    assert list(differing_picks("last_number")) == []


def test_only_solutions_without_a_box_differ_by_default() -> None:
    assert set(differing_picks(None)) == WITHOUT_BOX
