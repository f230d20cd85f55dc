"""ProcessBench's measure against examples worked out by hand; the choice of the threshold against trying them all."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tts_eval.analysis.processbench import (
    NO_ERROR,
    Located,
    choose_threshold,
    draw_questions,
    f1,
    first_error,
    first_error_measures,
    read_processbench,
    tuning_questions,
)
from tts_eval.types import TtsEvalError


HAND = [
    Located("a", (0.9, 0.2, 0.8), 1),  # found
    Located("b", (0.9, 0.8, 0.1), 1),  # the step after it
    Located("c", (0.3, 0.1), 0),  # found, though the second is lower
    Located("d", (0.9, 0.9), 0),  # missed
    Located("d", (0.6, 0.7, 0.9), NO_ERROR),  # passed
    Located("e", (0.9, 0.4), NO_ERROR),  # a false alarm
    Located("f", (0.5,), NO_ERROR),  # passed: not below the threshold
]


def test_by_hand() -> None:
    found = first_error_measures(HAND, threshold=0.5)
    assert found.tuned_on is None and found.threshold == 0.5
    assert found.erroneous is not None and found.correct is not None and found.f1 is not None
    assert (found.erroneous.value, found.erroneous_n) == (2 / 4, 4)
    assert (found.correct.value, found.correct_n) == (2 / 3, 3)
    assert found.f1.value == pytest.approx(4 / 7)  # 2 * 1/2 * 2/3 / (1/2 + 2/3)
    assert found.erroneous.low == pytest.approx(0.150, abs=1e-3)  # Wilson's, by an independent calculator
    assert found.erroneous.high == pytest.approx(0.850, abs=1e-3)
    assert 0 <= found.f1.low < 4 / 7 < found.f1.high <= 1


def test_one_kind_only_has_no_f1() -> None:
    found = first_error_measures(HAND[:4], threshold=0.5)
    assert found.correct is None and found.f1 is None and found.erroneous is not None


def test_f1_of_nothing_right() -> None:
    assert f1(0.0, 0.0) == 0.0
    assert f1(1.0, 0.0) == 0.0


LOCATED = st.lists(st.integers(0, 5).map(lambda k: k / 5), min_size=1, max_size=4).flatmap(
    lambda scores: st.integers(NO_ERROR, len(scores) - 1).map(lambda label: Located("q", tuple(scores), label))
)


def mean_right(solutions: list[Located], threshold: float, wrong: bool) -> float:
    of_kind = [one for one in solutions if (one.label != NO_ERROR) == wrong]
    return sum(first_error(one.scores, threshold) == one.label for one in of_kind) / len(of_kind)


@given(st.lists(LOCATED, min_size=2, max_size=8))
def test_no_threshold_beats_the_chosen_one(solutions: list[Located]) -> None:
    assume(len({one.label == NO_ERROR for one in solutions}) == 2)

    def value(threshold: float) -> float:
        return f1(mean_right(solutions, threshold, True), mean_right(solutions, threshold, False))

    best = max(value(k / 20) for k in range(-1, 23))
    assert value(choose_threshold(solutions)) == pytest.approx(best)


def test_threshold_lies_between_the_scores() -> None:
    assert choose_threshold([Located("a", (0.9, 0.2), 1), Located("b", (0.8, 0.7), NO_ERROR)]) == pytest.approx(0.45)


def test_threshold_is_chosen_on_other_questions() -> None:
    solutions = [Located(f"q{i}", (0.9, 0.1 if i % 2 else 0.8), 1 if i % 2 else NO_ERROR) for i in range(40)]
    found = first_error_measures(solutions, seed=1)
    assert found.tuned_on == 8 and found.erroneous_n + found.correct_n == 32
    assert found.f1 is not None and found.f1.value == 1.0
    assert found.threshold == pytest.approx(0.45)


def test_the_split_needs_both_kinds() -> None:
    with pytest.raises(TtsEvalError, match="has 4 solutions, 0 of them with a wrong step, and needs both kinds"):
        first_error_measures([Located(f"q{i}", (0.5,), NO_ERROR) for i in range(20)])


def test_all_solutions_of_a_question_fall_on_one_side() -> None:
    solutions = [Located(f"q{i}", (0.5,), k % 2 - 1) for i in range(20) for k in range(2 + i)]
    split = tuning_questions([(one.question, one.label) for one in solutions], 0)
    assert len(split) == 4
    assert first_error_measures(solutions).tuned_on == sum(one.question in split for one in solutions)


def test_draw_is_independent_of_order_and_nested() -> None:
    questions = [f"q{i}" for i in range(50)]
    assert draw_questions(questions, 10, 0) == draw_questions(questions[::-1] * 2, 10, 0)
    assert draw_questions(questions, 10, 0) < draw_questions(questions, 20, 0)
    assert draw_questions(questions, 10, 0) != draw_questions(questions, 10, 1)


ROW = {"id": "g-0", "generator": "m", "problem": "1 + 1?", "steps": ["2"], "final_answer_correct": True, "label": -1}


def test_reading(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([ROW, {**ROW, "id": "g-1", "label": 0}]))
    first, second = read_processbench(path)
    assert (first.id, first.steps, first.label, second.label) == ("g-0", ("2",), NO_ERROR, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{", "p.json: not JSON"),
        ("[]", "p.json: holds no list of solutions"),
        (json.dumps([ROW, {**ROW, "label": 1}]), "p.json: solution 2: label 1 is neither -1 nor one of its 1 steps"),
        (json.dumps([{**ROW, "label": -2}]), "p.json: solution 1: label -2 is neither"),
        (json.dumps([{**ROW, "steps": []}]), "p.json: solution 1: label -1 is neither -1 nor one of its 0 steps"),
        (json.dumps([{**ROW, "steps": [3]}]), r"p.json: solution 1: steps\[0\] must be a string, not 3; mend"),
        (json.dumps([{"id": "g"}]), "p.json: solution 1: problem is missing"),
        (json.dumps([7]), "p.json: solution 1: must be an object, not 7"),
    ],
)
def test_malformed(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(TtsEvalError, match=message):
        read_processbench(path)


def test_published_files(shared_data: Path) -> None:
    rows = read_processbench(shared_data / "processbench" / "gsm8k.json")
    assert len(rows) == 400 and sum(row.label == NO_ERROR for row in rows) == 193
    # A verifier that knows: what it must get from a measure that isn't broken.
    scores = [tuple(float(i != row.label) for i in range(len(row.steps))) for row in rows]
    solutions = [Located(row.problem, known, row.label) for row, known in zip(rows, scores, strict=True)]
    found = first_error_measures(solutions)
    assert found.f1 is not None and found.f1.value == 1.0
    # One that passes everything finds no error, which the accuracy on correct solutions alone would hide.
    blind = first_error_measures(solutions, threshold=-math.inf)
    assert blind.correct is not None and blind.f1 is not None and (blind.correct.value, blind.f1.value) == (1.0, 0.0)
