"""`tts-eval compare`: strategies against one of them at equal budgets, from journals, without a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from tts_eval.analysis import MEASURES, load_pools, pool_budgets
from tts_eval.analysis.comparison import Comparison, baseline_for, baselines_of, compare, is_run_of, measure
from tts_eval.answers import default_grader
from tts_eval.commands.bins import add_bins, parts_of, read_bins
from tts_eval.commands.options import add_pools, budget_list
from tts_eval.commands.tables import print_notes, write_file
from tts_eval.report.comparison import comparison_figure, comparison_table
from tts_eval.report.table import to_csv
from tts_eval.selection import AGGREGATIONS
from tts_eval.types import TtsEvalError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_pools(parser)
    add_bins(parser)
    parser.add_argument(
        "--against", default="best-of-n", metavar="STRATEGY", help="independent samples; default: %(default)s"
    )
    parser.add_argument("--selection", choices=MEASURES, default="best_of_n_weighted", help="default: %(default)s")
    parser.add_argument("--aggregation", choices=AGGREGATIONS, default="last", help="default: %(default)s")
    parser.add_argument("--budgets", type=budget_list, metavar="1,4,16", help="default: all")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw accuracy over budget as .png, .svg or .pdf")


def run(args: argparse.Namespace) -> int:
    """Prints a table a task, or a level or bin of it; what had to be left out is said on stderr.

    Each run is compared with the baseline of its own model and verifier; several baselines have tables of their own.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If there is nothing to compare, a journal is malformed, or a file can't be written.
    """
    bins = read_bins(args)
    sets, notes = load_pools(args.paths, default_grader())
    baselines = baselines_of(sets, args.against)
    wanted = args.budgets or sorted({budget for pools in sets for budget in pool_budgets(pools)})
    draws = {"resamples": args.resamples, "seed": args.seed}
    how = {"selection": args.selection, "aggregation": args.aggregation, **draws}
    measured = [measure(pools, wanted, **how) for pools in baselines]
    others = [pools for pools in sets if not is_run_of(pools, args.against)]
    rows: list[Comparison] = []
    for pools in [*baselines, *others]:
        name, baseline = f"{pools.task}, {pools.strategy}", baseline_for(pools, measured)
        if baseline is None:
            notes.append(f"{name}: left out, no {args.against} of its model")
            continue
        against = baseline.pools
        if (against.verifier, against.prompts) != (pools.verifier, pools.prompts):
            what = "verifier" if against.prompts == pools.prompts else "prompts or limits"
            notes.append(f"{name}: no {args.against} with its {what}, so another is taken")
        one = baseline if pools is against else measure(pools, wanted, **how)
        parts, said = parts_of(pools, args.by, bins)
        notes += said
        found = [
            row
            for level, part in parts or [(None, pools)]
            for row in compare(one, baseline, list({pool.uid: None for pool in part.pools}), level=level, **draws)
        ]
        if not found:
            notes.append(f"{name}: no problem, budget or score in common with {against.strategy}")
        rows += found
    print_notes(args.command, notes)
    if not rows:
        raise TtsEvalError("nothing to compare; ask for other budgets, or for --selection majority")
    if args.csv is not None:
        write_file(args.csv, to_csv(rows))
    if args.figure is not None:
        comparison_figure(rows, args.figure)
    tables = [
        comparison_table([row for row in rows if row.against == against])
        for against in dict.fromkeys(row.against for row in rows)
    ]
    print("\n".join(tables), end="")
    return 0
