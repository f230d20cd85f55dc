"""Best-of-N over a stub server: throughput beside the ideal, and memory over time (docs/servers.md).

The server answers a sample in 50 ms and has 200 slots, so 1,000 problems x 16 samples take 4 seconds at best. Both are
measured with n samples a request and with single requests, each in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from tabulate import tabulate


sys.path.insert(0, str(Path(__file__).parents[1]))

SLOTS, SECONDS, SAMPLES = 200, 0.05, 16


def payload(ask: Any) -> dict[str, Any]:
    """The body of a request."""
    several = {"n": ask.n} if ask.n > 1 else {}
    return {"model": "stub", "prompt": ask.prompt, "max_tokens": ask.most, "seed": ask.seed, **several}


def measure(problems: int, native_n: bool, results: Any) -> None:
    """Runs one contender and reports seconds, and memory at each tenth of the problems in MB."""
    from stub_server import Stub

    from tts_eval.engines.server import ServerEngine
    from tts_eval.engines.server_replies import Served
    from tts_eval.replicas import Replicas
    from tts_eval.scheduler import Scheduler
    from tts_eval.search import best_of_n
    from tts_eval.types import Decoding, Problem, Search

    def searches() -> Iterator[tuple[Problem, Search]]:
        for index in range(problems):
            yield Problem(f"p{index}", f"Problem {index}?\n", (), 64), best_of_n(SAMPLES, scored=False)

    process = psutil.Process()
    with Stub(slots=SLOTS, seconds=SECONDS) as stub:
        # Twice the slots, so that one is taken as soon as it is free.
        replicas = Replicas([stub.completions], headers={}, concurrency=2 * SLOTS // (SAMPLES if native_n else 1))
        engine = ServerEngine(replicas, Served(payload, goes_on=True, native_n=native_n), Decoding())
        memory = []
        started, used = time.monotonic(), process.cpu_times().user
        done = 0
        for finished in Scheduler(engine, in_flight=64).run(searches()):
            if finished is not None:
                done += 1
                if done % (problems // 10) == 0:
                    memory.append(process.memory_info().rss / 2**20)
        seconds, used = time.monotonic() - started, process.cpu_times().user - used
        results.put((seconds, used, memory, stub.stats()))


def main() -> None:
    """Prints a table; the exit status says whether what is wanted was reached with n samples a request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=1000)
    problems = parser.parse_args().problems
    ideal = problems * SAMPLES * SECONDS / SLOTS
    rows, reached = [], True
    for native_n in (True, False):
        context = multiprocessing.get_context("spawn")
        results = context.SimpleQueue()
        process = context.Process(target=measure, args=(problems, native_n, results))
        process.start()
        seconds, used, memory, stats = results.get()
        process.join()
        assert stats["samples"] == problems * SAMPLES, stats
        growth = memory[-1] - memory[1]
        rows.append(
            [
                f"n={SAMPLES} a request" if native_n else "single requests",
                stats["requests"],
                f"{seconds:.2f}",
                f"{100 * ideal / seconds:.0f} %",
                f"{used:.2f}",
                f"{memory[1]:.0f} to {memory[-1]:.0f}",
                f"{growth:+.1f}",
            ]
        )
        reached = reached and (not native_n or seconds <= ideal / 0.8) and growth < 20
    head = ["", "requests", "seconds", f"of the ideal {ideal:.2f} s", "processor s", "MB at 20 % to 100 %", "growth MB"]
    print(tabulate(rows, headers=head, tablefmt="github", disable_numparse=True))
    sys.exit(not reached)


if __name__ == "__main__":
    main()
