"""`tts-eval diagnose`: signs that a search exploits its verifier, from journals, without a model."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from tts_eval.analysis import load_pools
from tts_eval.analysis.overoptimisation import SHORT, Diagnosis, diagnose
from tts_eval.answers import default_grader
from tts_eval.commands.bins import add_bins, parts_of, read_bins
from tts_eval.commands.options import add_pools
from tts_eval.commands.tables import print_notes, write_file
from tts_eval.report.table import to_csv
from tts_eval.selection import AGGREGATIONS, SELECTIONS
from tts_eval.types import TtsEvalError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_pools(parser)
    add_bins(parser)
    parser.add_argument(
        "--selection", choices=SELECTIONS, help="default: best_of_n_weighted where there are scores, else majority"
    )
    parser.add_argument(
        "--aggregation",
        choices=AGGREGATIONS,
        default="last",
        help="how a solution's step scores become one score; default: %(default)s",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table there too")


def run(args: argparse.Namespace) -> int:
    """Prints a table a task and strategy; what had to be left out is said on stderr.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If there is nothing to show, a journal is malformed, or the file can't be written.
    """
    bins = read_bins(args)
    sets, notes = load_pools(args.paths, default_grader())
    how = {name: getattr(args, name) for name in ("selection", "aggregation", "resamples", "seed")}
    rows: list[Diagnosis] = []
    for pools in sets:
        parts, said = parts_of(pools, args.by, bins)
        notes += said
        found = [line for level, part in parts or [(None, pools)] for line in diagnose(part, level=level, **how)]
        if not found:
            notes.append(f"{pools.task}, {pools.strategy}: no {args.selection}, some candidates have no verifier score")
        rows += found
    print_notes(args.command, notes)
    if not rows:
        raise TtsEvalError("nothing to show; ask for --selection majority")
    if args.csv is not None:
        write_file(args.csv, to_csv(rows))
    print(to_markdown(rows), end="")
    return 0


def to_markdown(rows: Sequence[Diagnosis]) -> str:
    """One table a task and strategy, a line a budget and level."""
    blocks = []
    for (task, strategy), group in itertools.groupby(rows, key=lambda row: (row.task, row.strategy)):
        of_set = list(group)
        order = list(dict.fromkeys(row.level for row in of_set))  # as the parts come
        of_set.sort(key=lambda row: order.index(row.level))
        levels = order != [None]
        header = [*(["level"] if levels else []), "budget", "problems", *_COLUMNS]
        lines = [[*([row.level] if levels else []), row.budget, row.n, *_cells(row)] for row in of_set]
        blocks.append(f"### {task}, {strategy}\n\n{tabulate(lines, header, 'github', disable_numparse=True)}\n")
    return "\n".join([*blocks, _LEGEND])


_COLUMNS = (
    "steps",
    "tokens",
    "repeated steps",
    f"1-{SHORT} steps",
    "score right",
    "score wrong",
    "AUROC within",
    "accuracy",
    "coverage",
    "gap",
)

_LEGEND = (
    "steps, tokens: means of a solution; repeated steps: share that occurred before in the same solution; "
    f"1-{SHORT} steps: share of the solutions;\nscores: means over right and wrong solutions; AUROC within problems; "
    "accuracy of the selected answer; gap: coverage less accuracy. Shares in percent.\n"
)


def _cells(row: Diagnosis) -> list[str]:
    shares = [row.auroc, row.accuracy, row.coverage, row.gap]
    return [
        f"{row.steps:.1f}",
        "" if row.tokens is None else f"{row.tokens:.1f}",
        _percent(row.repeated),
        _percent(row.short),
        *("" if score is None else f"{score:.3f}" for score in (row.score_right, row.score_wrong)),
        *map(_percent, shares),
    ]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
