"""The process that starts commands: it imports everything once, and each command is a fork of it.

A command is then a real process with its own memory, limits and signals, and starts in a second instead of twenty.
`forked.py` is the other end: one JSON order a line on stdin, one JSON reply a line on stdout.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


MODULES = (
    "lm_eval.__main__",
    "lm_eval._cli.run",
    "lm_eval.models.huggingface",
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.modeling_auto",
    "tts_eval.model_adapters.best_of_n",
    "tts_eval.model_adapters.step_search",
    "tts_eval.engines.hf",
    "tts_eval.engines.text",
    "lm_eval.models.openai_completions",
    "tts_eval.engines.server",
    "tts_eval.verifiers",
)


def serve() -> dict[str, Any] | None:
    """Answers orders until stdin closes; in a fork, returns the order that it is to carry out."""
    for name in MODULES:
        __import__(name)
    _list_tasks_once()
    _reply("ready")
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            pid, status = os.waitpid(order["wait"], os.WNOHANG)
            _reply(os.waitstatus_to_exitcode(status) if pid else None)
            continue
        pid = os.fork()
        if pid == 0:
            return order
        _reply(pid)
    return None


def _list_tasks_once() -> None:
    """Reads the YAML of all of lm-eval's tasks, which takes it ten seconds at each start, before any fork."""
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import TaskIndex

    from tts_eval.plugin import register

    register()
    build = functools.cache(lambda paths, options: plain(paths, **dict(options)))
    plain = TaskIndex.build
    TaskIndex.build = staticmethod(lambda paths, **options: build(tuple(paths), tuple(options.items())))
    TaskManager()


def become(order: dict[str, Any]) -> int | None:
    """Turns this fork into the command, as its script in the environment's `bin` would."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background inherit that it is ignored
    for descriptor, name in ((0, os.devnull), (1, order["stdout"]), (2, order["stderr"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    if "file_bytes" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"],) * 2)
    if "clock_jumps" in order:
        threading.Thread(target=_turn_back, args=(order["clock_jumps"],), daemon=True).start()
    from lm_eval.__main__ import cli_evaluate

    from tts_eval.cli import main

    sys.argv = order["command"]
    scripts: dict[str, Callable[[], int | None]] = {"lm_eval": cli_evaluate, "tts-eval": main}
    return scripts[sys.argv[0]]()


def _turn_back(seconds: float) -> None:
    """Moves the system clock, as this process sees it (`clock.c`), ever further back."""
    jump = ctypes.CDLL(None).jump_clock
    jump.argtypes = [ctypes.c_double]
    for count in range(1, 10_000):
        jump(-seconds * count)
        time.sleep(0.1)


def _reply(message: object) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    given = serve()
    sys.exit(0 if given is None else become(given))
