"""The real runs that faults happen to: `tts-eval run` on microMATH, and how their outcomes are compared."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tts_eval.journal import Record, read_journal
from tts_eval.types import TtsEvalError


HERE = Path(__file__).parent

TASK = "tts_micromath"


def clock(folder: Path) -> Path | None:
    """A library by which a process can turn its clock back, compiled into a folder; None without a compiler."""
    if shutil.which("gcc") is None:
        return None
    library = folder / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, HERE / "clock.c"], check=True)
    return library


def arguments(output: Path, *more: str, adapter: str = "tts-best-of-n", limit: int = 6, **model_args: Any) -> list[str]:
    """`tts-eval run ...`: six problems of microMATH, four samples each, unless told otherwise."""
    given = {"pretrained": "micromath/base", "budget": 4, "temperature": 1, **model_args}
    listed = ",".join(f"{key}={value}" for key, value in given.items() if value is not None)
    return [
        *("tts-eval", "run", "--model", adapter, "--model_args", listed, "--tasks", TASK, "--limit", str(limit)),
        *("--metadata", "micromath_train=20", "--log_samples", "--output_path", str(output), *more),
    ]


def served(output: Path, url: str, *more: str, **model_args: Any) -> list[str]:
    """The same on a server."""
    base = {"base": "local-completions", "model": "stub", "base_url": url, "tokenizer_backend": "none"}
    return arguments(output, *more, **{"pretrained": None, **base, "tokenized_requests": False, **model_args})


def journals(output: Path) -> list[Path]:
    """All journals below a folder."""
    return sorted(output.rglob("candidates_*.jsonl"))


def problems(output: Path) -> int:
    """How many problems are in the journals so far."""
    try:
        return sum(len(read_journal(path)[1]) for path in journals(output))
    except TtsEvalError:
        return 0


def content(output: Path) -> dict[str, Record]:
    """The one journal's problems by uid; reading refuses a uid that is there twice."""
    (path,) = journals(output)
    return {record.uid: record for record in read_journal(path)[1]}


def require_equal(found: Path, expected: Path, *, twice: bool = False) -> None:
    """Every candidate must be that of the uninterrupted run, and so must lm-eval's results.

    Args:
        found: A run's output.
        expected: That of the uninterrupted one.
        twice: Whether the run may have paid for some tokens twice.
    """
    mine, theirs = content(found), content(expected)
    assert sorted(mine) == sorted(theirs)
    for uid, record in theirs.items():
        assert mine[uid].candidates == record.candidates, uid
    paid = ("tokens,none", "tokens_stderr,none") if twice else ()
    reported = [{k: v for k, v in results(of).items() if k not in paid} for of in (found, expected)]
    assert reported[0] == reported[1]


def results(output: Path) -> dict[str, Any]:
    """What lm-eval reports of the task in its newest file, without the ledger, which holds seconds."""
    path = sorted(output.rglob("results_*.json"))[-1]
    found = json.loads(path.read_text())["results"][TASK]
    return {name: value for name, value in found.items() if "seconds" not in name}
