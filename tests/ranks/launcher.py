"""Starts lm_eval on several ranks as torchrun does, but forks them, so that only the first run waits for imports.

Reads one JSON object a line: `ranks`, `arguments` of lm_eval, `bytes` (for a rank the longest file that it may write).
Answers each with one line: for every rank its exit status and all that it said.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import lm_eval._cli.run
import lm_eval.evaluator
import lm_eval.models.huggingface  # noqa: F401
from lm_eval.__main__ import cli_evaluate
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex

import tts_eval.engines.hf
import tts_eval.model_adapters.step_search
import tts_eval.verifiers.hf  # noqa: F401
from tts_eval.plugin import register


def main() -> None:
    """Serves until its input ends."""
    register()
    index_once()
    answers = os.dup(1)
    for line in sys.stdin:
        told = run(**json.loads(line))
        os.write(answers, json.dumps(told).encode() + b"\n")


def index_once() -> None:
    """Reads lm-eval's thousands of task files before anything is forked."""
    build = TaskIndex.build
    kept = functools.cache(lambda paths: build(list(paths)))
    TaskIndex.build = staticmethod(lambda paths, **_: kept(tuple(paths)))
    TaskManager()


def run(ranks: int, arguments: list[str], bytes: dict[str, int]) -> list[dict[str, Any]]:
    """Runs lm_eval once.

    Returns:
        `status` and `output` of each rank.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    children, said = [], []
    for rank in range(ranks):
        read, write = os.pipe()  # a file would count against the limit
        child = os.fork()
        if child == 0:
            os.dup2(write, 1)
            os.dup2(write, 2)
            if ranks > 1:
                world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in world.items()}, MASTER_ADDR="127.0.0.1")
            if str(rank) in bytes:
                resource.setrlimit(resource.RLIMIT_FSIZE, (bytes[str(rank)], resource.RLIM_INFINITY))
            become(arguments)
        os.close(write)
        children.append(child)
        said.append(read)
    with ThreadPoolExecutor(ranks) as readers:
        outputs = list(readers.map(_read, said))
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return [{"status": status, "output": output} for status, output in zip(statuses, outputs, strict=True)]


def _read(descriptor: int) -> str:
    with open(descriptor, encoding="utf-8") as pipe:
        return pipe.read()


def become(arguments: list[str]) -> NoReturn:
    """Is lm_eval from here on."""
    sys.argv = ["lm_eval", "run", *arguments]
    status = 1
    try:
        cli_evaluate()
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
    except BaseException:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
