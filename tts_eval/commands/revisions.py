"""`tts-eval revisions build | chains | measure`: training data for revision models, and what their chains are worth."""

from __future__ import annotations

import argparse
import importlib
from typing import Any, NamedTuple


class Action(NamedTuple):
    """One of the command's actions.

    Attributes:
        help: One line for `tts-eval revisions --help`.
        module: Module with `configure(parser)` and `run(args)`.
    """

    help: str
    module: str


ACTIONS = {
    "build": Action("pair correct with incorrect samples, to train a revision model", "revisions_build"),
    "chains": Action("graded chains of a revision model, to train its verifier", "revisions_chains"),
    "measure": Action("what chains of revisions are worth, from journals", "revisions_measure"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the actions with their options."""
    subparsers = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    for name, action in ACTIONS.items():
        subparser = subparsers.add_parser(name, help=action.help, description=f"{action.help}.")
        _module(action).configure(subparser)


def run(args: argparse.Namespace) -> int:
    """Runs one action.

    Args:
        args: See `configure`.
    """
    args.command = f"{args.command} {args.action}"
    return int(_module(ACTIONS[args.action]).run(args))


def _module(action: Action) -> Any:
    return importlib.import_module(f"tts_eval.commands.{action.module}")
