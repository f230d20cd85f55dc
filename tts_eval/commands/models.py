"""`tts-eval models`: the models that ship with the project; with a name, the path of that one."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from safetensors import safe_open
from tabulate import tabulate

from tts_eval.micro.members import MEMBERS, resolve


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument(
        "name", nargs="?", choices=list(MEMBERS), help="print the folder of this one only, for tools that want a path"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the table, or one path; see `configure`."""
    if args.name is not None:
        print(resolve(args.name))
        return 0
    lines = [[name, _parameters(Path(resolve(name))), what] for name, what in MEMBERS.items()]
    print(tabulate(lines, ["name", "parameters", "what it is"], "github", intfmt=","))
    return 0


def _parameters(folder: Path) -> int:
    with safe_open(folder / "model.safetensors", "np") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
