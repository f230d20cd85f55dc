"""`tts-eval demo`: what a verifier adds to sampling, in two minutes, on the models and problems that ship with us."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from tts_eval.commands import run as run_command
from tts_eval.commands import select as select_command


_ARGUMENTS = r"pretrained=micromath/base,verifier=micromath/prm,budget={budget},temperature=1,step_delimiter=\n"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--budget", type=int, default=16, help="samples a problem; default: %(default)s")
    parser.add_argument("--limit", type=int, default=500, help="problems; default: all %(default)s")
    parser.add_argument("--output", type=Path, default=Path("results/demo"), help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Runs best-of-N on `tts_micromath` with a process verifier, and prints accuracy by budget and by level.

    Args:
        args: See `configure`.
    """
    command = [
        *("--model", "tts-best-of-n", "--model_args", _ARGUMENTS.format(budget=args.budget)),
        *("--tasks", "tts_micromath", "--limit", str(args.limit), "--log_samples", "--output_path", str(args.output)),
    ]
    print(f"$ tts-eval run {shlex.join(command)}\n", flush=True)
    run_command.run(argparse.Namespace(arguments=command))
    folder = str(args.output)
    _select("--figure", str(args.output / "accuracy.png"), folder)
    _select("--by", "level", "--budgets", str(args.budget), "--figure", str(args.output / "levels.png"), folder)
    _select("--against", "majority", "--selection", "best_of_n_weighted", folder)
    return 0


def _select(*arguments: str) -> None:
    print(f"\n$ tts-eval select {shlex.join(arguments)}\n", flush=True)
    parser = argparse.ArgumentParser()
    select_command.configure(parser)
    select_command.run(parser.parse_args(arguments))
