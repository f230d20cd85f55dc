"""The option that parts problems by how hard they are for the base model, and the parts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tts_eval.analysis import PoolSet, by_level
from tts_eval.analysis.difficulty import BINS, by_bin, load_bins
from tts_eval.answers import default_grader
from tts_eval.types import TtsEvalError


Bins = Mapping[str, Mapping[str, int]]
"""By task the bin of each problem."""


def add_bins(parser: argparse.ArgumentParser) -> None:
    """Declares the option, which goes with `add_pools`."""
    parser.add_argument(
        "--bins",
        type=Path,
        metavar="JOURNAL",
        help=f"{BINS} bins of problems apart, by pass@1 in this journal of tts-best-of-n with the base model",
    )


def read_bins(args: argparse.Namespace) -> Bins | None:
    """Reads the journal of bins where one is given.

    Raises:
        TtsEvalError: If the problems are to be parted by level too, or the journal holds no bins.
    """
    if args.bins is None:
        return None
    if args.by is not None:
        raise TtsEvalError(f"--bins and --by {args.by} part the problems in two ways: leave one out")
    return load_bins(args.bins, default_grader())


def parts_of(pools: PoolSet, by: str | None, bins: Bins | None) -> tuple[list[tuple[Any, PoolSet]], list[str]]:
    """Parts a set as the options say.

    Args:
        pools: The set.
        by: Of `--by`.
        bins: What `read_bins` returned.

    Returns:
        The parts with their names, none where nothing was asked for; and notes for the user on what is in no part.

    Raises:
        TtsEvalError: If the journal of bins has none of the problems.
    """
    if bins is None:
        return ([] if by is None else by_level(pools)), []
    of_task = bins.get(pools.task, {})
    parts: list[tuple[Any, PoolSet]] = [*by_bin(pools, of_task)]
    if not parts:
        raise TtsEvalError(
            f"--bins: the journal has no problem of {pools.task}; name one of tts-best-of-n with the base model on "
            "that task"
        )
    missing = len({pool.uid for pool in pools.pools} - set(of_task))
    return parts, [f"{pools.task}, {pools.strategy}: {missing} problems are in no bin"] if missing else []
