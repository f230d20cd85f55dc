"""The formats of other people's generations, as a table: which columns hold what, and how a row is unpacked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tts_eval.importing.rows import Kind, kind_of, read_rows
from tts_eval.schema import from_json
from tts_eval.types import TtsEvalError


@dataclass(frozen=True)
class Columns:
    """The names of the columns.

    Attributes:
        uid: What identifies the problem.
        text: A candidate's text, or the list of those of all candidates.
        scores: Verifier scores: of a candidate one number, or a list with one a step.
        gold: The gold answer, or a worked solution that ends with it.
        level: The problem's difficulty label.
        tokens: Length of a candidate in tokens.
    """

    uid: str = "uid"
    text: str = "text"
    scores: str = "scores"
    gold: str = "gold"
    level: str = "level"
    tokens: str = "tokens"


COLUMNS = tuple(field.name for field in fields(Columns))


def _as_it_is(values: Mapping[str, Any], _: Columns) -> Mapping[str, Any]:
    return values


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        kind: JSON Lines or CSV.
        columns: The names that it gives them.
        signature: Columns by which a file is known to have this format.
        required: Fields that every row must have.
        unpack: From a row's values to the same, with numbers and lists in place of whatever holds them.
    """

    kind: Kind
    columns: Columns
    signature: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset({"uid", "text"})
    unpack: Callable[[Mapping[str, Any], Columns], Mapping[str, Any]] = _as_it_is


@dataclass(frozen=True)
class _Output:
    """What OpenR writes of one solution. Its `completion_tokens` are no lengths: the last has the sum."""

    text: str
    value: Any = None


def _openr(values: Mapping[str, Any], columns: Columns) -> Mapping[str, Any]:
    outputs: tuple[_Output, ...] = from_json(tuple[_Output, ...], values[columns.text], columns.text)
    texts, scores = [one.text for one in outputs], [one.value for one in outputs]
    return {**values, columns.text: texts, columns.scores: scores}


def _cells(values: Mapping[str, Any], columns: Columns) -> Mapping[str, Any]:
    """In CSV an empty cell stands for nothing, and what should be a number or a list is still text."""
    known = {name: value or None for name, value in values.items() if name != columns.text}
    for name in (columns.scores, columns.level, columns.tokens):
        if cell := known.get(name):
            known[name] = _parsed(cell)
    return {**values, **known}


def _parsed(cell: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _openprm(values: Mapping[str, Any], columns: Columns) -> Mapping[str, Any]:
    lists = {
        columns.text: _printed_texts(values[columns.text], columns.text),
        columns.scores: _printed_numbers(values[columns.scores], columns.scores),
    }
    return {**_cells({name: value for name, value in values.items() if name not in lists}, columns), **lists}


_LITERAL = r"""'[^'\\\n]*(?:\\.[^'\\\n]*)*'|"[^"\\\n]*(?:\\.[^"\\\n]*)*\""""
_LITERALS = re.compile(rf"\s*\[(?:\s*,?\s*(?:{_LITERAL}))*\s*\]\s*")


def _printed_texts(cell: str, name: str) -> list[str]:
    r"""Reads `['a' "it's\nb"]`, a list of strings as numpy or Python prints it. Nothing is evaluated."""
    if _LITERALS.fullmatch(cell) is None:
        raise TtsEvalError(f"{name} is no list of quoted strings as numpy prints it (long ones it cuts short)")
    return [_unescaped(literal[1:-1], name) for literal in re.findall(_LITERAL, cell)]


def _unescaped(text: str, name: str) -> str:
    try:
        # The codec reads Latin-1; characters beyond it become escapes first, which it turns back.
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError as error:
        raise TtsEvalError(f"{name} has an escape that is none: {error.reason}") from error


def _printed_numbers(cell: str, name: str) -> list[float]:
    """Reads `[0.5 1.e-03]`, a list of numbers as numpy or Python prints it."""
    inside = re.fullmatch(r"\s*\[([^\[\]]*)\]\s*", cell)
    try:
        if inside is not None:
            return [float(number) for number in inside[1].replace(",", " ").split()]
    except ValueError:
        pass
    raise TtsEvalError(f"{name} is no list of numbers as numpy prints it (long ones it cuts short)")


FORMATS: dict[str, Format] = {
    "search-and-learn": Format(
        kind="json",
        columns=Columns(uid="unique_id", text="completions", gold="answer", tokens="completion_tokens"),
        signature=frozenset({"completions", "scores"}),
    ),
    "openr": Format(
        kind="json",
        columns=Columns(uid="question", text="output", scores="value", gold="groundtruth"),
        signature=frozenset({"question", "groundtruth", "output"}),
        unpack=_openr,
    ),
    "openprm": Format(
        kind="csv",
        columns=Columns(uid="unique_id", text="diverse_response", scores="diverse_last_rewards", gold="answer"),
        signature=frozenset({"diverse_response", "diverse_last_rewards"}),
        required=frozenset({"uid", "text", "scores"}),
        unpack=_openprm,
    ),
    "jsonl": Format(kind="json", columns=Columns()),
    "csv": Format(kind="csv", columns=Columns(), unpack=_cells),
}
"""By name; the two that have no signature are for everything else."""


def detect(path: Path) -> str:
    """Tells a file's format by the columns of its first row.

    Returns:
        A name in `FORMATS`.

    Raises:
        TtsEvalError: If the file can't be read, holds nothing, or is a journal already.
    """
    kind = kind_of(path)
    first = next(read_rows(path, kind), None)
    if first is None:
        raise TtsEvalError(f"{path}: holds no row under its header; check the path")
    if kind == "json" and "schema" in first.values:
        raise TtsEvalError(f"{path}: is a journal already; tts-eval select reads it as it is")
    return next(
        name for name, known in FORMATS.items() if known.kind == kind and known.signature <= first.values.keys()
    )
