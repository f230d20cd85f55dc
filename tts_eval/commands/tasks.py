"""What commands that read tasks share: finding ours by name, and the data that the command line names for them."""

from __future__ import annotations

import argparse
import difflib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tts_eval.types import TtsEvalError


if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


def add_metadata(parser: argparse.ArgumentParser) -> None:
    """Declares `--metadata`."""
    parser.add_argument(
        "--metadata",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="as for lm_eval: math_file=FILE.jsonl and gsm8k_file=FILE.jsonl name local data",
    )


def our_tasks(metadata: Sequence[str]) -> TaskManager:
    """Indexes our tasks.

    Args:
        metadata: The items of `--metadata`.

    Raises:
        TtsEvalError: If an item is not a pair.
    """
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import simple_parse_args_string

    import tts_eval.tasks

    for item in metadata:
        if "=" not in item:
            raise TtsEvalError(f"--metadata takes KEY=VALUE, not {item!r}; put the names of tasks before it")
    pairs = {key: value for item in metadata for key, value in simple_parse_args_string(item).items()}
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it explains --metadata anew for every task
    return TaskManager(include_path=tts_eval.tasks.__path__[0], include_defaults=False, metadata=pairs)


def tasks_of(manager: TaskManager, name: str) -> list[str]:
    """Expands a group; a task is its own.

    Raises:
        TtsEvalError: If none of ours has that name.
    """
    if name not in manager.all_tasks:
        near = difflib.get_close_matches(name, manager.all_tasks, n=1)
        mend = f"did you mean {near[0]!r}?" if near else f"ours are {', '.join(manager.all_tasks)}"
        raise TtsEvalError(f"{name!r} is none of our tasks; {mend}")
    config = manager.task_index[name].cfg or {}
    return list(config["task"]) if "group" in config else [name]
