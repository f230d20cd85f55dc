"""The tables of a report on the runs themselves: difficulty, strategies, verifier and costs."""

from __future__ import annotations

from math import isnan

from tts_eval.analysis.hacking import hacking_threshold
from tts_eval.analysis.study import Study
from tts_eval.report.table import DETECTABLE, Table, count, flops, percent, points


def difficulty_table(study: Study) -> Table:
    """See its note."""
    cells = [
        [row.kind, str(row.samples), " ".join(map(str, row.problems)), percent(row.same), percent(row.near)]
        for row in study.stability
    ]
    same = "" if study.agreement is None else (
        f" {100 * study.agreement:.1f} % of the problems are in the same bin by prediction as by oracle."
    )
    return Table(
        "difficulty",
        "Difficulty bins",
        "Problems in each bin, the easiest first; how many percent stay in their bin, or move by at most one, when "
        f"the base's samples are drawn again with replacement. Absolute: pass@1 from 50 %, from 10 %, below.{same}",
        ["difficulty", "samples", "problems", "same bin", "within one"],
        cells,
        study.stability,
    )


def strategies_table(study: Study) -> Table:
    """See its note."""
    cells = [
        [
            *(row.approach, row.strategy, str(row.budget), f"{row.cost:g}"),
            percent(row.accuracy, row.low, row.high),
            "" if row.difference is None else percent(row.difference, row.difference_low, row.difference_high, "+"),
            points(row.detectable),
        ]
        for row in study.strategies
        if row.level is None
    ]
    return Table(
        "strategies",
        "Every strategy",
        "Accuracy in percent [95 % interval]; difference to independent samples with as many generations, paired, "
        f"where there are so many; {DETECTABLE}.",
        ["approach", "strategy", "N", "generations", "accuracy", "difference", "detectable"],
        cells,
        study.strategies,
    )


def gaps_table(study: Study) -> Table:
    """See its note."""
    law = ""
    if study.coverage is not None:
        a, b = study.coverage.a, study.coverage.b
        law = (
            f" Coverage follows exp(-a k^-b) with a = {a.value:.2f} [{a.low:.2f}, {a.high:.2f}], "
            f"b = {b.value:.2f} [{b.low:.2f}, {b.high:.2f}], R² = {study.coverage.r_squared:.3f}."
        )
    cells = [
        [str(row.budget), percent(row.coverage), percent(row.selected), percent(row.gap, row.low, row.high)]
        for row in study.gaps
    ]
    return Table(
        "selection_gap",
        "What selection leaves behind",
        "Coverage (pass@N) of independent samples, the accuracy of the selected answer, and the gap." + law,
        ["N", "coverage", "selected", "gap"],
        cells,
        study.gaps,
    )


def hacking_table(study: Study) -> Table:
    """See its note."""
    threshold = hacking_threshold(study.hacking)
    found = (
        "no budget at which accuracy falls significantly while the score rises"
        if threshold is None
        else f"beyond N = {threshold} accuracy falls while the score rises: the hacking threshold"
    )
    cells = [
        [
            str(row.budget),
            f"{row.proxy:.3f}" + ("" if isnan(row.proxy_low) else f" [{row.proxy_low:.3f}, {row.proxy_high:.3f}]"),
            percent(row.accuracy, row.low, row.high),
            percent(row.change, row.change_low, row.change_high, "+"),
        ]
        for row in study.hacking
    ]
    return Table(
        "hacking",
        "Over-optimisation of the verifier",
        f"The answer with the highest score (best-of-N): its score, and whether it is right; {found}. Change: accuracy "
        "less that at the best budget, paired.",
        ["N", "score", "accuracy", "change"],
        cells,
        study.hacking,
    )


def costs_table(study: Study) -> Table:
    """See its note."""
    cells = [
        [
            *(row.part, row.model, row.verifier, row.strategy, str(row.budget), row.seeds, str(row.problems)),
            *(count(value) for value in (row.generations, row.tokens, row.verifier_tokens)),
            "" if row.seconds is None else f"{row.seconds:.2f}",
            *(flops(value) for value in (row.flops, row.measured, row.uncached, row.eflops)),
        ]
        for row in study.costs
    ]
    return Table(
        "runs",
        "The runs, and what they cost",
        "Means over the problems; empty where the journal doesn't tell (budgets that were taken from a larger run) or "
        f"the model's shape isn't known. FLOPs: the paper's ({study.settings.accounting.name}), of the tokens that the "
        "policy wrote. Measured: everything that policy and verifier read and wrote, attention included; uncached: the "
        "same if nothing had been kept and reused. eFLOPs: measured, and moving keys and values (Kinetics).",
        ["part", "model", "verifier", "strategy", "N", "seeds", "problems", "generations", "tokens", "verifier tokens",
         "seconds", "FLOPs", "measured", "uncached", "eFLOPs"],
        cells,
        study.costs,
    )
