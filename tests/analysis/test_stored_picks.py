r"""Our picks against those that others stored with their own generations, by way of `tts-eval import` and `select`.

search-and-learn, best of 4 of Llama-3.2-3B-Instruct: every one of the 90 stored picks (10 problems, 3 rules, budgets 1,
2, 4) is ours too, once two things about *answers* are allowed for; none is about selection:

- search-and-learn takes the last number of a solution without `\boxed{}`. With our default, no box is no answer, and 15
  picks differ: candidate 0 of number_theory/515 and of precalculus/927 has no box, can't vote, and so can't win.
- Its normaliser has a unit "q ." that it applies as a regular expression, which eats the "q -" of one answer
  (intermediate_algebra/1994). The stored string names the same candidate.

OpenPRM, best of 16 of a Qwen2 model: 17 of the 20 stored picks are ours. In the other three the solution with the
highest reward has no answer; it can't win here, so we take the best of those that have one, which is right once.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tts_eval.answers import default_grader, extract_answer
from tts_eval.journal import Record, read_journal
from tts_eval.selection import as_classes, candidate_scores, select, winners


FOLDER = Path(__file__).parents[3] / "shared" / "data" / "generations"
LLAMA = FOLDER / "search_and_learn_llama3b_bon4.jsonl"
QWEN = FOLDER / "qwen2_bon16_openprm.csv"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=f"needs the generations in {FOLDER}")

Run = Callable[..., tuple[int, str, str]]

RULES = {"naive": "best_of_n", "weighted": "best_of_n_weighted", "maj": "majority"}
BUDGETS = (1, 2, 4)

EATEN = {r"2p+\frac{1}{2}\frac{11}{3}": r"2p + \frac{1}{2}q - \frac{11}{3}"}

WITHOUT_BOX = {
    *(("test/number_theory/515.json", rule, k) for rule in RULES for k in (1, 2)),
    *(("test/precalculus/927.json", rule, k) for rule in RULES for k in (1, 2, 4)),
}

RIGHT_AND_TIED = {
    **{(rule, 1): (4, 0) for rule in RULES},
    ("naive", 2): (6, 1),
    ("weighted", 2): (6, 1),
    ("maj", 2): (4, 6),
    ("naive", 4): (7, 2),
    ("weighted", 4): (8, 0),
    ("maj", 4): (7, 3),
}
"""Rule and budget to how many of the 10 stored picks are right, and in how many problems answers tie."""


@pytest.fixture
def imported(tts_eval_command: Run, tmp_path: Path) -> Callable[..., Path]:
    """Imports a file under the name of a budget."""

    def call(source: Path, budget: int, *arguments: object) -> Path:
        journal = tmp_path / f"candidates_math_{budget}.jsonl"
        status, _, err = tts_eval_command("import", source, "--task", "math", "--output", journal, *arguments)
        assert (status, err) == (0, "")
        return journal

    return call


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def stored_pick(row: dict[str, Any], rule: str, k: int) -> str | None:
    stored = extract_answer(row[f"pred_{rule}@{k}"])
    return EATEN.get(stored or "", stored)


def differing_picks(records: list[Record]) -> Iterator[tuple[str, str, int]]:
    """Names the stored picks that aren't among our winners, or that differ from the one answer we would return."""
    grader = default_grader()
    for row, record in zip(rows_of(LLAMA), records, strict=True):
        answers = [candidate.answer for candidate in record.candidates]
        classes = as_classes(grader.group(answers))
        scores = candidate_scores(record.candidates, "last")
        assert scores == pytest.approx(row["agg_scores"])
        for rule, k in ((rule, k) for rule in RULES for k in BUDGETS):
            winning = winners(classes, scores, np.arange(k)[None], RULES[rule])[0]
            pick = select(classes[:k], scores[:k], RULES[rule])
            stored = stored_pick(row, rule, k)
            tied = [answers[int(np.flatnonzero(classes == answer)[0])] for answer in np.flatnonzero(winning)]
            if not any(grader.grade((answer, stored) for answer in tied)):
                yield record.uid, rule, k
            else:
                assert grader.grade([(answers[pick], stored)]) == [True], "ties are broken alike: the first answer"


def test_every_stored_pick_is_ours_when_answers_are_read_alike(imported: Callable[..., Path]) -> None:
    _, records = read_journal(imported(LLAMA, 4, "--answer_fallback", "last_number"))
    assert list(differing_picks(records)) == []


def test_only_solutions_without_a_box_differ_by_default(imported: Callable[..., Path]) -> None:
    assert set(differing_picks(read_journal(imported(LLAMA, 4))[1])) == WITHOUT_BOX


@pytest.mark.parametrize("k", BUDGETS)
def test_select_gives_the_accuracy_of_the_stored_picks(
    k: int, imported: Callable[..., Path], tts_eval_command: Run, tmp_path: Path
) -> None:
    """Of the first k candidates, as the picks are; where answers tie, `select` shares the credit among them."""
    source, stored = tmp_path / "source.jsonl", rows_of(LLAMA)
    first = [{**row, "completions": row["completions"][:k], "scores": row["scores"][:k]} for row in stored]
    source.write_text("".join(json.dumps({**row, "completion_tokens": None}) + "\n" for row in first))
    journal = imported(source, k, "--answer_fallback", "last_number")
    status, out, _ = tts_eval_command("select", journal, "--format", "json", "--budgets", k)
    measured = {row["selection"]: row["accuracy"] for row in json.loads(out)}
    assert status == 0
    grader = default_grader()
    for rule, selection in RULES.items():
        right = grader.grade([(row["answer"], stored_pick(row, rule, k)) for row in stored])
        credit = [shared(record, selection) for record in read_journal(journal)[1]]
        expected = [float(own) if tied is None else tied for own, tied in zip(right, credit, strict=True)]
        assert measured[selection] == pytest.approx(np.mean(expected))
        assert (sum(right), sum(tied is not None for tied in credit)) == RIGHT_AND_TIED[rule, k]


def shared(record: Record, selection: str) -> float | None:
    """The share of right answers among those that tie; None where one answer wins."""
    grader = default_grader()
    answers = [candidate.answer for candidate in record.candidates]
    classes = as_classes(grader.group(answers))
    scores = candidate_scores(record.candidates, "last")
    winning = np.flatnonzero(winners(classes, scores, np.arange(len(answers))[None], selection)[0])
    if len(winning) == 1:
        return None
    tied = [answers[int(np.flatnonzero(classes == answer)[0])] for answer in winning]
    return float(np.mean(grader.grade([(record.gold or "", answer) for answer in tied])))


def test_the_stored_picks_of_openprm(imported: Callable[..., Path], tts_eval_command: Run) -> None:
    journal = imported(QWEN, 16)
    with QWEN.open(newline="", encoding="utf-8") as file:
        stored = list(csv.DictReader(file))
    records = read_journal(journal)[1]
    assert [record.level for record in records] == [int(row["level"]) for row in stored]
    best = [max(record.candidates, key=lambda one: one.outcome_score or 0.0) for record in records]
    # An answer that isn't there is stored as an empty string.
    assert [one.answer or "" for one in best] == [row["best_of_n_result"] for row in stored]
    assert sum(one.answer is None for one in best) == 3
    status, out, _ = tts_eval_command(
        "select", journal, "--format", "json", "--budgets", 16, "--selection", "best_of_n"
    )
    (measured,) = json.loads(out)
    right = sum(row["best_of_n_accuracy"] == "True" for row in stored)
    assert (status, measured["n"], right, measured["accuracy"]) == (0, 20, 13, 14 / 20)
