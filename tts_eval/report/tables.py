"""The tables of a report, from a study."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tts_eval.analysis.compute_optimal import PolicyRow
from tts_eval.analysis.exchange import Exchange, Threshold
from tts_eval.analysis.study import Study
from tts_eval.report.data_tables import costs_table, difficulty_table, gaps_table, hacking_table, strategies_table
from tts_eval.report.table import DETECTABLE, Table, flops, percent, points


def tables_of(study: Study) -> list[Table]:
    """Every table that has a line."""
    makers: Sequence[Callable[[Study], Table]] = (
        _policies,
        _exchange,
        _worth,
        _duels,
        _totals,
        _choices,
        difficulty_table,
        strategies_table,
        gaps_table,
        hacking_table,
        costs_table,
    )
    return [table for table in (make(study) for make in makers) if table.cells]


def efficiency_text(row: PolicyRow) -> str:
    """A factor with its interval, and whether it is a mere bound."""
    sign = {"at least": "≥ ", "at most": "≤ "}.get(row.bound, "")
    high = "∞" if math.isinf(row.efficiency_high) else f"{row.efficiency_high:.1f}"
    return f"{sign}{row.efficiency:.1f} [{row.efficiency_low:.1f}, {high}]"


def _policies(study: Study) -> Table:
    rows = [row for row in study.policies if row.level is None]
    cells = [
        [
            *(row.approach, row.policy, str(row.budget), f"{row.cost:.1f}"),
            percent(row.accuracy, row.low, row.high),
            points(row.spread),
            "" if row.chosen_on_all is None else percent(row.chosen_on_all),
            percent(row.baseline),
            percent(row.difference, row.difference_low, row.difference_high, "+"),
            points(row.detectable),
            efficiency_text(row),
        ]
        for row in rows
    ]
    return Table(
        "policies",
        "Compute-optimal policies",
        "The best strategy for each difficulty bin, chosen on one half of the bin's problems and scored on the other. "
        "Accuracy in percent [95 % interval over problems]; spread: standard deviation over the random halvings; "
        "chosen on all: the same without held-out halves, which flatters; baseline: independent samples with as many "
        "generations (N, or what is spent with probes); difference: paired bootstrap; "
        f"{DETECTABLE}; efficiency: how many times the generations the baseline "
        "needs for the same accuracy (≥ where it doesn't get there within what was run). "
        "'k probes charged': difficulty is estimated from k samples, which count.",
        ["approach", "difficulty", "N", "spent", "accuracy", "spread", "chosen on all", "baseline", "difference",
         "detectable", "efficiency"],
        cells,
        study.policies,
    )


def _exchange(study: Study) -> Table:
    cells = [
        [
            *(row.strategy, _level(row.level), f"{row.ratio:g}"),
            f"{row.budget:.0f}" + (f" (measured at {row.measured:.0f})" if row.at_least or row.at_most else ""),
            percent(row.accuracy),
            percent(row.larger),
            _gain(row),
            percent(row.difference, row.difference_low, row.difference_high, "+"),
            points(row.detectable),
            row.verdict or f"not told: {'less' if row.at_least else 'more'} was spent than matches",
            str(row.n),
        ]
        for row in study.exchanges
    ]
    return Table(
        "exchange",
        "Test-time compute against the larger model",
        "At equal FLOPs: R is the inference tokens over the pretraining tokens, N the generations a problem that match "
        "the larger model there. Relative gain of test-time compute over the larger model, and the difference of the "
        "accuracies, each with a 95 % paired bootstrap interval; win, tie or lose is test-time compute's, by the "
        f"interval of the difference; {DETECTABLE}.",
        ["strategy", "problems", "R", "N", "test-time", "larger", "relative gain", "difference", "detectable",
         "verdict", "n"],
        cells,
        study.exchanges,
    )


def _worth(study: Study) -> Table:
    cells = []
    for row in study.worth:
        if row.budget is None:
            answer = "at every R whose budget was run: test-time compute doesn't get there"
        elif row.ratio is None:
            answer = "at no R: the budget that it takes is cheaper than the larger model's inference alone"
        else:
            answer = f"R {'≥' if row.at_least else '='} {row.ratio:.3g}"
        cells.append([row.strategy, _level(row.level), _budget(row), answer])
    return Table(
        "worth",
        "From which R on is the larger model worth it?",
        "The smallest budget N at which test-time compute is as accurate as the larger model, and the R at which that "
        "budget costs as much; ≤ and ≥ where the smallest that was run does. Point estimates.",
        ["strategy", "problems", "N", "the larger model is worth it from"],
        cells,
        study.worth,
    )


def _duels(study: Study) -> Table:
    cells = [
        [row.strategy, str(row.budget), str(row.ours), str(row.theirs), f"{row.p_value:.2g}", str(row.n)]
        for row in study.duels
    ]
    return Table(
        "duels",
        "Single runs against the larger model",
        "Problems that only the run solves, that only the larger model solves, and McNemar's exact test, two-sided; "
        "not at equal FLOPs, and without regard to the many comparisons.",
        ["strategy", "N", "only the run", "only the larger", "p", "problems"],
        cells,
        study.duels,
    )


def _totals(study: Study) -> Table:
    cells = [
        [
            f"{row.ratio:g}",
            *map(flops, (row.inference_tokens, row.pretraining, row.larger_pretraining)),
            f"{row.budget:.1f}",
            *map(flops, (row.inference, row.larger_inference)),
        ]
        for row in study.totals
    ]
    return Table(
        "total_flops",
        "Total FLOPs",
        "Over both models' lives: the larger model writes R x D_pretrain tokens, the base N times as many, so that "
        "pretraining and inference together are equal.",
        ["R", "tokens", "pretraining", "larger's", "N", "inference", "larger's"],
        cells,
        study.totals,
    )


def _choices(study: Study) -> Table:
    """The map from bin and budget to strategy; the most frequent choice, and how often."""
    cells = []
    keys = dict.fromkeys((row.approach, row.policy, row.budget) for row in study.choices)
    bins = sorted({row.level for row in study.choices if row.policy in ("oracle", "predicted")})
    for approach, policy, budget in keys:
        if policy not in ("oracle", "predicted"):
            continue
        line = [approach, policy, str(budget)]
        for number in bins:
            of_bin = [
                row
                for row in study.choices
                if (row.approach, row.policy, row.budget, row.level) == (approach, policy, budget, number)
            ]
            best = max(of_bin, key=lambda row: row.share, default=None)
            line.append("" if best is None else f"{best.strategy} ({100 * best.share:.0f} %)")
        cells.append(line)
    return Table(
        "choices",
        "What the policies choose",
        "The strategy that most random halves of a bin choose, and the share of the halves; ties share. Bin 1 is the "
        "easiest. Chains of revisions: attempts x chains.",
        ["approach", "difficulty", "N", *(f"bin {number}" for number in bins)],
        cells,
        study.choices,
    )


def _budget(row: Threshold) -> str:
    return "" if row.budget is None else f"{'≤ ' if row.at_least else ''}{row.budget:.1f}"


def _gain(row: Exchange) -> str:
    return "" if row.gain is None else percent(row.gain, row.gain_low, row.gain_high, "+")


def _level(level: Any) -> str:
    return "all" if level is None else str(level)


