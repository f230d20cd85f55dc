"""Rows of step labels as PRM800K (Lightman et al. 2023) and Math-Shepherd (Wang et al. 2023) publish them.

PRM800K rates several next steps after the same beginning: its solutions are the paths of a tree.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tts_eval.schema import from_json
from tts_eval.types import TtsEvalError


class RatedStep(NamedTuple):
    """What somebody thinks of the last of some steps.

    Attributes:
        question: What was asked.
        steps: The solution up to the rated step, without delimiters.
        rating: 1 good, 0 neutral, -1 bad; None if it wasn't rated.
        outcome: Of a whole solution, whether it ends right, where that is known.
    """

    question: str
    steps: tuple[str, ...]
    rating: float | None
    outcome: float | None = None


class RatedPath(NamedTuple):
    """A solution from its first step to one that nobody went on from; see `tts_eval.training.TrainingExample`."""

    question: str
    steps: tuple[str, ...]
    labels: tuple[float | None, ...]
    outcome: float | None
    source: str


@dataclass(frozen=True)
class _Completion:
    text: str
    rating: float | None = None


@dataclass(frozen=True)
class _Step:
    completions: tuple[_Completion, ...] | None = None
    human_completion: _Completion | None = None
    chosen_completion: int | None = None


@dataclass(frozen=True)
class _Steps:
    steps: tuple[_Step, ...]


@dataclass(frozen=True)
class _Question:
    problem: str


@dataclass(frozen=True)
class _Prm800kRow:
    question: _Question
    label: _Steps


@dataclass(frozen=True)
class _ShepherdRow:
    input: str
    label: str


def prm800k_steps(row: Any) -> Iterator[RatedStep]:
    """Reads a row of PRM800K's own .jsonl: a solution with the alternatives to each of its steps.

    Raises:
        TtsEvalError: Names the key that is missing or wrong.
    """
    read: _Prm800kRow = from_json(_Prm800kRow, row)
    path: tuple[str, ...] = ()
    for index, step in enumerate(read.label.steps):
        options = step.completions or ()
        for completion in options:
            yield RatedStep(read.question.problem, (*path, completion.text), completion.rating)
        chosen = step.human_completion
        if step.chosen_completion is not None:
            if not 0 <= step.chosen_completion < len(options):
                raise TtsEvalError(f"label.steps[{index}].chosen_completion is not one of its {len(options)}")
            chosen = options[step.chosen_completion]
        if chosen is None:
            return
        path = (*path, chosen.text)


def prm800k_table(path: Path) -> Iterator[tuple[str, RatedStep]]:
    """Reads PRM800K as a table: a row a rated step, with columns instruction, responses, next_response and rating.

    Yields:
        The row as `file:row N`, counted from 1, and the step.

    Raises:
        TtsEvalError: If the file isn't such a table.
    """
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    columns = ["instruction", "responses", "next_response", "rating"]
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise TtsEvalError(f"{path}: {str(error).splitlines()[0]}; check --data") from error
    if missing := [column for column in columns if column not in table.column_names]:
        raise TtsEvalError(f"{path}: has no column {' and no '.join(missing)}, so it isn't PRM800K")
    for number, row in enumerate(table.select(columns).to_pylist(), start=1):
        rating = row["rating"]
        if rating is not None and math.isnan(rating):
            rating = None
        steps = (*row["responses"], row["next_response"])
        yield f"{path}:row {number}", RatedStep(row["instruction"], steps, rating)


def math_shepherd_steps(row: Any) -> Iterator[RatedStep]:
    """Reads a row of Math-Shepherd: `input` marks the end of each step, `label` has a + or - in the same place.

    Raises:
        TtsEvalError: If the two texts don't belong together, or no step begins with "Step 1:".
    """
    read: _ShepherdRow = from_json(_ShepherdRow, row)
    *parts, rest = read.input.split("ки")
    signs, at = [], 0
    for part in parts:
        at += len(part)
        signs.append(read.label[at : at + 1])
        at += 1
    rebuilt = "".join(part + sign for part, sign in zip(parts, signs, strict=True)) + rest
    if rebuilt != read.label or not set(signs) <= {"+", "-"}:
        raise TtsEvalError("label isn't input with a + or - for each ки")
    question, mark, first = (parts[0] if parts else "").rpartition("Step 1:")
    if not mark:
        raise TtsEvalError("input has no Step 1: that ends with ки")
    steps = tuple(step.strip() for step in (mark + first, *parts[1:]))
    for count, sign in enumerate(signs, start=1):
        good = sign == "+"
        outcome = float(good) if count == len(steps) else None
        yield RatedStep(question.strip(), steps[:count], 1.0 if good else -1.0, outcome)


def rated_paths(rated: Iterable[tuple[str, RatedStep]], neutral: float) -> Iterator[RatedPath]:
    """Puts rated steps together to solutions.

    Where solutions share steps, only the first has their labels: a step counts once, however many go on from it. One
    that was rated several times gets the mean. Unrated steps at the end are left out.

    Args:
        rated: Where each comes from, and the step.
        neutral: The label of a step that was rated neutral.

    Raises:
        TtsEvalError: If a rating isn't one.
    """
    labels: defaultdict[tuple[str, tuple[str, ...]], list[float]] = defaultdict(list)
    outcomes: dict[tuple[str, tuple[str, ...]], float | None] = {}
    sources: dict[tuple[str, tuple[str, ...]], str] = {}
    label_of = {1: 1.0, 0: neutral, -1: 0.0}
    for source, step in rated:
        if step.rating is None:
            continue
        if step.rating not in label_of:
            raise TtsEvalError(f"{source}: a rating must be 1, 0 or -1, not {step.rating}")
        key = (step.question, step.steps)
        labels[key].append(label_of[int(step.rating)])
        outcomes[key] = step.outcome
        sources.setdefault(key, source)
    unused = dict(labels)
    inner = {(question, steps[:length]) for question, steps in labels for length in range(1, len(steps))}
    for question, steps in labels:
        if (question, steps) in inner:
            continue
        ratings = [unused.pop((question, steps[: i + 1]), None) for i in range(len(steps))]
        means = tuple(None if found is None else sum(found) / len(found) for found in ratings)
        yield RatedPath(question, steps, means, outcomes[question, steps], sources[question, steps])
