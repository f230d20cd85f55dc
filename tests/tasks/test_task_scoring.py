from __future__ import annotations

from typing import Any

from tts_eval.model_adapters.answer import Answer
from tts_eval.tasks.scoring import mean_over_problems, process_results


DOC = {"answer": "\\frac{1}{2}", "unique_id": "a/1"}


def answer(answers: list[str | None], selected: int | None, tokens: int | None = 40) -> Answer:
    meta: dict[str, Any] = {
        "uid": "a/1",
        "budget": len(answers),
        "selected": selected,
        "candidates": [{"answer": text, "tokens": 10} for text in answers],
        "usage": {"generations": len(answers), "decode_tokens": tokens},
    }
    # The text says something else than the candidates: only the candidates count.
    return Answer("\\boxed{99}", meta)


def test_plain_text_has_one_candidate() -> None:
    right = {"accuracy": 1, "coverage": 1, "candidates_correct": [1], "generations": 1}
    assert process_results(DOC, ["So it is $\\boxed{\\frac{1}{2}}$."]) == right
    wrong = {"accuracy": 0, "coverage": 0, "candidates_correct": [0], "generations": 1}
    assert process_results(DOC, ["So it is $\\boxed{\\frac{1}{3}}$."]) == wrong
    assert process_results(DOC, ["no idea"]) == wrong
    assert process_results(DOC, [""]) == wrong


def test_answer_is_graded_candidate_by_candidate() -> None:
    scores = process_results(DOC, [answer(["2", "\\frac{1}{2}", None, "0.5"], selected=1)])
    assert scores == {
        "accuracy": 1,
        "coverage": 1,
        "candidates_correct": [0, 1, 0, 1],
        "generations": 4,
        "tokens": 40,
    }
    assert process_results(DOC, [answer(["2", "\\frac{1}{2}"], selected=0)])["accuracy"] == 0


def test_answer_without_any_candidate_answer() -> None:
    scores = process_results(DOC, [answer([None, None], selected=None)])
    assert (scores["accuracy"], scores["coverage"], scores["candidates_correct"]) == (0, 0, [0, 0])


def test_selected_candidate_without_an_answer_is_wrong() -> None:
    scores = process_results(DOC, [answer([None, "\\frac{1}{2}"], selected=0)])
    assert (scores["accuracy"], scores["coverage"]) == (0, 1)


def test_unknown_token_count_is_left_out() -> None:
    assert "tokens" not in process_results(DOC, [answer(["2"], selected=0, tokens=None)])


def test_mean_over_problems_weighs_problems_alike() -> None:
    assert mean_over_problems([[1, 0, 0, 0], [1]]) == (0.25 + 1) / 2
