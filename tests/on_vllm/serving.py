"""`vllm serve` in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch


CONTEXT = 1024
NAME = "served"
"""What the server calls its model."""

# There a seeded request whose prompt is read in pieces ends it, and its prefix cache keeps whole blocks, of 128 tokens
# unless told otherwise.
ON_CPU = ["--dtype", "float32", "--enforce-eager", "--no-enable-chunked-prefill", "--block-size", "32"]


class Server:
    """A server with a model.

    Args:
        vllm: The command.
        model: Folder of the model.
        log: Where its output goes.
        more: Further arguments of the command, which override ours.

    Attributes:
        url: Its address, without a path.
    """

    def __init__(self, vllm: Path, model: Path, log: Path, *more: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        options = ["--max-model-len", str(CONTEXT), "--port", str(port)]
        options += ["--served-model-name", NAME, "--enable-prompt-tokens-details"]
        options += [*(["--dtype", "bfloat16"] if torch.cuda.is_available() else ON_CPU), *more]
        environment = {"VLLM_CPU_KVCACHE_SPACE": "1", **os.environ}
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [vllm, "serve", str(model), *options],
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
            )

    def __enter__(self) -> Server:
        """Returns when it answers; ten minutes are the most."""
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return self
            except OSError:
                time.sleep(1)
        self.__exit__()
        raise RuntimeError(f"vllm serve doesn't answer:\n{self._log.read_text()[-3000:]}")

    def __exit__(self, *_: Any) -> None:
        """Ends it and its children, which outlive one that is ended while it starts."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def counters(self) -> dict[str, float]:
        """What it has counted so far, by the name of the counter without `vllm:`; kinds of the same are added up."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as reply:
            lines = reply.read().decode().splitlines()
        found: dict[str, float] = {}
        for line in lines:
            if line.startswith("vllm:"):
                name, value = line.removeprefix("vllm:").rsplit(" ", 1)
                name = name.split("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
        return found
