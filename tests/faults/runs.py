"""Starts, watches, stops and compares real runs of `tts-eval run` on microMATH."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tts_eval.journal import Record, read_journal
from tts_eval.types import TtsEvalError


HERE = Path(__file__).parent

TASK = "tts_micromath"

PATIENCE = 120.0
"""Seconds that anything here may take on a busy machine."""


def arguments(output: Path, *more: str, adapter: str = "tts-best-of-n", limit: int = 6, **model_args: Any) -> list[str]:
    """`run ...` for `tts-eval`: six problems of microMATH, four samples each, unless told otherwise."""
    given = {"pretrained": "micromath/base", "budget": 4, "temperature": 1, **model_args}
    listed = ",".join(f"{key}={value}" for key, value in given.items() if value is not None)
    return [
        *("run", "--model", adapter, "--model_args", listed, "--tasks", TASK, "--limit", str(limit)),
        *("--metadata", "micromath_train=20", "--log_samples", "--output_path", str(output), *more),
    ]


def served(output: Path, url: str, *more: str, **model_args: Any) -> list[str]:
    """The same on a server."""
    base = {"base": "local-completions", "model": "stub", "base_url": url, "tokenizer_backend": "none"}
    return arguments(output, *more, **{"pretrained": None, **base, "tokenized_requests": False, **model_args})


@dataclass
class Run:
    """A run under way."""

    pid: int
    folder: Path
    _order: Callable[..., Any]
    _status: int | None = None

    @property
    def status(self) -> int | None:
        """Its exit status, minus the signal that ended it, or None while it goes on."""
        if self._status is None:
            self._status = self._order(wait=self.pid)
        return self._status

    @property
    def out(self) -> str:
        """What it wrote to stdout so far."""
        return (self.folder / "stdout").read_text()

    @property
    def err(self) -> str:
        """What it wrote to stderr so far."""
        file = self.folder / "stderr"
        return file.read_text() if file.exists() else ""  # it has yet to begin

    @property
    def line(self) -> str:
        """Our one line at the end of stderr; there must be one, and no traceback."""
        last = self.err.splitlines()[-1]
        assert "Traceback" not in self.err and last.startswith("tts-eval: "), self.err[-4000:]
        return last

    def wait(self) -> int:
        """Waits until it ends."""
        self.until(lambda: self.status is not None)
        assert self.status is not None
        return self.status

    def until(self, true: Callable[[], bool]) -> None:
        """Waits for something that it does."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, f"nothing came of it:\n{self.err[-4000:]}"
            time.sleep(0.02)

    def limit_memory(self, more: int) -> None:
        """Lets its address space grow by so many bytes, and no more."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[0])
        resource.prlimit(self.pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)

    def send(self, number: signal.Signals) -> None:
        """Signals it, unless it has ended."""
        if self.status is None:
            os.kill(self.pid, number)


class Zygote:
    """The handle on `zygote.py`. A context manager, which kills what is still running.

    Args:
        folder: For what runs print, and for the clock.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._runs: list[Run] = []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.has_clock = shutil.which("gcc") is not None
        if self.has_clock:
            library = folder / "clock.so"
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, HERE / "clock.c"], check=True)
            environment["LD_PRELOAD"] = str(library)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        assert self._reply() == "ready"

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        for run in self._runs:
            run.send(signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def start(self, given: list[str], *, env: Mapping[str, str] | None = None, **limits: Any) -> Run:
        """Starts `tts-eval GIVEN` with a changed environment, and `file_bytes` or `clock_jumps`."""
        folder = self._folder / f"run-{len(self._runs)}"
        folder.mkdir()
        names = {name: str(folder / name) for name in ("stdout", "stderr")}
        pid = self._order(arguments=given, env=dict(env or {}), **names, **limits)
        self._runs.append(Run(pid, folder, self._order))
        return self._runs[-1]

    def run(self, given: list[str], **options: Any) -> Run:
        """The same, and waits for its end."""
        run = self.start(given, **options)
        run.wait()
        return run

    def done(self, given: list[str], **options: Any) -> Run:
        """The same, and it must succeed."""
        run = self.run(given, **options)
        assert run.status == 0, run.err[-4000:]
        return run

    def _order(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


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
