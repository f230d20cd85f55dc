"""`tts-eval revisions measure`: what chains of revisions are worth, from journals, without a model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tts_eval.analysis import load_pools
from tts_eval.analysis.chain_attempts import attempt_rows, attempt_values
from tts_eval.analysis.chain_ratios import best_shapes
from tts_eval.analysis.chain_shapes import ShapeValues, shape_differences, shape_rows
from tts_eval.analysis.chains import CHAIN_MEASURES, SCORED, Family, families, measures_of, shape_values, shapes_of
from tts_eval.answers import default_grader
from tts_eval.commands.bins import Bins, add_bins, parts_of, read_bins
from tts_eval.commands.options import add_pools, budget_list
from tts_eval.commands.tables import print_notes, write_file
from tts_eval.report.chain_figures import attempts_figure, ends_figure, ratios_figure
from tts_eval.report.chain_tables import ChainMeasures, to_markdown
from tts_eval.report.table import known, to_csv
from tts_eval.selection import AGGREGATIONS, CHAIN_WEIGHTS
from tts_eval.types import TtsEvalError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_pools(parser)
    add_bins(parser)
    parser.add_argument("--budgets", type=budget_list, metavar="16,64", help="default: all that the runs can tell of")
    parser.add_argument(
        "--selection", action="append", choices=CHAIN_MEASURES, help="a column to show; may be repeated; default: all"
    )
    parser.add_argument("--against", choices=CHAIN_MEASURES, help="show how much better than this the others are, too")
    parser.add_argument(
        "--aggregation",
        choices=AGGREGATIONS,
        default="last",
        help="how an attempt's step scores become one score; default: %(default)s",
    )
    parser.add_argument(
        "--weight",
        choices=CHAIN_WEIGHTS,
        default="best",
        help="what a chain's winner weighs among chains: the score of its best attempt, or the sum it won with; "
        "default: %(default)s",
    )
    parser.add_argument("--format", choices=list(FORMATS), default="markdown", help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to the terminal")
    parser.add_argument("--csv", type=Path, metavar="FOLDER", help="write attempts.csv, ratios.csv, ... there too")
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="FILE",
        help="draw FILE_attempts, FILE_ends and FILE_ratios; .png, .svg or .pdf",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the tables; what had to be left out is said on stderr.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If there are no chains, a journal is malformed, or a file can't be written.
    """
    bins = read_bins(args)
    sets, notes = load_pools(args.paths, default_grader())
    found, more = families(sets)
    notes += more
    measures = ChainMeasures([], [], [], [])
    for family in found:
        notes += _measure(family, bins, args, measures)
    print_notes(args.command, notes)
    if args.csv is not None:
        _write_csv(measures, args.csv)
    if args.figure is not None:
        _draw(measures, args.figure)
    text = FORMATS[args.format](measures)
    if args.output is None:
        print(text, end="")
    else:
        write_file(args.output, text)
    return 0


def to_json(found: ChainMeasures) -> str:
    """An object with a list of rows for each table."""
    tables = {name: list(map(known, rows)) for name, rows in vars(found).items()}
    return json.dumps(tables, indent=1) + "\n"


FORMATS: dict[str, Callable[[ChainMeasures], str]] = {"markdown": to_markdown, "json": to_json}


def _measure(family: Family, bins: Bins | None, args: argparse.Namespace, into: ChainMeasures) -> list[str]:
    """Adds what one family of runs tells; returns what the user should know of it."""
    name = f"{family.task}, {family.strategy}"
    wanted = [m for m in CHAIN_MEASURES if m == args.against or m in (args.selection or CHAIN_MEASURES)]
    measures, shapes = measures_of(family, wanted), shapes_of(family, args.budgets)
    parts, notes = parts_of(family.problems, args.by, bins)
    if unscored := [measure for measure in wanted if measure in SCORED and measure not in measures]:
        notes.append(f"{name}: no {' or '.join(unscored)}, some attempts have no verifier score")
    if missing := sorted(set(args.budgets or ()) - {shape.budget for shape in shapes}):
        notes.append(f"{name}: no run tells of budget {', '.join(map(str, missing))}")
    how = {"resamples": args.resamples, "seed": args.seed}
    values = shape_values(family, shapes, measures, aggregation=args.aggregation, weight=args.weight, **how)
    whole, attempts = ShapeValues(family, None, shapes, measures, values), attempt_values(family)
    places = {uid: place for place, uid in enumerate(family.uids)}
    members = [(level, np.array([places[pool.uid] for pool in part.pools])) for level, part in parts]
    for values_of in (whole, *(whole.part(level, of) for level, of in members)):
        into.ratios.extend(shape_rows(values_of, **how))
        into.best.extend(best_shapes(values_of, **how))
        if args.against in measures:
            into.differences.extend(shape_differences(values_of, args.against, **how))
    for attempts_of in (attempts, *(attempts.part(level, of) for level, of in members)):
        into.attempts.extend(attempt_rows(attempts_of, **how))
    return notes


def _write_csv(found: ChainMeasures, folder: Path) -> None:
    """A file for each table that has a line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TtsEvalError(f"{folder}: {error.strerror}; choose a folder that can be written") from error
    for name, rows in vars(found).items():
        if rows:
            write_file(folder / f"{name}.csv", to_csv(rows))


def _draw(found: ChainMeasures, path: Path) -> None:
    attempts_figure(found.attempts, path.with_stem(f"{path.stem}_attempts"))
    ends_figure(found.ratios, path.with_stem(f"{path.stem}_ends"))
    ratios_figure(found.ratios, path.with_stem(f"{path.stem}_ratios"))
