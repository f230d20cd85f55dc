"""Proxy and gold of best-of-N, on pools small enough to enumerate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.analysis import Pool, PoolSet
from tts_eval.analysis.accuracy import values_by_problem
from tts_eval.analysis.hacking import hacking_rows, hacking_threshold
from tts_eval.analysis.resampling import bootstrap_mean
from tts_eval.selection import as_classes
from tts_eval.types import Candidate


def pool(uid: str, *solutions: tuple[str, float | None], seed: int = 0) -> Pool:
    """Answers (`-` none; `7` is right) with their scores."""
    candidates = tuple(
        Candidate(
            text=answer,
            answer=None if answer == "-" else answer,
            steps=("s",),
            step_scores=None if score is None else (score,),
            outcome_score=None,
            logprob=None,
            tokens=1,
            finish="eos",
            chain=index,
            attempt=0,
        )
        for index, (answer, score) in enumerate(solutions)
    )
    groups = [None if answer == "-" else "3579".index(answer) for answer, _ in solutions]
    return Pool(uid, seed, None, candidates, as_classes(groups), np.array([answer == "7" for answer, _ in solutions]))


def samples(*of: Pool) -> PoolSet:
    return PoolSet("toy", "best-of-n", 4, True, of)


# Three right of four; the highest score is a wrong one's.
HACKED = [pool(f"p{i}", ("7", 0.3), ("7", 0.4), ("7", 0.5), ("3", 0.9)) for i in range(6)]
TRUSTED = [pool(f"p{i}", ("7", 0.9), ("3", 0.4), ("3", 0.5), ("3", 0.3)) for i in range(6)]


def test_a_fooled_verifier_by_hand() -> None:
    one, two, four = hacking_rows([samples(*HACKED)])
    assert (one.budget, two.budget, four.budget, one.best, one.n) == (1, 2, 4, 1, 6)
    assert [row.accuracy for row in (one, two, four)] == pytest.approx([3 / 4, 3 / 6, 0])
    # Of the six pairs three hold .9; the others have .5 twice and .4 once.
    assert [row.proxy for row in (one, two, four)] == pytest.approx([2.1 / 4, (3 * 0.9 + 2 * 0.5 + 0.4) / 6, 0.9])
    assert (four.change, four.change_high) == pytest.approx((-3 / 4, -3 / 4))
    assert (four.proxy_change, four.proxy_change_low) == pytest.approx((0.375, 0.375))
    assert hacking_threshold([one, two, four]) == 1


def test_a_verifier_that_is_right_has_no_threshold() -> None:
    rows = hacking_rows([samples(*TRUSTED)])
    assert rows[0].best == 4 and rows[-1].accuracy == 1
    assert hacking_threshold(rows) is None


def test_a_fall_within_the_noise_is_no_threshold() -> None:
    mixed = [*HACKED[:2], *TRUSTED[4:], pool("q", ("7", 0.5), ("7", 0.5), ("7", 0.6), ("3", 0.6))]
    rows = hacking_rows([samples(*mixed)])
    assert min(row.change for row in rows) < 0 and rows[-1].proxy_change > 0
    assert hacking_threshold(rows) is None


def test_the_best_budget_is_picked_after_the_fact() -> None:
    # A verifier that knows nothing: the best of the budgets is so by chance, and looks better than it is.
    rng = np.random.default_rng(0)
    draws = [zip(rng.choice(list("3579"), 16).tolist(), rng.random(16).tolist()) for _ in range(40)]
    pools = samples(*[pool(f"p{i}", *of) for i, of in enumerate(draws)])
    rows = hacking_rows([pools])
    right = values_by_problem(
        pools, measure="best_of_n", aggregation="last", budgets=[1, 2, 4, 8, 16], resamples=1000, seed=0
    )
    values = np.array(list(right.values()))
    for row, column in zip(rows, values.T, strict=True):
        plain = bootstrap_mean(column - values[:, values.mean(axis=0).argmax()])
        assert row.change == pytest.approx(plain.value)
        if row.budget != row.best:
            assert row.change_high - row.change_low > 1.1 * (plain.high - plain.low)
    assert hacking_threshold(rows) is None


def test_a_joint_search_at_several_budgets() -> None:
    small = PoolSet("toy", "beam", 2, False, tuple(pool(f"p{i}", ("7", 0.3), ("3", 0.2)) for i in range(7)))
    large = PoolSet("toy", "beam", 4, False, tuple(pool(f"p{i}", ("7", 0.3), *[("3", 0.8)] * 3) for i in range(6)))
    rows = hacking_rows([large, small], level="bin 1")
    assert [(row.budget, row.accuracy, row.proxy, row.n, row.level) for row in rows] == [
        (2, 1.0, pytest.approx(0.3), 6, "bin 1"),
        (4, 0.0, pytest.approx(0.8), 6, "bin 1"),
    ]
    assert hacking_threshold(rows) == 2


def test_solutions_without_an_answer_or_a_score() -> None:
    # An unparsable solution with the highest score never wins; one problem has no answer at all, so no proxy.
    rows = hacking_rows([samples(pool("a", ("7", 0.2), ("-", 0.9)), pool("b", ("-", 0.5), ("-", None)))])
    assert [(row.budget, row.proxy, row.n) for row in rows] == [(1, pytest.approx(0.2), 2), (2, pytest.approx(0.2), 2)]
    assert [row.accuracy for row in rows] == pytest.approx([0.25, 0.5])
    assert hacking_rows([samples(pool("a", ("7", None), ("3", None)))]) == []
    assert hacking_rows([samples(pool("a", ("-", 0.5)))]) == []


def test_seeds_are_averaged() -> None:
    (row,) = hacking_rows([samples(pool("a", ("7", 0.2)), pool("a", ("3", 0.6), seed=1))])
    assert (row.proxy, row.accuracy, row.n) == (pytest.approx(0.4), 0.5, 1)


@given(st.lists(st.tuples(st.sampled_from("357-"), st.integers(0, 4)), min_size=1, max_size=6))
def test_the_proxy_is_the_mean_over_all_subsets(solutions: list[tuple[str, int]]) -> None:
    rows = hacking_rows([samples(pool("a", *[(answer, score / 4) for answer, score in solutions]))])
    assert len(rows) > 0 or all(answer == "-" for answer, _ in solutions)
    for row in rows:
        tops = [
            max(score / 4 for answer, score in subset if answer != "-")
            for subset in itertools.combinations(solutions, row.budget)
            if any(answer != "-" for answer, _ in subset)
        ]
        assert row.proxy == pytest.approx(np.mean(tops))
