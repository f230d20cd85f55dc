"""What commands that print tables share: notes, and writing a file that the user has named."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from tts_eval.types import TtsEvalError


def print_notes(command: str, notes: Iterable[str]) -> None:
    """Says on stderr what the user should know of the tables."""
    for note in notes:
        print(f"tts-eval {command}: {note}", file=sys.stderr)


def write_file(path: Path, text: str, mend: str = "choose a file that can be written") -> None:
    """Writes a text.

    Raises:
        TtsEvalError: If the disk refuses; the message ends with `mend`.
    """
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise TtsEvalError(f"{path}: {error.strerror}; {mend}") from error
