"""Kills runs at random moments until they are done: `python tests/faults/kills.py --kills 100`.

Each run is a fork of one process that has imported everything, killed with SIGKILL, and started again with the same
command until it is done; then its journal and lm-eval's results must be those of a run that was never killed. Then the
next one.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runs import Zygote, arguments, journals, problems, require_equal


@dataclass
class Tally:
    """What happened to one run.

    Attributes:
        kills: How often it was killed,
        writing: after it had written at least one problem that time,
        torn: and with a line half written.
        seconds: What its last part took, which got to the end.
    """

    kills: int = 0
    writing: int = 0
    torn: int = 0
    seconds: float = 0.0


def kill_until_done(
    zygote: Zygote, given: list[str], output: Path, seconds: float, rng: random.Random, most: int = 1000
) -> Tally:
    """Runs a command again and again, killed after up to `seconds` but `most` times, until it gets to its end.

    Raises:
        AssertionError: If a kill loses or doubles a problem.
    """
    tally = Tally()
    while True:
        before = problems(output)
        run = zygote.start(given)
        started = time.monotonic()
        at = started + rng.uniform(0, seconds)
        while run.status is None and (time.monotonic() < at or tally.kills == most):
            time.sleep(0.005)
        run.send(signal.SIGKILL)
        if run.wait() == 0:
            tally.seconds = time.monotonic() - started
            return tally
        assert run.status == -signal.SIGKILL, run.err[-3000:]
        after = problems(output)  # refuses a problem that is there twice
        assert after >= before and len(journals(output)) <= 1
        tally.kills += 1
        tally.writing += after > before
        tally.torn += any(not path.read_bytes().endswith(b"\n") for path in journals(output))


def _tallies(zygote: Zygote, folder: Path, wanted: int, rng: random.Random) -> Iterator[Tally]:
    options = {"limit": 30, "budget": 4}
    more = ("--batch_size", "16")
    started = time.monotonic()
    zygote.done(arguments(folder / "whole", *more, **options))
    seconds = time.monotonic() - started
    done = 0
    while done < wanted:
        output = folder / f"killed-{done}"
        tally = kill_until_done(zygote, arguments(output, *more, **options), output, seconds, rng)
        require_equal(output, folder / "whole")
        done += tally.kills
        seconds = min(seconds, max(3.0, tally.seconds))  # a machine that was busy may not be any longer
        yield tally


def main() -> int:
    """Kills as often as asked, and says what came of it."""
    parser = argparse.ArgumentParser(description="Kill runs at random moments; results must not change.")
    parser.add_argument("--kills", type=int, default=100, help="at least so many")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Zygote(Path(folder)) as zygote:
        tallies = []
        for tally in _tallies(zygote, Path(folder), args.kills, random.Random(args.seed)):
            tallies.append(tally)
            print(f"killed {tally.kills} times, done, equal to the run that was never killed", flush=True)
    kills, writing, torn = (sum(getattr(tally, name) for tally in tallies) for name in ("kills", "writing", "torn"))
    print(
        f"{kills} kills of {len(tallies)} runs, {writing} after at least one problem was written, {torn} within a "
        "line: no problem lost or doubled, all results equal"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
