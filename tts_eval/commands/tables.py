"""What commands that print tables share: notes, the same rows as CSV, and writing a file that the user has named."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from tts_eval.types import TtsEvalError


def print_notes(command: str, notes: Iterable[str]) -> None:
    """Says on stderr what the user should know of the tables."""
    for note in notes:
        print(f"tts-eval {command}: {note}", file=sys.stderr)


def to_csv(rows: Sequence[Any]) -> str:
    """Writes dataclass instances of one kind, at least one, under a header line; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(rows[0])], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def write_file(path: Path, text: str, mend: str = "choose a file that can be written") -> None:
    """Writes a text.

    Raises:
        TtsEvalError: If the disk refuses; the message ends with `mend`.
    """
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise TtsEvalError(f"{path}: {error.strerror}; {mend}") from error
