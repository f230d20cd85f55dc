"""The figures of Snell et al. 2024, numbered as there, from a study of the user's own runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tts_eval.analysis.accuracy import wilson_interval
from tts_eval.analysis.approaches import Approach
from tts_eval.analysis.chain_shapes import ShapeRow
from tts_eval.analysis.compute_optimal import PolicyRow
from tts_eval.analysis.difficulty import Kind
from tts_eval.analysis.exchange import Exchange
from tts_eval.analysis.roles import scored
from tts_eval.analysis.study import THIRDS, StrategyRow, Study
from tts_eval.report.canvas import Panel, Point
from tts_eval.report.captions import caption_of, missing_command
from tts_eval.report.chain_figures import attempts_panels, ends_panels, ratios_panels
from tts_eval.report.charts import Chart, Missing


GENERATIONS = "generations a problem"

CHARGED = "predicted, 4 probes charged"
"""The one policy that pays for its prediction which the figures show; the tables have them all."""


def charts_of(study: Study) -> tuple[list[Chart], list[Missing]]:
    """Every figure of the paper that holds data, by number, and those for which the runs have none."""
    charts: list[Chart] = []
    missing: list[Missing] = []
    for number, title, make in _FIGURES:
        found = make(study)
        charts += [
            Chart(number + letter, title, caption_of(study, number), **parts)
            for letter, parts in zip("abcdefgh" if len(found) > 1 else ("",), found, strict=False)
        ]
        if not found:
            missing.append(Missing(number, title, missing_command(study, number)))
    return charts, missing


def _figure_1(study: Study) -> list[dict[str, Any]]:
    panels = [(approach.name, _headline_lines(study, approach)) for approach in study.approaches]
    parts: list[dict[str, Any]] = [{"panels": panels, "x": GENERATIONS}]
    gains = [(name, _gains(rows)) for name, rows in _exchanges(study, "oracle")]
    bars = [(name, of_thirds) for name, of_thirds in gains if of_thirds]
    if bars:
        ticks = [f"R = {ratio:g}" for ratio in study.settings.ratios]
        parts.append({"panels": bars, "x": "R", "y": "relative gain", "ticks": ticks})
    return parts


def _figure_3(study: Study) -> list[dict[str, Any]]:
    search = study.approaches[0]
    if len(search.curves) < 2:
        return []
    rows = [row for row in study.strategies if row.approach == "search"]
    names = [curve.name for curve in search.curves]
    whole = {name: _points(row for row in rows if row.strategy == name and row.level is None) for name in names}
    bins = list(dict.fromkeys(row.level for row in rows if row.level is not None))
    panels = []
    budgets = [0, *search.options]
    for less, budget in [(less, budget) for less, budget in itertools.pairwise(budgets) if budget > 1][-4:]:
        lines = {}
        for curve in search.curves:
            place = curve.place(budget)
            if place is not None and curve.costs[place] > less:  # else it is in the panel before
                lines[curve.name] = [
                    (bins.index(row.level), row.accuracy, row.low, row.high)
                    for row in rows
                    if row.level and row.strategy == curve.name and row.cost == curve.costs[place]
                ]
        panels.append((f"up to {budget} {GENERATIONS}", lines))
    return [
        {"panels": [("all problems", whole)], "x": GENERATIONS},
        {"panels": panels, "x": "oracle bin", "ticks": bins},
    ]


def _figure_4(study: Study) -> list[dict[str, Any]]:
    search = study.approaches[0]
    if len(search.curves) < 2:
        return []
    return [{"panels": [("search", _headline_lines(study, search, everything=True))], "x": GENERATIONS}]


def _figure_6(study: Study) -> list[dict[str, Any]]:
    if not study.attempts:
        return []
    return [
        {"panels": attempts_panels(study.attempts), "x": "attempt", "y": "pass@1"},
        {"panels": ends_panels(study.shapes), "x": "generations a problem (N)"},
    ]


def _ratios(selection: str) -> Callable[[Study], list[dict[str, Any]]]:
    def make(study: Study) -> list[dict[str, Any]]:
        panels = ratios_panels([row for row in study.shapes if row.selection == selection])
        return [{"panels": panels, "x": "attempts in a chain / chains"}] if panels else []

    return make


def _figure_8(study: Study) -> list[dict[str, Any]]:
    return [
        {"panels": [("revisions", _headline_lines(study, approach, everything=True))], "x": GENERATIONS}
        for approach in study.approaches
        if approach.name == "revisions"
    ]


def _matched(kind: Kind, names: Sequence[str]) -> Callable[[Study], list[dict[str, Any]]]:
    """Curves by bin over generations, and the larger model at the budgets that match it."""

    def make(study: Study) -> list[dict[str, Any]]:
        panels: list[Panel] = []
        stars: dict[str, str] = {}
        for name, rows in _exchanges(study, kind):
            approach = next(one for one in study.approaches if one.name == name)
            if name in names:
                lines = _by_bin(study, approach, kind)
                for level in list(lines):
                    star = f"larger model, {level}"
                    of_bin = [row for row in rows if row.level == level]
                    lines[star] = [(row.budget, row.larger, *wilson_interval(row.larger, row.n)) for row in of_bin]
                    stars[star] = level
                panels.append((f"{name}, {kind} bins; stars: the larger model", lines))
        what = "inference FLOPs, in generations of the small model a problem"
        return [{"panels": panels, "x": what, "stars": stars}] if panels else []

    return make


def _figure_13(study: Study) -> list[dict[str, Any]]:
    lines: dict[str, list[Point]] = {}
    for row in study.aggregations:
        lines.setdefault(str(row.aggregation), []).append((row.budget, row.accuracy, row.low, row.high))
    return [{"panels": [("best-of-N weighted", lines)], "x": GENERATIONS}] if len(lines) > 1 else []


def _figure_14(study: Study) -> list[dict[str, Any]]:
    search = study.approaches[0]
    orm = "ORM, best-of-N weighted"
    if orm not in search.beside or scored(study.roles.base) != "process":
        return []
    rows = [row for row in study.strategies if row.approach == "search" and row.level is None]
    names = {search.baseline.name: "PRM, best-of-N weighted", orm: orm, "majority": "majority"}
    lines = {shown: _points(row for row in rows if row.strategy == name) for name, shown in names.items()}
    return [{"panels": [("independent samples", lines)], "x": GENERATIONS}]


def _figure_15(study: Study) -> list[dict[str, Any]]:
    """The longest chains that both verifiers read."""
    if not study.without_history:
        return []
    both = {"with history": study.shapes, "without history": study.without_history}
    shared = set.intersection(*({(row.length, row.chains) for row in rows} for rows in both.values()))
    lengths = [length for length, chains in shared if chains > 1 or length > 1]
    if not lengths:
        return []
    longest = max(lengths)
    lines = {
        f"verifier {name}, chains of {longest}": _points(
            row
            for row in rows
            if row.level is None and row.selection == "hierarchical" and row.length == longest
            and (row.length, row.chains) in shared
        )
        for name, rows in both.items()
    }
    return [{"panels": [("revisions", lines)], "x": GENERATIONS}]


_FIGURES: Sequence[tuple[str, str, Callable[[Study], list[dict[str, Any]]]]] = (
    ("1", "Compute-optimal test-time compute, and what it gains over a larger model", _figure_1),
    ("3", "Search against a verifier", _figure_3),
    ("4", "Compute-optimal search", _figure_4),
    ("6", "Revisions attempt by attempt, and sequential against parallel", _figure_6),
    ("7", "Sequential to parallel, selected by the verifier", _ratios("hierarchical")),
    ("8", "Compute-optimal revisions", _figure_8),
    ("9", "Test-time against pretraining compute at equal FLOPs", _matched("oracle", ("revisions", "search"))),
    ("10", "Sequential to parallel, selected by majority", _ratios("majority")),
    ("11", "At equal FLOPs, revisions, predicted bins", _matched("predicted", ("revisions",))),
    ("12", "At equal FLOPs, search, predicted bins", _matched("predicted", ("search",))),
    ("13", "From step scores to a solution's score", _figure_13),
    ("14", "Process against outcome verifier", _figure_14),
    ("15", "Verifier with and without earlier attempts", _figure_15),
)


def _headline_lines(study: Study, approach: Approach, everything: bool = False) -> dict[str, list[Point]]:
    rows = [row for row in study.strategies if row.approach == approach.name and row.level is None]
    lines = {
        f"compute-optimal ({policy})": _points(
            row
            for row in study.policies
            if row.approach == approach.name and row.policy == policy and row.level is None
        )
        for policy in ("oracle", "predicted", *((CHARGED,) if everything else ()))
        if (approach.name, policy) in study.curves
    }
    baseline = {"best_of_n_weighted": "best-of-N weighted", "hierarchical": "parallel, weighted"}
    lines[baseline.get(approach.selection, approach.selection)] = _points(
        row for row in rows if row.strategy == approach.baseline.name
    )
    for name in approach.beside:
        if "coverage" not in name and (everything or "majority" in name) and "best score" not in name:
            lines[name] = _points(row for row in rows if row.strategy == name)
    return lines


def _by_bin(study: Study, approach: Approach, kind: Kind) -> dict[str, list[Point]]:
    """The policy's held-out accuracy in each bin of that kind."""
    curve = study.curves[approach.name, kind]
    bins = [study.bins[kind][uid] for uid in approach.uids]
    found: dict[str, list[Point]] = {}
    for number in sorted(set(bins)):
        members = [place for place, of_problem in enumerate(bins) if of_problem == number]
        means = curve.values[members].mean(axis=0)
        places = zip(approach.options, means, strict=True)
        found[f"bin {number}"] = [(budget, p, *wilson_interval(float(p), len(members))) for budget, p in places]
    return found


def _exchanges(study: Study, kind: str) -> list[tuple[str, list[Exchange]]]:
    names = {approach.name: f"{approach.name}, compute-optimal ({kind})" for approach in study.approaches}
    found = {name: [row for row in study.exchanges if row.strategy == shown] for name, shown in names.items()}
    return [(name, rows) for name, rows in found.items() if rows]


def _gains(rows: Sequence[Exchange]) -> dict[str, list[Point]]:
    """Relative gains by third and R; a gain over nothing isn't known."""
    gains: dict[str, list[Point]] = {
        third: [
            (place, row.gain, row.gain_low, row.gain_high)
            for place, row in enumerate(row for row in rows if row.level == third)
            if row.gain is not None and row.gain_low is not None and row.gain_high is not None
        ]
        for third in THIRDS
    }
    return {third: points for third, points in gains.items() if points}


def _points(rows: Iterable[StrategyRow | PolicyRow | ShapeRow]) -> list[Point]:
    """Accuracies over what they cost; a policy and a strategy have a cost, a shape its N."""
    return sorted(
        (row.budget if isinstance(row, ShapeRow) else row.cost, row.accuracy, row.low, row.high) for row in rows
    )
