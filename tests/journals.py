"""Journals that tests write by hand."""

from __future__ import annotations

from pathlib import Path

from tts_eval.journal import Journal, Record
from tts_eval.jsonl import Header


def write(path: Path, *records: Record) -> Path:
    """Writes a finished journal."""
    with Journal.open(path, Header({"model": "m", "task": "toy", "seed": 0})) as journal:
        for record in records:
            journal.append(record)
    return path
