"""Rows of JSON Lines and CSV files, one at a time, each with the place that an error names."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from tts_eval.types import TtsEvalError


Kind = Literal["json", "csv"]

_BOM = b"\xef\xbb\xbf"

_LONGEST_CELL = 1 << 26  # characters; a quote that is never closed would otherwise read the whole file into one cell


class Row(NamedTuple):
    """One row.

    Attributes:
        place: `file:line`; of a CSV row that spans lines the first.
        values: Column to value; in CSV all of them are text.
    """

    place: str
    values: dict[str, Any]


@contextmanager
def blame(place: str) -> Iterator[None]:
    """Says of whatever is wrong with a row where that is."""
    try:
        yield
    except TtsEvalError as error:
        raise TtsEvalError(f"{place}: {error}; mend or delete the line") from error


def kind_of(path: Path) -> Kind:
    """Tells JSON Lines from CSV by the first character.

    Raises:
        TtsEvalError: If the file can't be read, is empty, or is one JSON list.
    """
    with _opened(path) as file:
        start = file.read(4096).removeprefix(_BOM).lstrip()[:1]
    if not start:
        raise TtsEvalError(f"{path}: is empty; check the path")
    if start == b"[":
        raise TtsEvalError(f"{path}: is one JSON list; write one object a line, for example with jq -c '.[]'")
    return "json" if start == b"{" else "csv"


def read_rows(path: Path, kind: Kind) -> Iterator[Row]:
    """Reads a file row by row; never more than one is in memory.

    Raises:
        TtsEvalError: Names the file, the line and what is wrong in it.
    """
    with _opened(path) as file:
        yield from (_json_rows if kind == "json" else _csv_rows)(path, file)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise TtsEvalError(f"{path}: {error.strerror}; check the path") from error
    with file:
        yield file


def _json_rows(path: Path, file: BinaryIO) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if text.isspace():
            continue
        place = f"{path}:{number}"
        with blame(place):
            values = _object(text)
        yield Row(place, values)


def _object(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TtsEvalError(f"not JSON: {error}") from error
    if not isinstance(values, dict):
        raise TtsEvalError("not a JSON object")
    return values


def _csv_rows(path: Path, file: BinaryIO) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(_decoded(file), strict=True)
    names: list[str] | None = None
    while True:
        place = f"{path}:{reader.line_num + 1}"
        with blame(place):
            cells = _next(reader)
            if names is not None and cells and len(cells) != len(names):
                raise TtsEvalError(f"{len(cells)} cells under a header of {len(names)}")
            if names is None and cells and len(set(cells)) < len(cells):
                raise TtsEvalError("two columns have the same name")
        if cells is None:
            return
        if cells and names is not None:
            yield Row(place, dict(zip(names, cells, strict=True)))
        names = names or cells


def _next(reader: Iterator[list[str]]) -> list[str] | None:
    """The next row, empty for a blank line; None at the end."""
    try:
        return next(reader, None)
    except (csv.Error, UnicodeDecodeError) as error:
        raise TtsEvalError(f"not CSV: {error}") from error


def _decoded(file: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(file):
        yield (line.removeprefix(_BOM) if number == 0 else line).decode()
