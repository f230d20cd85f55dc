"""Fuzzes for long: `python tests/fuzz/fuzz.py --seconds 600` (`make fuzz SECONDS=600`)."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from targets import TARGETS, Target


ENOUGH = 1_000_000
"""Inputs after which a target is done before its time."""

_ROUND = 5_000  # inputs of one seed: hypothesis remembers what it tried, so rounds keep memory flat


class _OverError(Exception):
    """The time is up."""


def fuzz(target: Target, seconds: float, first_seed: int) -> tuple[int, list[str]]:
    """Tries inputs until the time is up or there were enough; returns their number, and what failed."""
    tried, crashes = 0, []
    end = time.monotonic() + seconds

    def check(value: Any) -> None:
        nonlocal tried
        if time.monotonic() > end:
            raise _OverError
        tried += 1
        target.check(value)

    options = settings(
        max_examples=_ROUND,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    for number in range(first_seed, sys.maxsize):
        if time.monotonic() > end or tried >= ENOUGH:
            return tried, crashes
        try:
            seed(number)(options(given(target.inputs)(check)))()
        except _OverError:
            continue
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            notes = " ".join(getattr(error, "__notes__", ()))
            crashes.append(f"seed {number}: {type(error).__name__}: {error!s:.300} {notes:.1000}")
    return tried, crashes


def main() -> int:
    """Fuzzes the targets one after the other; the status is 1 if anything failed."""
    parser = argparse.ArgumentParser(description="Fuzz what reads other people's text.")
    parser.add_argument("targets", nargs="*", default=list(TARGETS), help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=600, help="for each target (default: 600)")
    parser.add_argument("--seed", type=int, default=0, help="of the first round (default: 0)")
    args = parser.parse_args()
    failed = False
    for name in args.targets:
        started = time.monotonic()
        tried, crashes = fuzz(TARGETS[name], args.seconds, args.seed)
        took = time.monotonic() - started
        speed = f"{tried / took:.0f} a second"
        print(f"{name}: {tried:,} inputs in {took:.0f} s ({speed}), {len(crashes)} crashes", flush=True)
        for crash in crashes:
            print(f"  {crash}", flush=True)
        failed = failed or bool(crashes)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
