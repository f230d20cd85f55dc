"""The `tts-eval` command: a table of subcommands, of which only the one that is called gets imported."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tts_eval import __version__
from tts_eval.plugin import error_line, leave_at_next_interrupt


class Command(NamedTuple):
    """One subcommand.

    Attributes:
        help: One line for `tts-eval --help`.
        module: Module with `configure(parser)` and `run(args)` (see `tts_eval.commands`).
        passthrough: Hand everything after the name to `run` untouched, as `args.arguments`.
    """

    help: str
    module: str
    passthrough: bool = False


COMMANDS = {
    "run": Command("lm_eval run, with our models and tasks found by name", "tts_eval.commands.run", passthrough=True),
    "sweep": Command("a table of strategies, budgets and seeds on one task, resumable", "tts_eval.commands.sweep"),
    "select": Command("accuracy at every budget and selection rule, from journals", "tts_eval.commands.select"),
    "compare": Command("strategies against one of them at equal budgets, from journals", "tts_eval.commands.compare"),
    "import": Command("make a journal of other people's generations", "tts_eval.commands.import_"),
    "leaderboard": Command("all runs of a folder in one table, stable for diffs", "tts_eval.commands.leaderboard"),
    "show": Command("the search tree of one problem, with step scores", "tts_eval.commands.show"),
    "diagnose": Command("signs that a search exploits its verifier, from journals", "tts_eval.commands.diagnose"),
    "report": Command("everything that the paper shows, for your own runs, as a page", "tts_eval.commands.report"),
    "demo": Command("a small measurement from start to end, on this machine", "tts_eval.commands.demo"),
    "label": Command("label the steps of a policy's solutions by Monte-Carlo rollouts", "tts_eval.commands.label"),
    "revisions": Command("training data for revision models, and what chains are worth", "tts_eval.commands.revisions"),
    "train": Command("train a process or outcome verifier", "tts_eval.commands.train"),
    "verify": Command("judge a verifier on labelled steps", "tts_eval.commands.verify"),
    "exchange": Command("the budget at which small and larger model cost the same", "tts_eval.commands.exchange"),
    "models": Command("list the models that ship with us, or print the path of one", "tts_eval.commands.models"),
    "doctor": Command("check this installation, or that tasks load and grade themselves", "tts_eval.commands.doctor"),
    "enable": Command("let the plain lm_eval command find our models and tasks", "tts_eval.commands.enable"),
    "disable": Command("undo enable", "tts_eval.commands.enable"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: The arguments after the program's name; those of the process by default.

    Returns:
        The exit status: 0, 1 after an error that the user can mend, 2 for a command line that makes no sense, 130 after
        Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        build_parser(None).print_help()
        return 0
    name = arguments[0]
    if not name.startswith("-") and name not in COMMANDS:
        return _unknown(name)
    try:
        return _call(name, arguments)
    except (Exception, KeyboardInterrupt) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        if interrupted:
            leave_at_next_interrupt()
        line = error_line(error)
        if line is None:
            raise
        print(line, file=sys.stderr)
        return 130 if interrupted else 1


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """Builds the command line: every subcommand by name, and the options of the chosen one.

    Args:
        chosen: The subcommand whose module is imported to declare its options; None imports none.
    """
    parser = argparse.ArgumentParser(prog="tts-eval", description="Measure test-time compute with lm-eval.")
    parser.add_argument("--version", action="version", version=f"tts-eval {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.help, description=f"{command.help}.")
        if name == chosen:
            importlib.import_module(command.module).configure(subparser)
    return parser


def _call(name: str, arguments: list[str]) -> int:
    command = COMMANDS.get(name)
    if command is not None and command.passthrough:
        # argparse would take options that come before the first plain word for its own.
        args = argparse.Namespace(command=name, arguments=arguments[1:])
    else:
        args = build_parser(name).parse_args(arguments)
    return int(importlib.import_module(COMMANDS[args.command].module).run(args))


def _unknown(name: str) -> int:
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    mend = f"did you mean '{near[0]}'?" if near else f"the commands are {', '.join(COMMANDS)}"
    print(f"tts-eval: unknown command '{name}'; {mend}", file=sys.stderr)
    return 2
