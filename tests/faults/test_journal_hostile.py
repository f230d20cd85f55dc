"""Journals that somebody made to do harm: each is refused with one line that names the place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journals import write

from tts_eval.journal import Record, read_journal
from tts_eval.types import Candidate, TtsEvalError, Usage


RECORD = Record(
    "a",
    "toy",
    {"name": "best-of-n"},
    1,
    0,
    (Candidate("4", "4", ("4",), (0.5,), None, None, 1, "eos", 0, 0),),
    Usage(),
)


def line(**changes: Any) -> str:
    return json.dumps({**RECORD.to_json(), "uid": "b", **changes})


def with_text(key: str, text: str) -> str:
    """The line with JSON of our own behind a key."""
    return line().replace(f'"{key}": {json.dumps(RECORD.to_json()[key])}', f'"{key}": {text}')


HOSTILE = {
    "deep list": ("[" * 100_000, "nested too deeply"),
    "deep list, whole": ('{"schema": 1, "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    "deep strategy": (with_text("level", "[" * 300 + "]" * 300), "level[0][0]"),
    "a million digits": (with_text("budget", "9" * 1_000_000), "not JSON"),
    "a budget of 4,000 digits": (with_text("budget", "9" * 4000), "budget is out of range"),
    "a negative budget": (line(budget=-1), "budget is out of range"),
    "a score of 4,000 digits": (line().replace("0.5", "9" * 4000), "must be a finite number"),
    "NaN": (line().replace("0.5", "NaN"), "must be a finite number"),
    "infinity by exponent": (line().replace("0.5", "1e999"), "must be a finite number"),
    "NaN in a strategy": (with_text("strategy", '{"name": "x", "width": NaN}'), "must be a finite number"),
    "key twice": (line().replace('"budget": 1', '"budget": 1, "budget": 1000000'), "has a key twice"),
    "wrong types": (line(candidates={"0": 1}), "candidates must be a list"),
    "list for text": (line(task=["toy"]), "task must be a string"),
    "truth for a number": (line(budget=True), "budget must be an integer"),
    "lone surrogate": (with_text("task", '"\\ud800"'), "no Unicode text"),
    "lone surrogate in a level": (line(level={"\udfff": 1}), "no Unicode text"),
    "NUL": ("\0" * 100, "not JSON"),
    "another encoding": (line().encode("utf-16").decode("latin-1"), "not JSON"),
    "a number": ("7", "not a JSON object"),
    "a schema of 10,000 levels": ('{"schema": ' + '{"a":' * 400 + "1" + "}" * 400 + "}", "schema is"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_line_is_refused(name: str, tmp_path: Path) -> None:
    text, words = HOSTILE[name]
    path = write(tmp_path / "j.jsonl", RECORD)
    with path.open("ab") as file:
        file.write(text.encode("latin-1") + b"\n" + line().encode() + b"\n")
    with pytest.raises(TtsEvalError, match=r"j\.jsonl:3: ") as refused:
        read_journal(path)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 500 and "\n" not in str(refused.value)


@pytest.mark.parametrize("command", ["select", "show", "diagnose"])
def test_commands_say_so_in_one_line(
    command: str, tmp_path: Path, tts_eval_command: Callable[..., tuple[int, str, str]]
) -> None:
    path = write(tmp_path / "candidates_toy_2026-01-31T12-00-00.jsonl", RECORD)
    with path.open("a") as file:
        file.write("[" * 100_000 + "\n" + line() + "\n")
    status, _, err = tts_eval_command(command, path, *(["--uid", "a"] if command == "show" else []))
    assert status == 1 and err.startswith("tts-eval: ") and err.count("\n") == 1 and "nested too deeply" in err


def test_a_file_larger_than_memory(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with path.open("wb") as file:
        file.truncate(8 << 30)
    code = (
        "import resource, sys; from pathlib import Path; from tts_eval.journal import read_journal\n"
        "from tts_eval.types import TtsEvalError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "try: read_journal(Path(sys.argv[1]))\n"
        "except TtsEvalError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "larger than the memory" in done.stdout, done.stderr
