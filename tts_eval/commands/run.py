"""`tts-eval run ...`: `lm_eval run ...` with our models and tasks registered."""

from __future__ import annotations

import argparse
import sys

from tts_eval.plugin import register


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares that everything after `run` belongs to lm-eval."""
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of lm_eval run")


def run(args: argparse.Namespace) -> int:
    """Calls lm-eval in this process.

    Args:
        args: `arguments`, the untouched arguments of `lm_eval run`.
    """
    register()
    from lm_eval.__main__ import cli_evaluate

    sys.argv = ["lm_eval", "run", *args.arguments]
    cli_evaluate()
    return 0
