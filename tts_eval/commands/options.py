"""What the values of options mean, for argparse's `type=`."""

from __future__ import annotations

import argparse
from pathlib import Path


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def budget_list(text: str) -> list[int]:
    """Whole numbers above 0 with commas between them, in ascending order."""
    return sorted({positive(part.strip()) for part in text.split(",")})


def share(text: str) -> float:
    """A number from 0 to 1."""
    if not 0 <= float(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return float(text)


def unescaped(text: str) -> str:
    r"""Text in which \n stands for a newline."""
    return text.replace("\\n", "\n")


def add_pools(parser: argparse.ArgumentParser) -> None:
    """Declares what all commands that measure journals take: see `tts_eval.analysis.load_pools` and `accuracy_rows`."""
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="journal, or folder searched for candidates_*.jsonl"
    )
    parser.add_argument("--by", choices=("level",), help="each difficulty level of the problems apart")
    parser.add_argument("--seed", type=int, default=0, help="of the random subsets; default: %(default)s")
    parser.add_argument(
        "--resamples",
        type=positive,
        default=1000,
        help="random subsets a problem and budget, where there are more than that; default: %(default)s",
    )
