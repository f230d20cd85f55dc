"""Signs of over-optimisation, on pools small enough to count by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.analysis import Pool, PoolSet
from tts_eval.analysis.overoptimisation import diagnose, repeated_steps
from tts_eval.selection import as_classes
from tts_eval.types import Candidate


def pool(uid: str, *solutions: tuple[str, float | None], gold: str = "7", level: int = 1) -> Pool:
    """One letter a step, the last of which is the answer (`-` none); with the score of the last step."""
    candidates = tuple(
        Candidate(
            text=steps,
            answer=None if steps[-1] == "-" else steps[-1],
            steps=tuple(steps),
            step_scores=None if score is None else (*[0.5] * (len(steps) - 1), score),
            outcome_score=None,
            logprob=None,
            tokens=10 * len(steps),
            finish="eos",
            chain=index,
            attempt=0,
        )
        for index, (steps, score) in enumerate(solutions)
    )
    answers = [candidate.answer for candidate in candidates]
    groups = [None if answer is None else answers.index(answer) for answer in answers]
    return Pool(uid, 0, level, candidates, as_classes(groups), np.array([answer == gold for answer in answers]))


def pools(*of: Pool, independent: bool = False) -> PoolSet:
    return PoolSet("toy", "beam", 4, independent, of)


# In `a` the wrong answer wins with repeated steps and high scores; in `b` the right one; `c` can't be won.
A = pool("a", ("pp3", 0.9), ("ppp3", 0.8), ("pq7", 0.3), ("x-", 0.1))
B = pool("b", ("7", 0.6), ("q7", 0.7), ("q3", 0.65), ("qr3", 0.2))
C = pool("c", ("q3", 0.4), ("q3", 0.4), ("q3", 0.4), ("q3", 0.4), level=2)


def test_one_line_by_hand() -> None:
    (found,) = diagnose(pools(A, B, C))
    assert (found.task, found.strategy, found.budget, found.n, found.solutions) == ("toy", "beam", 4, 3, 12)
    # Steps: 3 4 3 2, 1 2 2 3, 2 2 2 2.
    assert found.steps == pytest.approx(28 / 12) and found.tokens == pytest.approx(280 / 12)
    assert found.repeated == pytest.approx((1 + 2) / 28)
    assert found.short == pytest.approx(8 / 12)
    assert found.score_right == pytest.approx((0.3 + 0.6 + 0.7) / 3)
    assert found.score_wrong == pytest.approx((0.9 + 0.8 + 0.1 + 0.65 + 0.2 + 1.6) / 9)
    # In a the right one wins 1 of 3 pairs; in b .6 wins 1 and .7 wins 2 of 2 each.
    assert found.auroc == pytest.approx((1 + 3) / (3 + 4))
    assert (found.accuracy, found.coverage, found.gap) == pytest.approx((1 / 3, 2 / 3, 1 / 3))


def test_another_selection_and_aggregation() -> None:
    (found,) = diagnose(pools(A, B, C), selection="best_of_n", aggregation="min")
    # The least score of a step: a .5 .5 .3 .1, so wrong; b .6 .5 .5 .2, so right.
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.score_right == pytest.approx((0.3 + 0.6 + 0.5) / 3)


def test_independent_samples_give_a_line_a_budget() -> None:
    found = diagnose(pools(A, B, C, independent=True), selection="majority")
    assert [line.budget for line in found] == [1, 2, 4]
    assert len({(line.steps, line.repeated, line.auroc) for line in found}) == 1
    assert found[0].gap == pytest.approx(0) and found[-1].gap > found[1].gap > 0


def test_without_scores_the_majority_is_selected() -> None:
    unscored = pools(pool("a", ("q7", None), ("q7", None), ("q3", None)))
    (found,) = diagnose(unscored)
    assert (found.accuracy, found.score_right, found.score_wrong, found.auroc) == (1, None, None, None)
    assert diagnose(unscored, selection="best_of_n") == []


def test_unknown_tokens_and_missing_kinds() -> None:
    unknown = replace(C, candidates=tuple(replace(candidate, tokens=None) for candidate in C.candidates))
    (found,) = diagnose(pools(unknown), level=2)
    assert (found.tokens, found.score_right, found.auroc, found.level) == (None, None, None, 2)


@pytest.mark.parametrize(
    ("steps", "repeats"), [([], 0), (["a"], 0), (["a\n", "b\n", " a"], 1), (["a", "a", "a"], 2), (["a", "A"], 0)]
)
def test_repeated_steps(steps: list[str], repeats: int) -> None:
    assert repeated_steps(steps) == repeats


@given(st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=6), st.randoms())
def test_the_order_of_solutions_does_not_matter(texts: list[str], random: object) -> None:
    solutions = [(text, len(text) / 10) for text in texts]
    shuffled = list(solutions)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    (one,), (other,) = (diagnose(pools(pool("a", *order, gold="a"))) for order in (solutions, shuffled))
    names = ("steps", "repeated", "short", "score_right", "score_wrong", "auroc", "accuracy", "coverage")
    assert [getattr(one, name) for name in names] == pytest.approx([getattr(other, name) for name in names])
