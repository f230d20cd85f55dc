"""`tts-eval sweep`: strategies x budgets x seeds on one task, resumable cell by cell (Snell et al. 2024, section 3)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate
from tqdm import tqdm

from tts_eval.commands.tables import write_file
from tts_eval.commands.tasks import add_metadata
from tts_eval.plugin import register_adapters
from tts_eval.report.table import to_csv


if TYPE_CHECKING:
    from tts_eval.commands.sweep_cells import Results
    from tts_eval.commands.sweep_plan import Cell


@dataclass(frozen=True)
class Line:
    """One cell of the table; what it cost is a mean over the problems, and None where it isn't known.

    Attributes:
        strategy: The strategy with its arguments.
        budget: The paper's N.
        seed: Of the run.
        problems: How many.
        accuracy: Share of the problems that are solved, 0 to 1.
        stderr: Its standard error; None with a single problem.
        coverage: Share of the problems with any right candidate (pass@N).
        generations: The paper's unit of cost (section 3).
        tokens: Tokens that the policy wrote.
        verifier_tokens: Tokens that the verifier read.
        seconds: Wall-clock seconds.
        derived_from: The larger run that it was taken from, if it was.
    """

    strategy: str
    budget: int
    seed: int
    problems: int
    accuracy: float
    stderr: float | None
    coverage: float
    generations: float
    tokens: float | None
    verifier_tokens: float | None
    seconds: float | None
    derived_from: str | None


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("sweep", metavar="FILE", help="the sweep's YAML, or the name of one that ships with us")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="takes the place of the file's own output")
    add_metadata(parser)


def run(args: argparse.Namespace) -> int:
    """Fills all cells that have no results yet, prints the table and writes it to sweep.csv.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If the file or an argument in it is wrong, or a folder holds the results of another sweep.
    """
    register_adapters()
    from tts_eval.commands.sweep_cells import finished
    from tts_eval.commands.sweep_plan import cells_of, read_sweep

    cells = cells_of(read_sweep(args.sweep), args.output)
    results = {cell.name: found for cell in cells if (found := finished(cell)) is not None}
    results |= _fill([cell for cell in cells if cell.name not in results], cells, args.metadata)
    strategies = list(dict.fromkeys(cell.strategy for cell in cells))
    lines = [line_of(cell, results[cell.name]) for cell in cells]
    lines.sort(key=lambda line: (strategies.index(line.strategy), line.seed, line.budget))
    write_file(cells[0].folder.parents[1] / "sweep.csv", to_csv(lines), mend="choose another --output")
    print(to_markdown(lines), end="")
    return 0


def line_of(cell: Cell, results: Results) -> Line:
    """Reads a line of the table from what lm-eval wrote."""
    scores, usage = results["results"][cell.task], results["config"]["tts_eval"]["usage"]
    problems = results["n-samples"][cell.task]["effective"]
    cost: dict[str, Any] = {name: None if total is None else total / problems for name, total in usage.items()}
    stderr = scores["accuracy_stderr,none"]
    return Line(
        strategy=cell.strategy,
        budget=cell.budget,
        seed=cell.seed,
        problems=problems,
        accuracy=scores["accuracy,none"],
        stderr=stderr if isinstance(stderr, float) else None,
        coverage=scores["coverage,none"],
        generations=cost["generations"],
        tokens=cost["decode_tokens"],
        verifier_tokens=cost["verifier_tokens"],
        seconds=cost["seconds"],
        derived_from=results["sweep"]["derived_from"],
    )


def to_markdown(lines: Sequence[Line]) -> str:
    """The table; costs are means over the problems, empty where they aren't known."""
    rows = [
        [
            *(line.strategy, line.budget, line.seed, line.problems),
            f"{100 * line.accuracy:.1f}" + ("" if line.stderr is None else f" ± {100 * line.stderr:.1f}"),
            f"{100 * line.coverage:.1f}",
            *map(_cost, (line.generations, line.tokens, line.verifier_tokens)),
            "" if line.seconds is None else f"{line.seconds:.2f}",
        ]
        for line in lines
    ]
    heads = [
        *("strategy", "budget", "seed", "problems", "accuracy", "coverage"),
        *("generations", "tokens", "verifier tokens", "seconds"),
    ]
    return tabulate(rows, heads, "github", disable_numparse=True) + "\n" + _LEGEND


_LEGEND = (
    "\nAccuracy (with its standard error) and coverage in percent. Costs are means over the problems;\n"
    "they aren't known in full for budgets that were taken from a larger run.\n"
)


def _fill(missing: Sequence[Cell], cells: Sequence[Cell], metadata: Sequence[str]) -> dict[str, Results]:
    """Fills cells; the bar counts solutions, since a cell of budget 256 takes as long as hundreds of budget 1."""
    if not missing:
        return {}
    from tts_eval.commands.sweep_cells import Filler

    filler = Filler(missing, metadata)
    results: dict[str, Results] = {}
    work = {cell.name: 0 if cell.source else cell.solutions for cell in cells}
    done = sum(work.values()) - sum(work[cell.name] for cell in missing)
    form = "{desc}{percentage:.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(total=sum(work.values()), initial=done, bar_format=form) as bar:
        bar.set_description(f"{len(cells) - len(missing)} of {len(cells)} cells")
        for cell, found in filler.fill(missing):
            results[cell.name] = found
            accuracy = 100 * found["results"][cell.task]["accuracy,none"]
            bar.write(f"tts-eval sweep: {cell.name}: accuracy {accuracy:.1f} %", file=sys.stderr)
            bar.update(work[cell.name])
            bar.set_description(f"{len(cells) - len(missing) + len(results)} of {len(cells)} cells")
    return results


def _cost(mean: float | None) -> str:
    return "" if mean is None else f"{mean:,.0f}"
