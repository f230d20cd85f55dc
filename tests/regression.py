"""A small pinned sweep on microMATH, and what it gave when results/regression was written (docs/regression.md).

`make regression-update` runs this file: it rewrites the expected values and shows every number that moved.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from tts_eval.cli import main as tts_eval
from tts_eval.commands.sweep_cells import finished
from tts_eval.commands.sweep_plan import Cell, cells_of, read_sweep
from tts_eval.engines import hf
from tts_eval.engines.summation import fix_order
from tts_eval.journal import Node, Record, read_journal
from tts_eval.model_adapters.records import answer_of
from tts_eval.plugin import register_adapters
from tts_eval.selection import EVERY_SELECTION
from tts_eval.types import Candidate


FOLDER = Path(__file__).parents[1] / "results" / "regression"

SWEEPS = ("search", "revise")
"""One for each policy: NAME.yaml in the folder."""

PLACES = {
    "cells": ("task", "strategy", "budget"),
    "problems": ("task", "strategy", "budget", "problem"),
    "candidates": ("task", "strategy", "budget", "problem", "candidate"),
}
"""The tables, NAME.csv in the folder, and which columns say what a line's numbers belong to."""

APPROXIMATE = ("logprob", "scores")
"""Numbers that floats decide; all others must be equal."""

TOLERANCE = 1e-4

_METRICS = ("accuracy", "coverage", "candidates_correct", "generations", "tokens")
_COSTS = (
    *("generations", "prefill_tokens", "decode_tokens", "lookahead_tokens", "verifier_tokens"),
    *("reused_tokens", "verifier_reused_tokens"),
)
_PACKAGES = ("torch", "transformers", "lm-eval", "math-verify")
_SHOWN = 40

Row = dict[str, str]
Table = dict[tuple[str, ...], Row]
Tables = dict[str, Table]

fix_order()  # before any other test multiplies


@dataclass(frozen=True)
class Moved:
    """A number that isn't what it was.

    Attributes:
        table: One of `PLACES`.
        place: What it belongs to.
        number: Its column.
        old: The expected value; None where the place is new.
        new: The value now; None where the place is gone.
    """

    table: str
    place: tuple[str, ...]
    number: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        """One line."""
        where = ", ".join(f"{column} {value}" for column, value in zip(PLACES[self.table], self.place, strict=True))
        return f"{where}: {self.number}: {self.old or 'nothing'} -> {self.new or 'nothing'}"


def run(folder: Path) -> None:
    """Runs the cells of both sweeps that have no results in the folder yet."""
    # The verifier reads what problems have in common for the one that comes first, which must be no matter of seconds.
    untimed = mock.patch.object(hf, "_POLL_SECONDS", math.inf)
    on_cpu = mock.patch.object(torch.cuda, "is_available", return_value=False)
    with untimed, on_cpu:
        for name in SWEEPS:
            output = ("--output", str(folder / name), "--metadata", "micromath_train=10")
            status = tts_eval(["sweep", str(FOLDER / f"{name}.yaml"), *output])
            if status:
                sys.exit(status)


def measured(folder: Path) -> Tables:
    """Reads what `run` has left in a folder."""
    register_adapters()
    tables: Tables = {name: {} for name in PLACES}
    for name in SWEEPS:
        for cell in cells_of(read_sweep(str(FOLDER / f"{name}.yaml")), folder / name):
            place = (cell.task, cell.strategy, str(cell.budget))
            results = finished(cell)
            assert results is not None, cell.name
            scores = results["results"][cell.task]
            tables["cells"][place] = {name: _text(scores.get(f"{name},none")) for name in _METRICS}
            for record, sample in _problems(cell):
                tables["problems"][(*place, record.uid)] = _problem(record, sample)
                for index, candidate in enumerate(record.candidates):
                    tables["candidates"][(*place, record.uid, str(index))] = _candidate(candidate)
    return tables


def _problems(cell: Cell) -> Iterator[tuple[Record, Mapping[str, Any]]]:
    """A cell's records with lm-eval's lines, in the order of the task."""
    records = {record.uid: record for record in read_journal(cell.journal)[1]}
    (path,) = cell.folder.glob("samples_*.jsonl")
    for line in path.read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        yield records[sample["doc"]["unique_id"]], sample


def _problem(record: Record, sample: Mapping[str, Any]) -> Row:
    (selected,) = sample["filtered_resps"]
    answers = {candidate.text: candidate.answer for candidate in record.candidates}
    return {
        "correct": _text(sample["accuracy"]),
        "selected": _text(answers[selected]),
        **{selection: _text(answers[answer_of(record, selection, "last")]) for selection in EVERY_SELECTION},
        **{name: _text(getattr(record.usage, name)) for name in _COSTS},
        "sampled": "" if record.nodes is None else _hash(record.nodes),
    }


def _candidate(candidate: Candidate) -> Row:
    scores = candidate.step_scores if candidate.outcome_score is None else (candidate.outcome_score,)
    return {
        "answer": _text(candidate.answer),
        "tokens": _text(candidate.tokens),
        "finish": candidate.finish,
        "logprob": f"{candidate.logprob:.6f}",
        "scores": " ".join(f"{score:.6f}" for score in scores or ()),
        "text": candidate.text.replace("\n", "\\n"),
    }


def _hash(nodes: Sequence[Node]) -> str:
    """Of all that was sampled for a problem, in its order."""
    sampled = [(node.path, node.lookahead, node.steps, node.finish) for node in nodes]
    return hashlib.blake2b(repr(sampled).encode(), digest_size=8).hexdigest()


def _text(value: object) -> str:
    return "" if value is None else str(value)


def compare(expected: Tables, got: Tables) -> list[Moved]:
    """Finds the numbers that moved, places that are there in one of both included."""
    moved = []
    for table in PLACES:
        for place in {**expected[table], **got[table]}:
            old, new = expected[table].get(place, {}), got[table].get(place, {})
            moved += [
                Moved(table, place, number, old.get(number), new.get(number))
                for number in {**old, **new}
                if not _same(number, old.get(number), new.get(number))
            ]
    return moved


def _same(number: str, old: str | None, new: str | None) -> bool:
    if number not in APPROXIMATE or old is None or new is None:
        return old == new
    pairs = list(zip(old.split(), new.split()))
    return len(old.split()) == len(new.split()) and all(abs(float(a) - float(b)) <= TOLERANCE for a, b in pairs)


def report(moved: Sequence[Moved], folder: Path = FOLDER) -> str:
    """Says which numbers moved, and what that may mean."""
    there, here = json.loads((folder / "made_with.json").read_text(encoding="utf-8")), environment()
    differing = [name for name in here if there.get(name) != here[name]]
    lines = [
        f"Not as in results/regression (expected -> got), {len(moved)} in all:",
        *(f"  {one}" for one in moved[:_SHOWN]),
        *(["  ..."] if len(moved) > _SHOWN else []),
        *(f"There with {name} {there.get(name)}, here with {here[name]}." for name in differing),
        "Where a processor or library rounds the last digit otherwise, a draw near a boundary goes the other way, and",
        "all tokens after it are others, without any fault in the code: docs/regression.md says how to tell.",
        "If the numbers are to change, run `make regression-update` and commit results/regression.",
    ]
    return "\n".join(lines)


def environment() -> dict[str, str]:
    """What decides how floats are rounded, and answers extracted: the processor's vector instructions, and packages."""
    return {"cpu": torch.backends.cpu.get_cpu_capability(), **{name: version(name) for name in _PACKAGES}}


def read(folder: Path = FOLDER) -> Tables:
    """Reads the expected values; a table without a file is empty."""
    tables: Tables = {name: {} for name in PLACES}
    for name, columns in PLACES.items():
        path = folder / f"{name}.csv"
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    tables[name][tuple(row.pop(column) for column in columns)] = row
    return tables


def update(got: Tables, folder: Path = FOLDER) -> list[Moved]:
    """Rewrites the expected values and returns what moved; floats within the tolerance stay as they are written."""
    expected = read(folder)
    for name, columns in PLACES.items():
        rows = []
        for place, new in got[name].items():
            old = expected[name].get(place, {})
            kept = {number: old[number] for number in new if _same(number, old.get(number), new[number])}
            rows.append({**dict(zip(columns, place, strict=True)), **new, **kept})
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    (folder / "made_with.json").write_text(json.dumps(environment(), indent=1) + "\n", encoding="utf-8")
    return compare(expected, got)


def main() -> None:
    """Runs the sweeps and takes what they give for what is expected from now on."""
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))
        moved = update(measured(Path(folder)))
    for one in moved:
        print(one)
    print(f"{len(moved)} numbers moved (old -> new)")


if __name__ == "__main__":
    main()
