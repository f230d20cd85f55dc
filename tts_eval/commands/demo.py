"""`tts-eval demo`: what a verifier adds to sampling, in two minutes, on the models and problems that ship with us.

And a chain of revisions that mends itself.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tts_eval.analysis import find_journals, read_samples_gold
from tts_eval.analysis.choice import choose
from tts_eval.analysis.gold import gold_of
from tts_eval.answers import default_grader
from tts_eval.commands import run as run_command
from tts_eval.commands import select as select_command
from tts_eval.commands import show as show_command
from tts_eval.journal import read_journal


_TASK = "tts_micromath"
_SAMPLES = r"pretrained=micromath/base,verifier=micromath/prm,budget={budget},temperature=1,step_delimiter=\n"
_CHAINS = (
    "pretrained=micromath/revision,verifier=micromath/revision-orm,budget=4,chains=1,temperature=1,"
    r"step_delimiter=\n,transcript=true"
)
_CHAINED = 50  # problems; among so many some first attempt is always mended


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
    samples, chains = args.output / "samples", args.output / "chains"
    _run("tts-best-of-n", _SAMPLES.format(budget=args.budget), args.limit, samples)
    _select("--figure", str(args.output / "accuracy.png"), str(samples))
    levels = str(args.output / "levels.png")
    _select("--by", "level", "--budgets", str(args.budget), "--figure", levels, str(samples))
    _select("--against", "majority", "--selection", "best_of_n_weighted", str(samples))
    print("\nA chain of revisions that mends itself:\n")
    _run("tts-revise", _CHAINS, min(args.limit, _CHAINED), chains)
    uid = _mended(chains)
    if uid is None:
        print(f"\nnone of {min(args.limit, _CHAINED)} did; see tts-eval show {chains}")
    else:
        _show(str(chains), "--uid", uid)
    return 0


def _mended(folder: Path) -> str | None:
    """The first problem whose only chain begins with a wrong attempt and ends with a right one."""
    (path,) = find_journals([folder])
    samples = read_samples_gold(path.parent, _TASK)
    for record in read_journal(path)[1]:
        correct = choose(record, gold_of(record, samples), default_grader()).correct
        if correct is not None and not correct[0] and correct[-1]:
            return record.uid
    return None


def _run(model: str, arguments: str, limit: int, output: Path) -> None:
    command = ["--model", model, "--model_args", arguments, "--tasks", _TASK, "--limit", str(limit)]
    command += ["--log_samples", "--output_path", str(output)]
    print(f"$ tts-eval run {shlex.join(command)}\n", flush=True)
    run_command.run(argparse.Namespace(command="run", arguments=command))


def _select(*arguments: str) -> None:
    _command("select", select_command, arguments)


def _show(*arguments: str) -> None:
    _command("show", show_command, arguments)


def _command(name: str, module: Any, arguments: Sequence[str]) -> None:
    print(f"\n$ tts-eval {name} {shlex.join(arguments)}\n", flush=True)
    parser = argparse.ArgumentParser()
    module.configure(parser)
    module.run(parser.parse_args(arguments, argparse.Namespace(command=name)))
