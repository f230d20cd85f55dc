"""Measures everything that the runs of one task tell, without a model: fills a `tts_eval.analysis.study.Study`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tts_eval.analysis.accuracy import accuracy_rows, wilson_interval
from tts_eval.analysis.approaches import Approach, restrict, revision_approach, search_approach
from tts_eval.analysis.chain_attempts import attempt_rows, attempt_values
from tts_eval.analysis.chain_shapes import ShapeValues, shape_rows
from tts_eval.analysis.chains import measures_of, shape_values, shapes_of
from tts_eval.analysis.charged import probe
from tts_eval.analysis.compute_optimal import PolicyCurve, charged_curve, policy_curve, policy_rows
from tts_eval.analysis.costs import run_costs
from tts_eval.analysis.coverage_law import coverage_law, selection_gap
from tts_eval.analysis.difficulty import KINDS, Kind, bins_of, mean_scores, quantile_thresholds, stability
from tts_eval.analysis.exchange import WITHIN, exchange, total_flops, worth_it_from
from tts_eval.analysis.hacking import hacking_rows
from tts_eval.analysis.larger import PlainRun
from tts_eval.analysis.paired import detectable_difference, mcnemar
from tts_eval.analysis.pools import PoolSet
from tts_eval.analysis.resampling import bootstrap_mean
from tts_eval.analysis.roles import Revisions, Roles, model_name, scored
from tts_eval.analysis.study import THIRDS, Duel, Settings, StrategyRow, Study
from tts_eval.selection import AGGREGATIONS, SELECTIONS, Floats, Integers
from tts_eval.types import TtsEvalError


def make_study(
    roles: Roles, settings: Settings, larger: PlainRun | None = None, difficulty: PoolSet | None = None
) -> Study:
    """Measures everything that the runs tell.

    Args:
        roles: See `tts_eval.analysis.roles`.
        settings: How.
        larger: The larger model's run of the same task, or None.
        difficulty: Independent samples of the base model by which bins are cut; None takes those of the runs.

    Raises:
        TtsEvalError: If runs have no problem in common, or not those of the larger model's.
    """
    study = Study(roles, settings, difficulty or roles.base, larger=larger, notes=list(roles.notes))
    study.costs = run_costs(roles, settings.shapes, settings.accounting)
    _gather(study)
    _difficulty(study)
    for approach in study.approaches:
        bins = _array(study.bins["oracle"], approach)
        study.strategies += _strategy_rows(approach, bins, settings)
        _policies(study, approach)
        if larger is not None and settings.times is not None:
            _exchanges(study, approach, larger, settings.times)
    _totals(study)
    _verifiers(study)
    if roles.revisions is not None:
        _revisions(study, roles.revisions)
    return study


def _gather(study: Study) -> None:
    """The approaches, on the problems that the base model's samples and the larger model's run have, too."""
    roles, settings = study.roles, study.settings
    how: dict[str, Any] = {
        "aggregation": settings.aggregation,
        "resamples": settings.subsets,
        "seed": settings.seed,
    }
    found = [search_approach(roles, **how)]
    if roles.revisions is not None:
        revisions = revision_approach(roles.revisions.family, **how)
        if revisions is None:
            study.notes.append("revisions: no run of several chains of several attempts, so there is nothing to choose")
        else:
            found.append(revisions)
    known = {pool.uid for pool in roles.base.pools} & {pool.uid for pool in study.difficulty.pools}
    if study.larger is not None:
        known &= set(study.larger.correct)
    for approach in found:
        study.notes += approach.notes
        uids = [uid for uid in approach.uids if uid in known]
        if not uids:
            raise TtsEvalError(
                f"{roles.task}: no problem of the {approach.name} runs is in the base model's samples and in the "
                "larger model's run; run them on the same problems"
            )
        if len(uids) < len(approach.uids):
            without = f"{len(approach.uids) - len(uids)} problems without difficulty or the larger model's answer"
            study.notes.append(f"{approach.name}: {without} are left out")
        study.approaches.append(approach if len(uids) == len(approach.uids) else restrict(approach, uids))


def _difficulty(study: Study) -> None:
    samples, settings = study.difficulty, study.settings
    for kind in KINDS:
        found = bins_of(kind, samples, aggregation=settings.aggregation)
        if not found:
            study.notes.append(f"difficulty by {kind}: not known, {_LACKING[kind]}")
            continue
        study.bins[kind] = found
        stable = stability(kind, samples, aggregation=settings.aggregation, seed=settings.seed)
        study.stability += [] if stable is None else [stable]
    if "predicted" in study.bins:
        oracle, predicted = study.bins["oracle"], study.bins["predicted"]
        study.thresholds = quantile_thresholds(mean_scores(samples, settings.aggregation))
        study.agreement = float(np.mean([predicted[uid] == oracle[uid] for uid in oracle]))


_KNOWN: tuple[Kind, ...] = ("oracle", "predicted")
"""The paper's two kinds of difficulty."""

_LACKING: dict[Kind, str] = {
    "oracle": "the base model's samples aren't graded",
    "predicted": "the base model's samples have no verifier scores",
    "absolute": "the base model's samples aren't graded",
    "level": "the problems have no level",
}


def _array(bins: Mapping[str, int], approach: Approach) -> Integers:
    return np.array([bins[uid] for uid in approach.uids])


def _parts(bins: Integers) -> list[tuple[Any, Integers]]:
    """All problems, and those of each bin."""
    numbers = sorted(set(bins.tolist()))
    return [(None, np.arange(len(bins))), *((f"bin {number}", np.flatnonzero(bins == number)) for number in numbers)]


def _strategy_rows(approach: Approach, bins: Integers, settings: Settings) -> list[StrategyRow]:
    rows, most = [], approach.baseline.costs[-1] * WITHIN
    named = [(curve.name, curve) for curve in approach.curves] + list(approach.beside.items())
    for name, curve in named:
        for level, members in _parts(bins):
            for column, (budget, cost) in enumerate(zip(curve.budgets, curve.costs, strict=True)):
                values = curve.values[members, column]
                accuracy, n = float(values.mean()), len(values)
                about = approach.name, name, level, budget, cost, accuracy, *wilson_interval(accuracy, n)
                if cost > most:
                    rows.append(StrategyRow(*about, None, None, None, None, n))
                    continue
                less = values - approach.baseline_at(cost)[members]
                gain = bootstrap_mean(less, resamples=settings.resamples, seed=settings.seed)
                ends = gain.value, gain.low, gain.high, detectable_difference(less)
                rows.append(StrategyRow(*about, *ends, n))
    return rows


def _policies(study: Study, approach: Approach) -> None:
    """Every kind of difficulty, and predictions that are paid for."""
    settings = study.settings
    draws: dict[str, int] = {"splits": settings.splits, "seed": settings.seed}
    oracle = _array(study.bins["oracle"], approach)
    for kind, of_kind in study.bins.items():
        if not all(uid in of_kind for uid in approach.uids):
            study.notes.append(f"{approach.name}: no policy by {kind}, not all problems have one")
            continue
        bins = _array(of_kind, approach)
        curve, choices = policy_curve(approach, kind, bins, **draws)
        study.choices += choices
        _add_policy(study, approach, curve, oracle, bins)
    if approach.name == "search" and study.thresholds:
        for curve in _charged_curves(study, approach):
            _add_policy(study, approach, curve, oracle, None)


def _charged_curves(study: Study, approach: Approach) -> list[PolicyCurve]:
    settings, budgets = study.settings, list(approach.options)
    probes = [k for k in settings.probes if k <= max(budgets)]
    if not probes:
        wanted = ", ".join(map(str, settings.probes))
        study.notes.append(f"search: no policy pays for {wanted} probes, the largest budget is {max(budgets)}")
        return []
    how: dict[str, Any] = {"aggregation": settings.aggregation, "seed": settings.seed}
    selection = next(name for name in SELECTIONS if name == approach.selection)
    probed = probe(study.roles.base, approach.uids, budgets, most=max(probes), selection=selection, **how)
    if probed is None:
        return []
    bins, draws = _array(study.bins["predicted"], approach), {"splits": settings.splits, "seed": settings.seed}
    return [charged_curve(approach, probed, bins, study.thresholds, probes=k, **draws) for k in probes]


def _add_policy(
    study: Study, approach: Approach, curve: PolicyCurve, oracle: Integers, bins: Integers | None
) -> None:
    study.curves[approach.name, curve.policy] = curve
    draws = {"resamples": study.settings.resamples, "seed": study.settings.seed}
    for level, members in _parts(oracle):
        flattered = bins if level is None else None
        study.policies += policy_rows(approach, curve, flattered, level=level, members=members, **draws)


def _exchanges(study: Study, approach: Approach, larger: PlainRun, times: float) -> None:
    settings = study.settings
    goal = np.array([larger.correct[uid] for uid in approach.uids])
    study.duels += _duels(approach, goal)
    for kind in _KNOWN:
        if (approach.name, kind) not in study.curves:
            continue
        values, costs = study.curves[approach.name, kind].values, [float(budget) for budget in approach.options]
        bins = _array(study.bins[kind], approach)
        thirds = [(name, np.flatnonzero(np.isin(bins, of))) for name, of in THIRDS.items()]
        for level, members in [*_parts(bins), *thirds]:
            if not len(members):
                continue
            name = f"{approach.name}, compute-optimal ({kind})"
            what = name, values[members], costs, goal[members]
            how: dict[str, Any] = {"times": times, "accounting": settings.accounting, "level": level}
            draws = {"ratios": settings.ratios, "resamples": settings.resamples, "seed": settings.seed}
            study.exchanges += exchange(*what, **(how | draws))
            study.worth.append(worth_it_from(*what, **how))


def _duels(approach: Approach, goal: Floats) -> list[Duel]:
    """Runs in which each problem is solved or not: those of one seed that aren't means over subsets."""
    rows = []
    for curve in approach.curves:
        for budget, values in zip(curve.budgets, curve.values.T, strict=True):
            if curve is not approach.baseline and np.isin(values, (0, 1)).all() and np.isin(goal, (0, 1)).all():
                found = mcnemar(values == 1, goal == 1)
                rows.append(Duel(curve.name, budget, found.one_only, found.other_only, found.p_value, len(values)))
    return rows


def _totals(study: Study) -> None:
    settings = study.settings
    shape = settings.shapes.get(model_name(study.roles.base.model))
    if settings.pretraining_tokens is None or settings.times is None:
        return
    if shape is None:
        study.notes.append("total FLOPs: left out, the base's number of parameters isn't known")
        return
    how: dict[str, Any] = {"times": settings.times, "ratios": settings.ratios, "accounting": settings.accounting}
    study.totals = total_flops(shape.parameters, settings.pretraining_tokens, **how)


def _verifiers(study: Study) -> None:
    """What the base model's samples say of the verifier."""
    base, settings = study.roles.base, study.settings
    draws = {"resamples": settings.resamples, "seed": settings.seed}
    search = study.approaches[0]
    coverage = search.beside.get("coverage (pass@N)")
    if coverage is not None and len(coverage.costs) > 2:
        study.coverage = coverage_law(coverage.values, coverage.budgets, seed=settings.seed)
        places = [search.baseline.budgets.index(budget) for budget in coverage.budgets]
        study.gaps = selection_gap(coverage.values, search.baseline.values[:, places], coverage.budgets, **draws)
    if scored(base) is None:
        return
    how: dict[str, Any] = {"resamples": settings.subsets, "seed": settings.seed}
    study.hacking = hacking_rows([base], aggregation=settings.aggregation, **how)
    if scored(base) == "process":
        study.aggregations = accuracy_rows(base, measures=("best_of_n_weighted",), aggregations=AGGREGATIONS, **how)


def _revisions(study: Study, revisions: Revisions) -> None:
    draws = {"resamples": study.settings.resamples, "seed": study.settings.seed}
    family, oracle = revisions.family, study.bins["oracle"]
    attempts, values = attempt_values(family), _shape_values(study, revisions)
    places = [(number, uid) for number, uid in enumerate(family.uids) if uid in oracle]
    bins = np.array([oracle[uid] for _, uid in places])
    rows = np.array([number for number, _ in places])
    study.attempts += attempt_rows(attempts, **draws)
    study.shapes += shape_rows(values, **draws)
    for level, members in _parts(bins)[1:]:
        study.attempts += attempt_rows(attempts.part(level, rows[members]), **draws)
        study.shapes += shape_rows(values.part(level, rows[members]), **draws)
    if study.roles.without_history is not None:
        study.without_history += shape_rows(_shape_values(study, study.roles.without_history), **draws)


def _shape_values(study: Study, revisions: Revisions) -> ShapeValues:
    family, settings = revisions.family, study.settings
    shapes, measures = shapes_of(family), measures_of(family, ("hierarchical", "majority"))
    how: dict[str, Any] = {"resamples": settings.subsets, "seed": settings.seed, "aggregation": settings.aggregation}
    values: Floats = shape_values(family, shapes, measures, **how)
    return ShapeValues(family, None, shapes, measures, values)
