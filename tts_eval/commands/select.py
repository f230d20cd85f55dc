"""`tts-eval select`: accuracy at every budget for every selection rule, from journals, without a model."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tts_eval.analysis import (
    MEASURES,
    Difference,
    PoolSet,
    Row,
    accuracy_rows,
    by_level,
    differences,
    load_pools,
    pool_budgets,
)
from tts_eval.analysis.accuracy import SCORED
from tts_eval.answers import default_grader
from tts_eval.commands.options import add_pools, budget_list
from tts_eval.commands.tables import print_notes, write_file
from tts_eval.report import accuracy_figure, level_figure
from tts_eval.report.table import detectable, known, percent, to_csv
from tts_eval.selection import AGGREGATIONS
from tts_eval.types import TtsEvalError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_pools(parser)
    parser.add_argument("--format", choices=list(FORMATS), default="markdown", help="default: %(default)s")
    parser.add_argument(
        "--aggregation",
        action="append",
        choices=AGGREGATIONS,
        help="how a solution's step scores become one score; may be repeated; default: last",
    )
    parser.add_argument(
        "--selection", action="append", choices=MEASURES, help="a column to show; may be repeated; default: all"
    )
    parser.add_argument("--budgets", type=budget_list, metavar="1,4,16", help="default: 1, 2, 4, ... and the pool")
    parser.add_argument(
        "--against",
        choices=[measure for measure in MEASURES if measure not in SCORED],
        help="show how much better than this the others are, problem by problem, instead of accuracies",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to the terminal")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw accuracy over budget as .png, .svg or .pdf")


def run(args: argparse.Namespace) -> int:
    """Prints the table; what had to be left out is said on stderr.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If there is nothing to show, a journal is malformed, or the output can't be written.
    """
    sets, notes = load_pools(args.paths, default_grader())
    rows: list[Row] = []
    compared: list[Difference] = []
    for pools in sets:
        found, more, said = _measure(pools, args)
        rows += found
        compared += more
        notes += said
    print_notes(args.command, notes)
    shown = rows if args.against is None else compared
    if not shown:
        why = "; ".join(notes) or f"nothing else is compared with {args.against}"
        raise TtsEvalError(f"nothing to show ({why}); ask for other budgets or selections")
    if args.figure is not None:
        (accuracy_figure if args.by is None else level_figure)(rows, args.figure)
    text = FORMATS[args.format](shown)
    if args.output is None:
        print(text, end="")
    else:
        write_file(args.output, text)
    return 0


def _measure(pools: PoolSet, args: argparse.Namespace) -> tuple[list[Row], list[Difference], list[str]]:
    """Returns the rows of one set, the comparisons where they are wanted, and what the user should know of them."""
    name = f"{pools.task}, {pools.strategy}"
    possible, notes = pool_budgets(pools), []
    sizes = sorted(len(pool.candidates) for pool in pools.pools)
    if pools.independent and sizes[0] < sizes[-1]:
        notes.append(f"{name}: budgets above {sizes[0]} are left out, some problems have no more candidates")
    budgets = possible
    if args.budgets is not None:
        budgets = [k for k in args.budgets if k in possible or (pools.independent and k <= possible[-1])]
        if missing := [str(k) for k in args.budgets if k not in budgets]:
            notes.append(f"{name}: no budget {', '.join(missing)}, only {', '.join(map(str, possible))}")
    if not budgets:
        return [], [], notes
    measures = MEASURES if args.selection is None else [m for m in MEASURES if m in args.selection]
    how: dict[str, Any] = {
        "measures": measures,
        "aggregations": [name for name in AGGREGATIONS if name in (args.aggregation or ["last"])],
        "budgets": budgets,
        "resamples": args.resamples,
        "seed": args.seed,
    }
    parts = [(None, pools)] if args.by is None else by_level(pools)
    rows = [replace(row, level=level) for level, part in parts for row in accuracy_rows(part, **how)]
    compared = [
        replace(row, level=level)
        for level, part in (parts if args.against else ())
        for row in differences(part, args.against, **how)
    ]
    if unscored := [m for m in measures if m in SCORED and m not in {row.selection for row in rows}]:
        notes.append(f"{name}: no {' or '.join(unscored)}, some candidates have no verifier score")
    return rows, compared, notes


def to_json(rows: Sequence[Row] | Sequence[Difference]) -> str:
    """A list of objects, one a row; what isn't known is null."""
    return json.dumps([known(row) for row in rows], indent=1) + "\n"


def to_markdown(rows: Sequence[Row] | Sequence[Difference]) -> str:
    """One table a task and strategy: a line a budget, a column a selection, percent with the 95 % interval."""
    blocks = []
    every: Sequence[Row | Difference] = rows
    for (task, strategy), group in itertools.groupby(every, key=lambda row: (row.task, row.strategy)):
        of_set = list(group)
        columns = list(dict.fromkeys(map(_column, of_set)))
        levels = any(row.level is not None for row in of_set)
        lines = [
            [*([level] if levels else []), budget, n, *(cells.get(column, "") for column in columns)]
            for level, budget, n, cells in _lines_of(of_set)
        ]
        heads = [*(["level"] if levels else []), "budget", "problems", *columns]
        blocks.append(f"### {task}, {strategy}\n\n{tabulate(lines, heads, 'github', disable_numparse=True)}\n")
    seen = detectable(row.detectable for row in every if isinstance(row, Difference))
    return "\n".join([*blocks, " ".join(filter(None, (_LEGENDS[type(rows[0])], seen))) + "\n"])


def _lines_of(rows: Sequence[Row | Difference]) -> list[tuple[Any, int, int, dict[str, str]]]:
    def key(row: Row | Difference) -> tuple[Any, int, int]:
        return row.level, row.budget, row.n

    return [(*of_line, {_column(row): _percent(row) for row in line}) for of_line, line in itertools.groupby(rows, key)]


def _column(row: Row | Difference) -> str:
    name = row.selection if row.aggregation is None else f"{row.selection} ({row.aggregation})"
    return f"{name} - {row.against}" if isinstance(row, Difference) else name


def _percent(row: Row | Difference) -> str:
    if isinstance(row, Difference):
        return percent(row.difference, row.low, row.high, "+")
    return percent(row.accuracy, row.low, row.high)


_LEGENDS = {
    Row: "Accuracy in percent [95 % Wilson interval over the problems].",
    Difference: "Difference in percentage points [95 % interval, paired bootstrap over the problems].",
}
FORMATS = {"markdown": to_markdown, "csv": to_csv, "json": to_json}
