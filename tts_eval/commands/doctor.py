"""`tts-eval doctor` checks that what is installed here works, before a long run finds out; `doctor tasks` the tasks."""

from __future__ import annotations

import argparse
import json
import logging
import os
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from tts_eval.commands.doctor_checks import (
    Finding,
    check_command,
    check_devices,
    check_folder,
    check_grading,
    check_packages,
)
from tts_eval.commands.doctor_models import check_engines, check_search, check_verifiers
from tts_eval.commands.tasks import add_metadata, our_tasks, tasks_of
from tts_eval.types import TtsEvalError


if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask


PROMPT_LENGTH = 700
"""Longest part of a prompt that is printed, in characters."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the check-up, and `tasks`; each names the function that checks as `args.check`."""
    parser.add_argument("--base_url", metavar="URL", help="also ask this server: .../[chat/]completions")
    parser.add_argument("--model", metavar="NAME", help="the model's name on that server")
    parser.add_argument("--folder", type=Path, default=Path("results"), help="where runs will write (default: results)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(check=check_machine)
    subjects = parser.add_subparsers(metavar="SUBJECT")
    tasks = subjects.add_parser("tasks", help="load our tasks, render a prompt, grade every gold against itself")
    tasks.add_argument("tasks", nargs="*", metavar="TASK", help="tasks or groups to check (default: all of ours)")
    add_metadata(tasks)
    tasks.set_defaults(check=check_tasks)


def run(args: argparse.Namespace) -> int:
    """Runs the checks of the chosen subject; without one, those of the machine.

    Returns:
        0 if nothing failed, else 1.
    """
    return int(args.check(args))


def check_machine(args: argparse.Namespace) -> int:
    """Prints what was found of this machine, and the command that mends each fault.

    Args:
        args: `base_url` and `model` of a server to ask, or None; `folder`; `json`.

    Returns:
        0 if nothing is wrong, 1 otherwise; what is merely absent is not wrong.

    Raises:
        TtsEvalError: If there is a server without a model, or a model without a server.
    """
    if (args.base_url is None) != (args.model is None):
        raise TtsEvalError("--base_url and --model go together: tts-eval doctor --base_url URL --model NAME")
    with _quiet():
        found = list(_findings(args))
    if args.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        rows = [[one.check, one.level, one.state, one.mend] for one in found]
        print(tabulate(rows, ["check", "", "state", "mend"], maxcolwidths=[26, None, 64, 44], tablefmt="simple"))
    return int(any(finding.level == "FAIL" for finding in found))


@contextmanager
def _quiet() -> Iterator[None]:
    """No hub, which nothing here needs, and neither progress bars nor warnings, which would tear the table."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}  # before what reads them is imported
    log = logging.getLogger("tts_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    checks: list[Callable[[], Iterator[Finding]]] = [check_packages, check_devices, check_command, check_grading]
    checks += [partial(check_folder, args.folder), partial(check_engines, args.base_url, args.model)]
    for check in [*checks, check_verifiers, check_search]:
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001 (what is broken must not hide the rest)
            name = getattr(check, "func", check).__name__.removeprefix("check_")
            yield Finding(name, f"{type(error).__name__}: {error}"[:300], "tts-eval doctor --json", "FAIL")


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
