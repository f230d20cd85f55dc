"""`tts-eval show`: the search tree of one problem, with step scores; without a problem, what a journal holds."""

from __future__ import annotations

import argparse
import difflib
import shutil
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from tts_eval.analysis import find_journals, read_samples_gold
from tts_eval.analysis.choice import Choice, choose
from tts_eval.analysis.gold import gold_of
from tts_eval.answers import default_grader
from tts_eval.commands.tables import write_file
from tts_eval.journal import Record, read_journal
from tts_eval.report.one_line import one_line
from tts_eval.report.tree import tree_html, tree_text
from tts_eval.selection import AGGREGATIONS, EVERY_SELECTION
from tts_eval.types import TtsEvalError


_ANSWER = 30
"""Longest answer in the list, in characters."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("journal", type=Path, help="candidates_*.jsonl, or a folder that holds one of them")
    parser.add_argument("--uid", help="the problem to show; without it all are listed")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a web page instead of to the terminal")
    parser.add_argument("--selection", choices=EVERY_SELECTION, help="default: that of the adapters")
    parser.add_argument("--aggregation", choices=AGGREGATIONS, help="default: that of the search, else last")


def run(args: argparse.Namespace) -> int:
    """Prints a tree or the list of problems.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If the journal or the problem can't be found, or the page can't be written.
    """
    path = _journal(args.journal)
    records = read_journal(path)[1]
    if args.uid is None:
        if args.html is not None:
            raise TtsEvalError("--html shows one problem: add --uid")
        print(_list(records, _choices(records, path, args)))
        return 0
    record = _record(args.uid, records, path)
    (choice,) = _choices([record], path, args)
    if args.html is None:
        print(tree_text(record, choice, shutil.get_terminal_size((120, 24)).columns), end="")
    else:
        write_file(args.html, tree_html(record, choice))
    return 0


def _journal(path: Path) -> Path:
    found = find_journals([path])
    if len(found) > 1:
        raise TtsEvalError(f"{path} holds {len(found)} journals; name one of them: {', '.join(map(str, found))}")
    return found[0]


def _record(uid: str, records: Sequence[Record], path: Path) -> Record:
    by_uid = {record.uid: record for record in records}
    if uid not in by_uid:
        near = difflib.get_close_matches(uid, by_uid, n=3, cutoff=0.0)
        raise TtsEvalError(f"no problem {uid} in {path}; the nearest are {', '.join(near)}; leave --uid out to see all")
    return by_uid[uid]


def _choices(records: Sequence[Record], path: Path, args: argparse.Namespace) -> list[Choice]:
    samples = {task: read_samples_gold(path.parent, task) for task in {record.task for record in records}}
    how = {"selection": args.selection, "aggregation": args.aggregation}
    return [choose(record, gold_of(record, samples[record.task]), default_grader(), **how) for record in records]


def _list(records: Sequence[Record], choices: Sequence[Choice]) -> str:
    rows = [
        [
            record.uid,
            len(record.candidates),
            sum(answer.text is not None for answer in choice.answers),
            _answer(None if choice.selected is None else record.candidates[choice.selected].answer),
            _answer(None if choice.gold is None else choice.gold.answer),
            _verdict(choice),
            "" if record.nodes is None else len(record.nodes),
        ]
        for record, choice in zip(records, choices, strict=True)
    ]
    header = ["uid", "candidates", "answers", "selected", "gold", "verdict", "nodes"]
    return tabulate(rows, header, "github", disable_numparse=True)


def _answer(text: str | None) -> str:
    return "" if text is None else one_line(text, _ANSWER)


def _verdict(choice: Choice) -> str:
    if choice.correct is None:
        return ""
    if choice.selected is not None and choice.correct[choice.selected]:
        return "right"
    return "wrong, right was there" if any(choice.correct) else "wrong"
