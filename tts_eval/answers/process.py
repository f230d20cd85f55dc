"""The parent's handle on one worker process: ask, wait no longer than the limit, kill, start again."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from typing import Any

from tts_eval.answers.keys import Key
from tts_eval.types import TtsEvalError


START_LIMIT = 120.0
"""Seconds that a worker may take to import sympy, on however busy a machine."""
MEMORY_LIMIT = 2 << 30
"""Bytes of address space of one worker."""


class WorkerProcess:
    """One worker, started at the first question. Not thread-safe: one question at a time.

    Args:
        timeout: Seconds that one pair, or one answer's key, may take, counted from when the worker is ready.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, gold: str, answer: str) -> bool | None:
        """Asks sympy whether two cleaned answers are equal.

        Returns:
            Its verdict, or None if it took too long or the worker died of it.

        Raises:
            TtsEvalError: If no worker can be started.
        """
        verdict = self._exchange([gold, answer])
        return None if verdict is None else bool(verdict)

    def describe(self, answer: str) -> Key | None:
        """Asks sympy what a cleaned answer is.

        Returns:
            Its key, or None if that took too long or the worker died of it.

        Raises:
            TtsEvalError: If no worker can be started.
        """
        key = self._exchange(answer)
        return None if key is None else Key.from_json(key)

    def _exchange(self, message: object) -> Any:
        request = json.dumps(message).encode() + b"\n"
        for _ in range(2):  # a worker may have been killed from outside while it was idle: not the message's fault
            process = self._process or self._start()
            try:
                os.write(_stdin(process), request)
                reply = _read_line(process, self._timeout)
            except TimeoutError:
                self.close()
                return None
            except BrokenPipeError:
                reply = b""
            if reply:
                return json.loads(reply)
            self.close()
        return None

    def close(self) -> None:
        """Kills the worker, if there is one."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "tts_eval.answers.worker", str(int(self._timeout) + 2), str(MEMORY_LIMIT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the parent, which closes its workers
        )
        try:
            reply = _read_line(process, START_LIMIT)
        except TimeoutError:
            reply = json.dumps(f"it wasn't ready within {START_LIMIT:.0f} s").encode()
        message = json.loads(reply) if reply else "it ended at once"
        if message != "ready":
            self.close()
            command = f"{sys.executable} -m tts_eval.answers.worker 5 {MEMORY_LIMIT}"
            raise TtsEvalError(f"the grading worker can't start: {message}; see what `{command}` says")
        return process


def _environment() -> dict[str, str]:
    """The parent's, but with its import path (and not the working directory's modules), and sympy made repeatable."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONHASHSEED": "0"}


def _stdin(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    return process.stdin.fileno()


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """Reads up to a newline; empty if the process died first. Raises TimeoutError."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return b""
        line += chunk
    return line
