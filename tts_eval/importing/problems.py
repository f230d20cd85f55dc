"""From rows to problems with candidates: answers extracted, steps cut, scores checked, one problem at a time."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tts_eval.answers import extract_answer
from tts_eval.engines.stops import split_steps
from tts_eval.importing.formats import COLUMNS, Columns, Format
from tts_eval.importing.rows import Row, blame, read_rows
from tts_eval.schema import from_json
from tts_eval.selection import aggregate
from tts_eval.types import Candidate, TtsEvalError


_LONGEST = 1 << 53  # tokens; sums of them are still exact


@dataclass(frozen=True)
class Reading:
    """How a file is read.

    Attributes:
        format: Its format.
        columns: The names of its columns.
        named: Those fields of `columns` that the user has named, so that they must be there.
        step_delimiter: What ends a step.
        answer_fallback: See `tts_eval.answers.extract_answer`.
        aggregation: With one of `tts_eval.selection.AGGREGATIONS` step scores become one score of the whole; with
            None there must be as many as steps.
    """

    format: Format
    columns: Columns
    named: frozenset[str] = frozenset()
    step_delimiter: str = "\n\n"
    answer_fallback: str | None = None
    aggregation: str | None = None


@dataclass(frozen=True)
class ImportedProblem:
    """A problem and its candidates.

    Attributes:
        place: `file:line` of its first row.
        uid: The problem's identifier, unique within a file.
        gold: The gold answer, or None.
        level: The problem's difficulty label, or None.
        candidates: In the file's order, each a chain of its own.
    """

    place: str
    uid: str
    gold: str | None
    level: str | float | None
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class _Line(ImportedProblem):
    """What one row says. `whole` if it lists all candidates, so that no other row may go on with the problem."""

    whole: bool


def read_problems(path: Path, reading: Reading) -> Iterator[ImportedProblem]:
    """Reads a file; rows of one candidate each that follow one another with the same uid are one problem.

    Raises:
        TtsEvalError: Names the file, the line, what is wrong there, and what mends it.
    """
    lines = (_line(row, reading) for row in read_rows(path, reading.format.kind))
    seen: dict[str, str] = {}
    for uid, group in itertools.groupby(lines, key=lambda line: line.uid):
        problem = _joined(list(group))
        if uid in seen:
            raise TtsEvalError(
                f"{problem.place}: problem {uid!r} is already at {seen[uid]}; give each problem its own uid, and sort "
                "the file so that the lines of a problem follow one another"
            )
        seen[uid] = problem.place
        yield problem


def _joined(lines: Sequence[_Line]) -> ImportedProblem:
    first = lines[0]
    for line in lines[1:]:
        if first.whole or line.whole:
            raise TtsEvalError(
                f"{line.place}: problem {line.uid!r} is already at {first.place}; give each problem its own uid"
            )
        if (line.gold, line.level) != (first.gold, first.level):
            raise TtsEvalError(
                f"{line.place}: another gold answer or level than at {first.place}, but the same uid {line.uid!r}; "
                "give each problem its own uid"
            )
    candidates = itertools.chain.from_iterable(line.candidates for line in lines)
    numbered = tuple(replace(candidate, chain=i) for i, candidate in enumerate(candidates))
    return ImportedProblem(first.place, first.uid, first.gold, first.level, numbered)


def _line(row: Row, reading: Reading) -> _Line:
    columns = reading.columns
    for field in COLUMNS:
        name = getattr(columns, field)
        if field in reading.format.required | reading.named and name not in row.values:
            raise TtsEvalError(
                f"{row.place}: no column {name!r} for the {field}, only {', '.join(row.values)[:300]}; name the right "
                f"one with --{field}, or the format with --format"
            )
    with blame(row.place):
        values = reading.format.unpack(row.values, columns)
        uid, gold = (_plain(values.get(name), name) for name in (columns.uid, columns.gold))
        if uid in (None, ""):
            raise TtsEvalError(f"{columns.uid} is empty")
        # Of a worked solution only the final answer is gold, as in lm-eval's own samples.
        answer = None if gold is None else extract_answer(str(gold)) or str(gold)
        level = _plain(values.get(columns.level), columns.level)
        whole = not isinstance(values[columns.text], str)
        return _Line(row.place, str(uid), answer, level, tuple(_candidates(values, whole, reading)), whole)


def _plain(value: Any, name: str) -> str | float | None:
    if value is None or type(value) in (str, int) or (type(value) is float and math.isfinite(value)):
        known: str | float | None = value
        return known
    raise TtsEvalError(f"{name} must be a string or a finite number, not {json.dumps(value)[:60]}")


def _candidates(values: Mapping[str, Any], whole: bool, reading: Reading) -> Iterator[Candidate]:
    columns = reading.columns
    texts = values[columns.text] if whole else [values[columns.text]]
    if not from_json(tuple[str, ...], texts, columns.text):
        raise TtsEvalError(f"{columns.text} is empty")
    lists = [_one_each(values.get(name), name, len(texts), whole) for name in (columns.scores, columns.tokens)]
    for i, (text, score, tokens) in enumerate(zip(texts, *lists, strict=True)):
        where = f"[{i}]" if whole else ""
        length = from_json(int | None, tokens, f"{columns.tokens}{where}")
        if length is not None and not 0 <= length <= _LONGEST:
            raise TtsEvalError(f"{columns.tokens}{where} is no length: {length}")
        yield _candidate(text, _score(score, f"{columns.scores}{where}"), length, reading, f"{columns.text}{where}")


def _one_each(value: Any, name: str, count: int, whole: bool) -> Sequence[Any]:
    """What a column says of each candidate of the row."""
    if not whole:
        return [value]
    if value is None:
        return [None] * count
    items: tuple[Any, ...] = from_json(tuple[Any, ...], value, name)
    if len(items) != count:
        raise TtsEvalError(f"{name} has {len(items)} entries for {count} candidates")
    return items


def _score(value: Any, where: str) -> tuple[float, ...] | float | None:
    if value is None:
        return None
    score: tuple[float, ...] | float = from_json(tuple[float, ...] if isinstance(value, list) else float, value, where)
    return score


def _candidate(
    text: str, score: tuple[float, ...] | float | None, tokens: int | None, reading: Reading, where: str
) -> Candidate:
    steps = split_steps(text, reading.step_delimiter)
    if isinstance(score, tuple) and reading.aggregation is not None:
        with np.errstate(over="ignore"):  # The next line says so with the place.
            one = aggregate(score, reading.aggregation) if score else None
        score = from_json(float | None, one, f"{reading.aggregation} of the scores of {where}")
    if isinstance(score, tuple):
        steps = _scored_steps(text, steps, len(score), reading.step_delimiter, where)
    return Candidate(
        text=text,
        answer=extract_answer(text, reading.answer_fallback),
        steps=steps,
        step_scores=score if isinstance(score, tuple) else None,
        outcome_score=None if isinstance(score, tuple) else score,
        logprob=None,
        tokens=tokens,
        finish="eos",  # No format says why it ended.
        chain=0,
        attempt=0,
    )


def _scored_steps(text: str, steps: tuple[str, ...], scores: int, delimiter: str, where: str) -> tuple[str, ...]:
    """The steps that have as many scores: ours, or with every delimiter an end, as PRMs often see them."""
    if len(steps) == scores:
        return steps
    *closed, rest = text.split(delimiter)
    plain = (*(piece + delimiter for piece in closed), rest)
    if len(plain) == scores:
        return plain
    raise TtsEvalError(
        f"{where} has {scores} step scores but {len(steps)} steps; name what separates steps with --step_delimiter, or "
        "take one score a solution with --aggregation last"
    )
