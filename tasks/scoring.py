"""Grades a problem's candidates: `process_results` of every task, and the aggregation that lm-eval lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tts_eval.answers import default_grader, extract_answer
from tts_eval.model_adapters.answer import Answer


def process_results(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Scores what a model answered to one problem.

    Args:
        doc: The problem, with its gold `answer`.
        results: One item: the `Answer` of one of our adapters, or the plain text of any other lm-eval model.

    Returns:
        `accuracy`: 1 if the selected answer is right, else 0. `coverage`: 1 if any candidate is (pass@N).
        `candidates_correct`: 0 or 1 for each candidate. `generations` and `tokens`: what the answer cost; `tokens` is
        missing where nobody counted them.
    """
    if not isinstance(results[0], Answer):
        correct = _grade(doc["answer"], [extract_answer(results[0])])
        return _metrics(correct, 0, generations=1, tokens=None)
    meta = results[0].meta
    usage = meta["usage"]
    correct = _grade(doc["answer"], [candidate["answer"] for candidate in meta["candidates"]])
    return _metrics(correct, meta["selected"], usage["generations"], usage["decode_tokens"])


def mean_over_problems(items: Sequence[Sequence[int]]) -> float:
    """Averages `candidates_correct` over each problem's candidates, then over problems (pass@1).

    Args:
        items: For each problem 0 or 1 for each of its candidates.
    """
    return sum(sum(correct) / len(correct) for correct in items) / len(items)


def _grade(gold: str, answers: Sequence[str | None]) -> list[int]:
    verdicts = iter(default_grader().grade([(gold, answer) for answer in answers if answer is not None]))
    return [0 if answer is None else int(next(verdicts)) for answer in answers]


def _metrics(correct: list[int], selected: int | None, generations: int | None, tokens: int | None) -> dict[str, Any]:
    cost = {"generations": generations, "tokens": tokens}
    return {
        "accuracy": 0 if selected is None else correct[selected],
        "coverage": max(correct),
        "candidates_correct": correct,
        # lm-eval can't average a None, but takes a missing key.
        **{key: value for key, value in cost.items() if value is not None},
    }
