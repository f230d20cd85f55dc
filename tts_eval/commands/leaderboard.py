"""`tts-eval leaderboard`: every run under a folder in one table, in a file that a diff can follow."""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tts_eval.commands.leaderboard_runs import Key, grade, key_of, means, model_of, reported, thing_of
from tts_eval.commands.tables import print_notes, write_file
from tts_eval.journal import Journal, Record, read_journal
from tts_eval.jsonl import Header, cut_torn_tail
from tts_eval.report.leaderboard import Run, leaderboard
from tts_eval.types import TtsEvalError


_FILE = "leaderboard.md"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=f"searched for runs; {_FILE} is written into it")


def run(args: argparse.Namespace) -> int:
    """Writes the leaderboard and prints it; what had to be left out is said on stderr.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If there is no folder, no run in it, or the file can't be written.
    """
    if not args.folder.is_dir():
        raise TtsEvalError(f"{args.folder}: no such folder; name the one that holds your runs")
    runs, notes = read_runs(args.folder)
    if not runs:
        why = "; ".join(notes) or "no results_*.json and no imported journal, candidates_*.jsonl"
        raise TtsEvalError(f"{args.folder}: no finished run ({why}); run lm_eval on a task of ours with --output_path")
    text, more = leaderboard(runs)
    print_notes(args.command, [*notes, *more])
    write_file(args.folder / _FILE, text, mend="choose a folder that can be written")
    print(text, end="")
    return 0


def read_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """Finds the runs in a folder and below it.

    A run is a results_*.json, or a journal of `tts-eval import`.

    Returns:
        The runs, and notes for the user on what was left out.
    """
    runs: list[Run] = []
    notes: list[str] = []
    journals: dict[Key, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("candidates_*.jsonl")):
        try:
            header, imported = _start(path)
            if header is None or imported:
                found, said = _imported(path)
                runs, notes = runs + found, notes + said
            else:
                journals[key_of(path, str(header.run.get("task")), header.run)].append(path)
        except TtsEvalError as error:
            notes.append(f"left out: {error}")
    finished: dict[Key, int] = {}
    for path in sorted(folder.rglob("results_*.json")):
        try:
            of_tasks, said = reported(path, journals)
        except TtsEvalError as error:
            notes.append(f"left out: {error}")
            continue
        for key, of_task in of_tasks.items():
            finished[key] = max(of_task.n, finished.get(key, 0))
        runs, notes = [*runs, *of_tasks.values()], notes + said
    return runs, notes + _unfinished(journals, finished)


def _start(path: Path) -> tuple[Header | None, bool]:
    """A journal's header, and whether somebody else's candidates were imported into it: a run of ours has no gold."""
    try:
        with path.open("rb") as file:
            first = cut_torn_tail(b"".join(itertools.islice(file, 2)))
    except OSError as error:
        raise TtsEvalError(f"journal {path}: {error.strerror}; check the path") from error
    header, records = Journal.parse(first, path)
    return header, header is None or "imported" in header.run or any(record.gold is not None for record in records)


def _imported(path: Path) -> tuple[list[Run], list[str]]:
    """The runs in a journal that no run of ours wrote, and notes on problems without a gold answer."""
    header, records = read_journal(path)
    if not records:
        raise TtsEvalError(f"journal {path}: there is no whole problem in it; import it again")
    of_run = {} if header is None else header.run
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.task, json.dumps(record.strategy, sort_keys=True), record.budget, record.seed].append(record)
    runs, notes = [], []
    for (task, _, budget, seed), of_group in groups.items():
        try:
            graded = grade(of_group, path)
        except TtsEvalError as error:
            notes.append(f"left out: {error}")
            continue
        if graded.n < len(of_group):
            notes.append(f"left out: {path}: {len(of_group) - graded.n} problems of {task} without a gold answer")
        of_run_alone = Run(
            task=task,
            model=model_of(of_run.get("model")),
            verifier=thing_of(of_run.get("verifier")),
            strategy=thing_of(of_group[0].strategy),
            budget=budget,
            selection=graded.selection,
            seed=seed,
            n=graded.n,
            accuracy=graded.accuracy,
            **means(graded.usage, graded.n),
            parameters=None,
            date=0.0,
            source=str(path),
        )
        runs.append(of_run_alone)
    return runs, notes


def _unfinished(journals: Mapping[Key, Sequence[Path]], finished: Mapping[Key, int]) -> list[str]:
    """Notes on journals that hold more than the results beside them speak for: lm-eval writes those when it is done."""
    notes = []
    for key, paths in journals.items():
        for path in paths:
            problems = path.read_bytes().count(b"\n") - 1
            if problems > finished.get(key, -1):
                known = f"results of {finished[key]} of them" if key in finished else "no results_*.json"
                notes.append(
                    f"left out: journal {path}: it isn't finished, there are {problems} problems in it and {known} "
                    "beside it; run the same lm_eval command again"
                )
    return notes
