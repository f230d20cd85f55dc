"""Runs of several processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Calls lm_eval on some ranks; returns `status` and `output` of each."""
    command = [sys.executable, str(Path(__file__).with_name("launcher.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdin is not None and launcher.stdout is not None
        requests, answers = launcher.stdin, launcher.stdout

        def call(ranks: int, arguments: list[str], bytes: dict[int, int] | None = None) -> list[dict[str, Any]]:
            print(json.dumps({"ranks": ranks, "arguments": arguments, "bytes": bytes or {}}), file=requests, flush=True)
            told: list[dict[str, Any]] = json.loads(answers.readline())
            return told

        yield call
        requests.close()
