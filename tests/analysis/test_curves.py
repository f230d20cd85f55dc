"""Curves: which runs are one strategy, what they cost, and on which problems they can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tts_eval.analysis import Pool, PoolSet
from tts_eval.analysis.curves import align, curves_of
from tts_eval.types import Candidate, Usage


def run(
    parameters: Mapping[str, Any], budget: int, right: int, uids: str = "ab", generations: int | None = None
) -> PoolSet:
    """Of each problem so many right candidates come first, with equal scores."""
    candidate = Candidate("", "1", ("",), (0.5,), None, None, 1, "eos", 0, 0)
    classes = np.array([0] * right + [1] * (budget - right))
    usage = Usage(generations=generations)
    pools = tuple(Pool(uid, 0, None, (candidate,) * budget, classes, classes == 0, usage) for uid in uids)
    name = parameters["name"]
    return PoolSet("toy", str(name), budget, name == "best-of-n", pools, parameters)


BEAM, DVTS = {"name": "beam", "width": 4}, {"name": "dvts", "width": 4}


def test_runs_of_one_strategy_are_one_curve_and_equal_parameters_don_t_make_one() -> None:
    sets = [run(BEAM, 4, 4, generations=4), run(DVTS, 4, 0, generations=4), run(BEAM, 2, 0, generations=2)]
    curves, notes = curves_of(sets, measure="best_of_n_weighted")
    assert [(curve.name, curve.costs, curve.values.tolist()) for curve in curves] == [
        ("beam", (2.0, 4.0), [[0.0, 1.0]] * 2),
        ("dvts", (4.0,), [[0.0]] * 2),
    ]
    assert notes == []


def test_names_tell_what_differs_and_costs_are_generations() -> None:
    wide = {"name": "lookahead", "width": "sqrt", "lookahead": 1}
    sets = [run(wide, 4, 4, generations=8), run({**wide, "lookahead": 3}, 4, 4), run(BEAM, 4, 4)]
    curves, _ = curves_of(sets, measure="majority")
    assert [(curve.name, curve.costs) for curve in curves] == [
        ("lookahead (lookahead=1)", (8.0,)),
        ("lookahead (lookahead=3)", (16.0,)),  # a journal that doesn't tell: what its N solutions take
        ("beam", (4.0,)),
    ]


def test_of_independent_samples_the_largest_run_tells_every_budget() -> None:
    sets = [run({"name": "best-of-n"}, budget, budget) for budget in (2, 8)]
    (curve,), _ = curves_of(sets, measure="majority")
    assert (curve.budgets, curve.costs) == ((1, 2, 4, 8), (1.0, 2.0, 4.0, 8.0))
    assert [curve.place(cost) for cost in (0.5, 1, 7.9, 8, 100)] == [None, 0, 2, 3, 3]


def test_independent_samples_speak_for_the_budgets_of_the_searches() -> None:
    sets = [run({"name": "best-of-n"}, 16, 16), run(BEAM, 12, 12), run(DVTS, 24, 24)]
    samples, *_ = curves_of(sets, measure="majority")[0]
    assert samples.budgets == (1, 2, 4, 8, 12, 16)


def test_what_has_no_scores_or_no_problem_in_common_is_left_out_with_a_note() -> None:
    sets = [run(BEAM, 2, 2, "ab"), run(BEAM, 4, 4, "cd"), run(DVTS, 4, 4)]
    curves, notes = curves_of(sets, measure="majority")
    assert [curve.name for curve in curves] == ["dvts"]
    assert notes == ["beam: left out, its runs have no problem in common or lack scores for majority"]


def test_aligned_curves_have_the_same_problems_in_one_order() -> None:
    curves, _ = curves_of([run(BEAM, 4, 4, "abc"), run(DVTS, 4, 0, "ca")], measure="majority")
    aligned, missing = align(curves)
    assert [curve.uids for curve in aligned] == [("a", "c")] * 2 and missing == 1
    assert aligned[0].values == pytest.approx(np.ones((2, 1)))
    assert align([]) == ([], 0)
