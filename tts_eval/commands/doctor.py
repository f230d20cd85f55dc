"""`tts-eval doctor SUBJECT`: checks that what is installed here works, before a long run finds out."""

from __future__ import annotations

import argparse
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tts_eval.commands.tasks import add_metadata, our_tasks, tasks_of
from tts_eval.types import TtsEvalError


if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask


PROMPT_LENGTH = 700
"""Longest part of a prompt that is printed, in characters."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares one sub-command for each subject; each names the function that checks it as `args.check`."""
    subjects = parser.add_subparsers(metavar="SUBJECT", required=True)
    tasks = subjects.add_parser("tasks", help="load our tasks, render a prompt, grade every gold against itself")
    tasks.add_argument("tasks", nargs="*", metavar="TASK", help="tasks or groups to check (default: all of ours)")
    add_metadata(tasks)
    tasks.set_defaults(check=check_tasks)


def run(args: argparse.Namespace) -> int:
    """Runs the checks of the chosen subject.

    Returns:
        0 if nothing failed, else 1.
    """
    return int(args.check(args))


def check_tasks(args: argparse.Namespace) -> int:
    """Prints one line a task, and the first prompt.

    Args:
        args: `tasks`, the names, and `metadata`, the list of `KEY=VALUE`.

    Returns:
        0 if every task is in order or was skipped for want of data, 1 if any failed.

    Raises:
        TtsEvalError: If a name is not one of our tasks, or an item of `--metadata` not a pair.
    """
    from tts_eval.tasks.documents import DataUnavailable

    manager = our_tasks(args.metadata)
    names = [task for name in args.tasks or manager.all_subtasks for task in tasks_of(manager, name)]
    failed, example = False, ""
    for name in names:
        try:
            task = manager.load(name)["tasks"][name]
        except DataUnavailable as error:
            print(f"{name}: skipped, {error}")
            continue
        except TtsEvalError as error:
            faults, summary = [str(error)], ""
        else:
            faults, summary = _check_task(task)
            example = example or _first_prompt(name, task)
        failed = failed or bool(faults)
        print(f"{name}: FAIL, {'; '.join(faults)}" if faults else f"{name}: ok, {summary}", flush=True)
    print(example, end="")
    return int(failed)


def _check_task(task: ConfigurableTask) -> tuple[list[str], str]:
    """What is wrong with a task, and what was found in it."""
    from tts_eval.answers import default_grader
    from tts_eval.tasks.documents import FEATURES

    docs = list(task.eval_docs)
    missing = {field: sum(not doc[field] for doc in docs) for field in FEATURES if field != "level"}
    faults = [f"{count} problems without {field}" for field, count in missing.items() if count]
    repeated = [uid for uid, count in Counter(doc["unique_id"] for doc in docs).items() if count > 1]
    if repeated:
        faults.append(f"unique_id not unique: {_some(repeated)}")
    unasked = [doc["unique_id"] for doc in docs if doc["problem"] not in _prompt(task, doc)]
    if unasked:
        faults.append(f"prompt without the problem: {_some(unasked)}")
    verdicts = default_grader().grade([(doc["answer"], doc["answer"]) for doc in docs])
    wrong = [doc["unique_id"] for doc, right in zip(docs, verdicts, strict=True) if not right]
    summary = f"{sum(verdicts)}/{len(docs)} golds equal themselves"
    if wrong:
        faults.append(f"{summary}, not those of {_some(wrong)}")
    return faults, summary


def _prompt(task: ConfigurableTask, doc: dict[str, Any]) -> str:
    return str(task.fewshot_context(doc, num_fewshot=task.config.num_fewshot or 0))


def _first_prompt(name: str, task: ConfigurableTask) -> str:
    prompt = _prompt(task, task.eval_docs[0])
    shown = prompt if len(prompt) <= PROMPT_LENGTH else f"... {prompt[-PROMPT_LENGTH:]}"
    return f"\nThe first prompt of {name}:\n\n{textwrap.indent(shown, '    ')}\n"


def _some(uids: Sequence[str]) -> str:
    return ", ".join(uids[:3]) + (f" and {len(uids) - 3} more" if len(uids) > 3 else "")
