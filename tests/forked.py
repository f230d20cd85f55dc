"""The literal commands, started as forks of one process that has imported everything (`zygote.py`)."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


PATIENCE = 300.0
"""Seconds that anything here may take on a busy machine."""


@dataclass
class Run:
    """A command under way."""

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
        return self._text("stdout")

    @property
    def err(self) -> str:
        """What it wrote to stderr so far."""
        return self._text("stderr")

    def _text(self, name: str) -> str:
        file = self.folder / name
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
        folder: For what commands print.
        preload: A library that they all load before any other.
    """

    def __init__(self, folder: Path, preload: Path | None = None):
        self._folder = folder
        self._runs: list[Run] = []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if preload is not None:
            environment["LD_PRELOAD"] = str(preload)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
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

    def start(self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **limits: Any) -> Run:
        """Starts a command.

        Args:
            command: `lm_eval` or `tts-eval`, and its arguments.
            env: Changes of the environment.
            limits: `file_bytes`, how large a file may get; `clock_jumps`, seconds that the clock is turned back ever so
                often (needs a library to `preload`).
        """
        folder = self._folder / f"run-{len(self._runs)}"
        folder.mkdir()
        places = {"cwd": str(Path.cwd()), "stdout": str(folder / "stdout"), "stderr": str(folder / "stderr")}
        pid = self._order(command=[*map(str, command)], env={**os.environ, **(env or {})}, **places, **limits)
        self._runs.append(Run(pid, folder, self._order))
        return self._runs[-1]

    def run(self, command: Sequence[str | Path], **options: Any) -> Run:
        """The same, and waits for its end."""
        run = self.start(command, **options)
        run.wait()
        return run

    def done(self, command: Sequence[str | Path], **options: Any) -> Run:
        """The same, and it must succeed."""
        run = self.run(command, **options)
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
