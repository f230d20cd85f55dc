"""The paper's two ways to spend test-time compute, each with a baseline and what may be chosen at every budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tts_eval.analysis.accuracy import Measure
from tts_eval.analysis.chains import ChainMeasure, Family, Shape, measures_of, shape_values, shapes_of
from tts_eval.analysis.curves import Curve, align, at_budget, curves_of
from tts_eval.analysis.policies import Option, options_at
from tts_eval.analysis.roles import Roles, scored
from tts_eval.selection import Aggregation, Floats
from tts_eval.types import TtsEvalError


ApproachName = Literal["search", "revisions"]


@dataclass(frozen=True)
class Approach:
    """Search against a verifier (section 3), or revisions (section 4).

    Attributes:
        name: Which of them.
        uids: The problems, those that everything here has.
        selection: How an answer is selected.
        baseline: Independent samples with that selection, at every budget that they tell of.
        curves: Every strategy at the budgets that were run, the baseline among them.
        beside: The same samples selected in other ways, and what frames them, by name.
        options: By budget what may be chosen.
        notes: What was left out.
    """

    name: ApproachName
    uids: tuple[str, ...]
    selection: str
    baseline: Curve
    curves: tuple[Curve, ...]
    beside: Mapping[str, Curve]
    options: Mapping[int, Sequence[Option]]
    notes: tuple[str, ...]

    def baseline_at(self, budget: float) -> Floats:
        """Each problem's value under the baseline, [problems]; between two budgets see `curves.at_budget`."""
        return at_budget(self.baseline.values, self.baseline.costs, budget)[0]


def search_approach(
    roles: Roles, *, aggregation: Aggregation = "last", resamples: int = 200, seed: int = 0
) -> Approach:
    """Gathers the runs of the base model with its verifier.

    The budgets are the N of the step-wise runs for which there are as many independent samples; where there is no such
    run, 1, 2, 4 and so on. A strategy may be chosen at a budget with the largest of its runs that costs no more: a
    lookahead of k costs k + 1 generations a solution.

    Args:
        roles: See `tts_eval.analysis.roles`.
        aggregation: How step scores become one score.
        resamples: Subsets a problem and budget.
        seed: Of the subsets.
    """
    selection: Measure = "best_of_n_weighted" if scored(roles.base) else "majority"
    how: dict[str, Any] = {"aggregation": aggregation, "resamples": resamples, "seed": seed}
    curves, notes = curves_of(roles.search, measure=selection, **how)
    frames: dict[str, Measure] = {"majority": "majority", "coverage (pass@N)": "coverage"}
    if selection != "majority":
        frames["best score (best-of-N)"] = "best_of_n"
    beside = {name: curves_of([roles.base], measure=measure, **how)[0] for name, measure in frames.items()}
    if roles.outcome is not None:
        beside["ORM, best-of-N weighted"] = curves_of([roles.outcome], measure="best_of_n_weighted", **how)[0]
    named = {name: found[0] for name, found in beside.items() if found}
    aligned, missing = align([*curves, *named.values()])
    if not aligned or not aligned[0].uids:
        raise TtsEvalError(f"{roles.task}: no problem is in all runs; report some of the runs, not all of them")
    if missing:
        notes.append(f"search: {missing} problems that not all runs have are left out")
    curves, others = aligned[: len(curves)], aligned[len(curves) :]
    baseline = next(curve for curve in curves if curve.parameters == roles.base.parameters)
    joint = sorted({budget for curve in curves if curve is not baseline for budget in curve.budgets})
    most = baseline.budgets[-1]
    budgets = [budget for budget in joint if budget <= most] or baseline.budgets
    above = [budget for budget in joint if budget > most]
    if above:
        notes.append(
            f"search: of budgets above {most} ({', '.join(map(str, above))}) there are no independent samples: no "
            f"policy has them, their runs are compared with {most} samples; run tts-best-of-n with budget={above[-1]}"
        )
    # A policy doesn't choose a policy.
    fixed = [curve for curve in curves if curve.parameters.get("name") != "optimal"]
    options = {budget: options_at(fixed, budget) for budget in budgets}
    names = dict(zip(named, others, strict=True))
    return Approach("search", aligned[0].uids, selection, baseline, tuple(curves), names, options, tuple(notes))


def revision_approach(
    family: Family, *, aggregation: Aggregation = "last", resamples: int = 200, seed: int = 0
) -> Approach | None:
    """Gathers the shapes of a family of chains; the baseline is as many chains of one attempt.

    Args:
        family: See `tts_eval.analysis.chains`.
        aggregation: See `search_approach`.
        resamples: Subsets of the chains a problem and shape.
        seed: Of the subsets.

    Returns:
        None where nothing can be chosen: no run has both chains of several attempts and several chains.
    """
    measures = measures_of(family, ("hierarchical", "majority", "coverage"))
    selection: ChainMeasure = measures[0]
    shapes = shapes_of(family)
    budgets = sorted({shape.budget for shape in shapes if Shape(1, shape.budget) in shapes})
    shapes = [shape for shape in shapes if shape.budget in budgets]
    values = shape_values(family, shapes, measures, aggregation=aggregation, resamples=resamples, seed=seed)
    options = {
        budget: [_option(shape, values[:, place, 0]) for place, shape in enumerate(shapes) if shape.budget == budget]
        for budget in budgets
    }
    if not any(len(of_budget) > 1 for of_budget in options.values()):
        return None
    parallel = [shapes.index(Shape(1, budget)) for budget in budgets]
    costs = tuple(map(float, budgets))
    empty = Curve("parallel", {"name": "revise", "length": 1}, costs, tuple(budgets), family.uids, values)
    curves = {measure: replace(empty, values=values[:, parallel, place]) for place, measure in enumerate(measures)}
    names = {"majority": "parallel, majority", "coverage": "coverage of parallel attempts (pass@N)"}
    beside = {names[measure]: curve for measure, curve in curves.items() if measure in names and measure != selection}
    sequential = [shape for shape in shapes if shape.chains == 1]
    one_chain = replace(
        empty,
        name="sequential",
        parameters={"name": "revise", "chains": 1},
        costs=tuple(float(shape.budget) for shape in sequential),
        budgets=tuple(shape.budget for shape in sequential),
        values=values[:, [shapes.index(shape) for shape in sequential], 0],
    )
    return Approach(
        "revisions",
        family.uids,
        selection,
        curves[selection],
        (curves[selection], one_chain),
        beside,
        options,
        (),
    )


def _option(shape: Shape, values: Floats) -> Option:
    parameters = {"name": "revise", "chains": shape.chains, "length": shape.length}
    return Option(f"{shape.length} x {shape.chains}", parameters, float(shape.budget), values)


def restrict(approach: Approach, uids: Sequence[str]) -> Approach:
    """The same on fewer problems, in that order."""
    places = {uid: place for place, uid in enumerate(approach.uids)}
    rows = [places[uid] for uid in uids]
    options = {
        budget: [replace(option, values=option.values[rows]) for option in of_budget]
        for budget, of_budget in approach.options.items()
    }
    return replace(
        approach,
        uids=tuple(uids),
        baseline=approach.baseline.on(uids),
        curves=tuple(curve.on(uids) for curve in approach.curves),
        beside={name: curve.on(uids) for name, curve in approach.beside.items()},
        options=options,
    )
