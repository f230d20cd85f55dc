"""Where this run's journals are: beside lm-eval's own files, and found again by the same command."""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from lm_eval.api.model import CacheHook
from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker
from lm_eval.utils import sanitize_model_name

from tts_eval.journal import Journal
from tts_eval.jsonl import Header
from tts_eval.model_adapters.ranks import Ranks
from tts_eval.model_adapters.records import Question
from tts_eval.model_adapters.shards import TaskJournal
from tts_eval.types import TtsEvalError


_PACKAGES = ("tts-eval", "lm-eval", "torch", "transformers", "math-verify")

_PROMPTING = ("num_fewshot", "apply_chat_template", "system_instruction", "fewshot_as_multiturn")

_CACHE_KEY = "tts-eval run"

log = logging.getLogger(__name__)


def output_folder(model_args: Mapping[str, Any]) -> Path | None:
    """The folder in which lm-eval will write this run's results and samples, or None if it writes none.

    lm-eval tells its models nothing of `--output_path`, so this reads the running command's own line.

    Args:
        model_args: Everything of `--model_args`, from which lm-eval takes the folder's name.
    """
    output_path = _command_line().get("output_path")
    if output_path is None:
        return None
    path = Path(output_path)
    if path.suffix == ".json":
        return path.parent
    name = GeneralConfigTracker._get_model_name(dict(model_args))
    # Without a name lm-eval makes one up when it writes; the journal stays one folder above.
    return path / sanitize_model_name(name) if name else path


def prompting() -> dict[str, Any]:
    """What the running command says of prompts; a run with other prompts is another run."""
    options = _command_line()
    return {name: options.get(name) for name in _PROMPTING}


def _command_line() -> dict[str, Any]:
    """The options of the running lm_eval command that concern us, those of its `--config` file included."""
    if "lm_eval._cli.run" not in sys.modules:
        return {}  # called as a library: the command line is somebody else's
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--output_path", "-o")
    parser.add_argument("--config", "-C")
    parser.add_argument("--num_fewshot", "-f", type=int)
    parser.add_argument("--system_instruction")
    parser.add_argument("--apply_chat_template", nargs="?", const=True)
    parser.add_argument("--fewshot_as_multiturn", nargs="?", const=True)
    given, _ = parser.parse_known_args(sys.argv[1:])
    options = {name: value for name, value in vars(given).items() if value is not None}
    config = Path(options["config"]).read_text(encoding="utf-8") if "config" in options else ""
    return {**(yaml.safe_load(config) or {}), **options}


def journal_of(
    named: str | None, folder: Path | None, task: str, identity: Mapping[str, Any], questions: Iterable[Question]
) -> TaskJournal | None:
    """Says where the candidates of one task go.

    Args:
        named: The argument `journal=`: a file ending in .jsonl, or a folder.
        folder: The run's output folder; used where nothing is named.
        task: lm-eval's task name.
        identity: What decides the run's candidates.
        questions: The task's questions.

    Returns:
        The journal, or None where no folder is known: then nothing can be resumed or selected from later.
    """
    limits = {(question.problem.stop, question.problem.max_tokens) for question in questions}
    run = {**identity, "task": task, "limits": sorted(limits), "prompting": prompting()}
    place = Path(named).expanduser() if named else folder
    if place is None:
        log.warning("tts-eval: no journal is kept; give --output_path (or journal=) to keep all candidates and resume")
        return None
    return TaskJournal(place, task, Header({**run, **provenance(datetime.now())}))


def open_journal(of_task: TaskJournal, ranks: Ranks, questions: Iterable[Question]) -> Journal:
    """Opens the journal of one task: the run's own if it was interrupted, else a new one.

    Args:
        of_task: Where it is.
        ranks: The processes of this run.
        questions: The task's questions.

    Returns:
        What this rank writes, with all that is done already.

    Raises:
        TtsEvalError: If the named file belongs to another run, was made with other prompts, or can't be written.
    """
    journal = of_task.open(ranks)
    _require_same_prompts(journal, questions)
    if journal.records and ranks.rank == 0:
        log.warning("tts-eval: %d problems of %s are in %s already", len(journal.records), of_task.task, journal.path)
    return journal


def provenance(now: datetime) -> dict[str, Any]:
    """What a header says for information only: package versions, the commit, and when the run started."""
    return {"versions": _versions(), "git_hash": _git_hash(), "started": now.isoformat()}


def claim_cache(cache_hook: CacheHook, identity: Mapping[str, Any]) -> None:
    """Makes sure that an lm-eval cache holds this run's answers alone: its keys know nothing of budget or model.

    Raises:
        TtsEvalError: If it holds the answers of another run.
    """
    cache = cache_hook.dbdict
    if cache is None:
        return
    mine = json.dumps(identity, sort_keys=True)
    theirs = cache.get(_CACHE_KEY)
    if theirs == mine:
        return
    if len(cache):
        whose = "another run" if theirs is None else theirs
        raise TtsEvalError(
            f"the --use_cache file {cache.filename} holds the answers of {whose}: name another file, or delete it"
        )
    cache[_CACHE_KEY] = mine


def _require_same_prompts(journal: Journal, questions: Iterable[Question]) -> None:
    for question in questions:
        record = journal.records.get(question.problem.uid)
        if record is not None and record.prompt_hash != question.prompt_hash:
            raise TtsEvalError(
                f"journal {journal.path}: problem {record.uid} had another prompt there (chat template, few-shot "
                "examples or system instruction differ): use the same options, or write to another folder"
            )


def _git_hash() -> str | None:
    """The commit of the checkout that this code runs from; None for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None  # no git on this machine
    return done.stdout.strip() or None


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # an optional one, such as torch for a run over a server
    return found
