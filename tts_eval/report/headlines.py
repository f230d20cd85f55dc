"""The paper's questions, answered for the user's own runs, whatever the answers are."""

from __future__ import annotations

from collections.abc import Sequence

from tts_eval.analysis.approaches import Approach
from tts_eval.analysis.compute_optimal import PolicyRow
from tts_eval.analysis.exchange import Exchange
from tts_eval.analysis.study import Study
from tts_eval.report.paper import CHARGED
from tts_eval.report.table import percent
from tts_eval.report.tables import efficiency_text


def headlines_of(study: Study) -> list[str]:
    """A sentence for each question that the runs can answer."""
    lines = []
    for approach in study.approaches:
        lines += _policies(study, approach)
    for approach in study.approaches:
        lines += _exchange(study, approach)
    return lines


def _policies(study: Study, approach: Approach) -> list[str]:
    """At the budget below the largest, where the baseline has room to catch up."""
    budgets = list(approach.options)
    if len(budgets) < 2 or all(len(options) < 2 for options in approach.options.values()):
        return []
    budget = budgets[-2]
    of_budget = [
        row for row in study.policies if row.approach == approach.name and row.budget == budget and row.level is None
    ]
    found = [row for row in of_budget if row.policy in ("oracle", "predicted", CHARGED)]
    if not found:
        return []
    return [
        f"{approach.name.capitalize()}: how much more efficient is compute-optimal than {_called(approach)}? At N = "
        f"{budget}: {'; '.join(map(_policy, found))}."
    ]


def _policy(row: PolicyRow) -> str:
    spent = "" if row.cost <= row.budget else f", {row.cost:.0f} generations spent"
    return (
        f"{row.policy}{spent}: {percent(row.accuracy, row.low, row.high)} % right, "
        f"{percent(row.difference, row.difference_low, row.difference_high, '+')} points to the baseline, "
        f"which needs {efficiency_text(row)} times the generations for it"
    )


def _called(approach: Approach) -> str:
    return "best-of-N" if approach.name == "search" else "parallel attempts"


def _exchange(study: Study, approach: Approach) -> list[str]:
    lines = []
    for kind in ("oracle", "predicted"):
        rows = [row for row in study.exchanges if row.strategy == f"{approach.name}, compute-optimal ({kind})"]
        levels = [f"bin {number}" for number in range(1, 6)]
        parts = []
        for ratio in study.settings.ratios:
            of_ratio = {row.level: row for row in rows if row.ratio == ratio}
            if None in of_ratio:
                row = of_ratio[None]
                gain = percent(row.difference, row.difference_low, row.difference_high, "+")
                at = f"{row.measured:.0f}"
                if row.at_least:
                    at += f" of the {row.budget:.0f} that match"
                elif row.at_most:
                    at += f", more than the {row.budget:.1f} that match"
                bins = _verdicts([of_ratio[level] for level in levels if level in of_ratio])
                parts.append(f"R = {ratio:g}, N = {at}: {gain} points on all problems" + (f", {bins}" if bins else ""))
        if parts and study.larger is not None:
            lines.append(
                f"{approach.name.capitalize()}, {kind} bins: does test-time compute beat {study.larger.name}, "
                f"{study.settings.times:.3g} times as large, at equal FLOPs? {'; '.join(parts)}."
            )
    return lines


def _verdicts(rows: Sequence[Exchange]) -> str:
    """Which bins test-time compute wins, ties and loses."""
    names = {"win": "better", "tie": "undecided", "lose": "worse"}
    of_verdict = {
        shown: [str(row.level).removeprefix("bin ") for row in rows if row.verdict == verdict]
        for verdict, shown in names.items()
    }
    return ", ".join(f"{shown} in bin {' '.join(bins)}" for shown, bins in of_verdict.items() if bins)
