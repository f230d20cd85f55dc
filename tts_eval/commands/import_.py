"""`tts-eval import`: other people's generations become a journal (docs/import.md)."""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from tts_eval import __version__
from tts_eval.answers import FALLBACKS
from tts_eval.commands.options import positive, unescaped
from tts_eval.commands.tables import print_notes
from tts_eval.importing import COLUMNS, FORMATS, ImportedProblem, Reading, detect, read_problems
from tts_eval.journal import Record
from tts_eval.jsonl import SCHEMA
from tts_eval.selection import AGGREGATIONS
from tts_eval.types import UNKNOWN_USAGE, TtsEvalError, Usage


_INDEPENDENT = "best-of-n"
_STRATEGIES = (_INDEPENDENT, "beam", "lookahead", "dvts", "rebase")
"""Those of independent candidates, one a chain, and the joint searches. Revisions would need their chains."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="generations, as JSON Lines or CSV")
    add("--output", required=True, type=Path, metavar="JOURNAL", help="to write, such as candidates_NAME.jsonl")
    add("--task", required=True, metavar="NAME", help="whose problems they are, such as tts_math500")
    add("--format", choices=list(FORMATS), help="default: told by the file's columns")
    for field in COLUMNS:
        add(f"--{field}", metavar="COLUMN", help=f"that holds the {field}; default: the format's own")
    add("--model", metavar="NAME", help="what wrote the candidates")
    add("--verifier", metavar="NAME", help="what scored them")
    add(
        "--strategy",
        type=strategy,
        default={"name": _INDEPENDENT},
        metavar="NAME,KEY=VALUE,...",
        help=f"{', '.join(_STRATEGIES)}, and its parameters; default: {_INDEPENDENT}",
    )
    add("--budget", type=positive, metavar="N", help="default: the number of candidates, the same for all problems")
    add("--seed", type=int, default=0, help="of the run; default: %(default)s")
    add("--step_delimiter", type=unescaped, default="\n\n", help=r"what ends a step; default: \n\n")
    add("--aggregation", choices=AGGREGATIONS, help="keep one score a solution, for step scores that fit no steps")
    add(
        "--answer_fallback",
        choices=tuple(FALLBACKS),
        help="how to find an answer that isn't boxed; default: not at all",
    )


def strategy(text: str) -> dict[str, Any]:
    """A strategy's name and, after commas, its parameters. Only of a known one is it known how to measure it."""
    name, _, parameters = text.partition(",")
    if name not in _STRATEGIES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(_STRATEGIES)}")
    if not parameters:
        return {"name": name}
    from lm_eval.utils import simple_parse_args_string

    return {"name": name, **simple_parse_args_string(parameters)}


def run(args: argparse.Namespace) -> int:
    """Writes the journal, whole or not at all, and says what is in it.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If a line is malformed, the journal is already there, or the disk refuses.
    """
    if args.output.exists():
        raise TtsEvalError(f"{args.output}: is already there; name another --output, or delete it")
    name = args.format or detect(args.file)
    reading = _reading(args, name)
    problems = read_problems(args.file, reading)
    first = next(problems, None)
    if first is None:
        raise TtsEvalError(f"{args.file}: holds no problem; check the path")
    budget = args.budget or len(first.candidates)
    found: Counter[str] = Counter()
    records = _records(itertools.chain([first], problems), args, budget)
    _write_whole(args.output, _run(args, name, reading, budget), _counted(records, found))
    print(_summary(args, name, found))
    if ungraded := found["problems"] - found["gold"]:
        print_notes(args.command, [f"{ungraded:,} problems have no gold answer; name its column with --gold"])
    return 0


def _reading(args: argparse.Namespace, name: str) -> Reading:
    if not args.step_delimiter:
        raise TtsEvalError(r"--step_delimiter is empty; say what ends a step, such as \n")
    named = {field: getattr(args, field) for field in COLUMNS if getattr(args, field) is not None}
    return Reading(
        format=FORMATS[name],
        columns=replace(FORMATS[name].columns, **named),
        named=frozenset(named),
        step_delimiter=args.step_delimiter,
        answer_fallback=args.answer_fallback,
        aggregation=args.aggregation,
    )


def _run(args: argparse.Namespace, name: str, reading: Reading, budget: int) -> dict[str, Any]:
    """What the header says of the run."""
    how = {key: getattr(reading, key) for key in ("step_delimiter", "answer_fallback", "aggregation")}
    return {
        "model": args.model,
        "verifier": args.verifier,
        "task": args.task,
        "strategy": args.strategy,
        "budget": budget,
        "seed": args.seed,
        "imported": {"file": args.file.name, "format": name, "columns": asdict(reading.columns), **how},
        "versions": {"tts-eval": __version__},
        "started": datetime.now().isoformat(timespec="seconds"),
    }


def _records(problems: Iterable[ImportedProblem], args: argparse.Namespace, budget: int) -> Iterator[Record]:
    for problem in problems:
        count = len(problem.candidates)
        if count > budget or (args.budget is None and count < budget):
            raise TtsEvalError(
                f"{problem.place}: problem {problem.uid!r} has {count} candidates where {budget} are the budget; give "
                "the largest number as --budget if some problems have fewer, or mend the file"
            )
        usage = _usage(problem, args.strategy["name"] == _INDEPENDENT)
        yield Record(
            uid=problem.uid,
            task=args.task,
            strategy=args.strategy,
            budget=budget,
            seed=args.seed,
            candidates=problem.candidates,
            usage=usage,
            gold=problem.gold,
            level=problem.level,
        )


def _usage(problem: ImportedProblem, independent: bool) -> Usage:
    """What is known of the cost: of independent samples what they are and how long, of a joint search nothing."""
    if not independent:
        return UNKNOWN_USAGE
    tokens = [candidate.tokens for candidate in problem.candidates]
    decoded = None if None in tokens else sum(length for length in tokens if length is not None)
    generations = len(problem.candidates)
    return replace(UNKNOWN_USAGE, generations=generations, decode_tokens=decoded, lookahead_tokens=0, probe_tokens=0)


def _counted(records: Iterable[Record], found: Counter[str]) -> Iterator[Record]:
    """Counts what passes, for the summary."""
    for record in records:
        candidates = record.candidates
        found["problems"] += 1
        found["gold"] += record.gold is not None
        found["candidates"] += len(candidates)
        found["answers"] += sum(candidate.answer is not None for candidate in candidates)
        found["step_scores"] += sum(candidate.step_scores is not None for candidate in candidates)
        found["scores"] += sum(candidate.outcome_score is not None for candidate in candidates)
        yield record


def _summary(args: argparse.Namespace, name: str, found: Counter[str]) -> str:
    return "\n".join(
        [
            f"{args.file} ({name}): {found['problems']:,} problems, {found['gold']:,} with a gold answer",
            f"{found['candidates']:,} candidates: {found['answers']:,} with an answer, {found['step_scores']:,} with "
            f"step scores, {found['scores']:,} with one score",
            f"measure it with: tts-eval select {args.output}",
        ]
    )


def _write_whole(path: Path, run: dict[str, Any], records: Iterable[Record]) -> None:
    """Writes a journal record by record under another name, which it loses when it is whole.

    Args:
        path: The journal; its folders are made.
        run: What its header says.
        records: Its problems, taken one at a time; should they raise, no journal is left.

    Raises:
        TtsEvalError: If the disk refuses.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w", encoding="utf-8") as file:
            _write(file, run, records)
        unfinished.rename(path)
    except OSError as error:
        raise TtsEvalError(f"{path}: {error.strerror}; choose an --output that can be written") from error


def _write(file: TextIO, run: dict[str, Any], records: Iterable[Record]) -> None:
    try:
        for row in itertools.chain([{"schema": SCHEMA, "run": run}], (record.to_json() for record in records)):
            file.write(json.dumps(row, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    except BaseException:
        Path(file.name).unlink()
        raise
