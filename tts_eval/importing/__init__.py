"""Other people's generations, read one problem at a time into what a journal holds (docs/import.md has the formats)."""

from __future__ import annotations

from tts_eval.importing.formats import COLUMNS, FORMATS, detect
from tts_eval.importing.problems import ImportedProblem, Reading, read_problems


__all__ = ["COLUMNS", "FORMATS", "ImportedProblem", "Reading", "detect", "read_problems"]
