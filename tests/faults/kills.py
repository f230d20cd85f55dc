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


sys.path.append(str(Path(__file__).parents[1]))

from forked import Run, Zygote
from runs import arguments, journals, problems, require_equal


SEARCHING = "Running generate_until requests"
"""What lm-eval prints when it has loaded everything."""

_A_RUN = 6
"""Kills of one run."""


@dataclass
class Tally:
    """What happened to one run.

    Attributes:
        kills: How often it was killed,
        writing: after it had written at least one problem that time,
        torn: and with a line half written.
    """

    kills: int = 0
    writing: int = 0
    torn: int = 0


def kill_until_done(
    zygote: Zygote, given: list[str], output: Path, seconds: tuple[float, float], rng: random.Random, most: int
) -> Tally:
    """Runs a command again and again, killed at random moments but `most` times, until it gets to its end.

    Half of the kills come at any moment, half while problems are searched, which is but a small part of a short run.

    Args:
        zygote: Starts the runs.
        given: The command.
        output: Its output folder.
        seconds: What it takes, and its search alone.
        rng: Draws the moments.
        most: Then it is left alone.

    Raises:
        AssertionError: If a kill loses or doubles a problem.
    """
    tally = Tally()
    while True:
        before = problems(output)
        run = zygote.start(given)
        if tally.kills < most:
            _kill(run, seconds, rng)
        if run.wait() == 0:
            return tally
        assert run.status == -signal.SIGKILL, run.err[-3000:]
        after = problems(output)  # refuses a problem that is there twice
        assert after >= before and len(journals(output)) <= 1
        tally.kills += 1
        tally.writing += after > before
        tally.torn += any(not path.read_bytes().endswith(b"\n") for path in journals(output))


def _kill(run: Run, seconds: tuple[float, float], rng: random.Random) -> None:
    whole, search = seconds
    started = time.monotonic()
    if rng.random() < 0.5:
        run.until(lambda: SEARCHING in run.err or run.status is not None)
        whole, started = search, time.monotonic()
    at = started + rng.uniform(0, whole)
    while run.status is None and time.monotonic() < at:
        time.sleep(0.02)
    run.send(signal.SIGKILL)


def time_of(zygote: Zygote, given: list[str]) -> tuple[float, float]:
    """Runs a command to its end; returns what it takes, and its search alone."""
    started = time.monotonic()
    run = zygote.start(given)
    run.until(lambda: SEARCHING in run.err)
    searching = time.monotonic()
    assert run.wait() == 0, run.err[-3000:]
    return time.monotonic() - started, time.monotonic() - searching


def _tallies(zygote: Zygote, folder: Path, wanted: int, rng: random.Random) -> Iterator[Tally]:
    options = {"limit": 30, "budget": 4}
    more = ("--batch_size", "8")
    seconds = time_of(zygote, arguments(folder / "whole", *more, **options))
    done = 0
    while done < wanted:
        output = folder / f"killed-{done}"
        tally = kill_until_done(zygote, arguments(output, *more, **options), output, seconds, rng, most=_A_RUN)
        require_equal(output, folder / "whole")
        done += tally.kills
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
