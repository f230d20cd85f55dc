"""What lm-eval's results say of a run, for the leaderboard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tts_eval.analysis.choice import choose
from tts_eval.analysis.gold import gold_of, read_samples_gold
from tts_eval.analysis.pools import as_mapping
from tts_eval.answers import FIND_ANSWERS, default_grader
from tts_eval.journal import Record, read_journal
from tts_eval.report.leaderboard import Named, Run, named
from tts_eval.schema import from_json
from tts_eval.selection import WITHOUT_SCORES
from tts_eval.types import UNKNOWN_USAGE, TtsEvalError, Usage


_ACCURACY = "accuracy,none"
"""What our tasks measure: whether the answer that a run returned is right."""

_IDENTITY = ("model", "verifier", "strategy", "budget", "seed")
"""What results_*.json says of a run in the same words as its journal's header."""

_MODEL_NAMES = ("peft", "delta", "pretrained", "model", "path", "engine", "name", "base")
"""The arguments by which lm-eval names a model, in its order; what an imported journal has; and the last resort."""

class Key(NamedTuple):
    """What the journals and the results of a run have in common.

    Attributes:
        folder: Where they are.
        task: lm-eval's task name.
        identity: What decides the run's candidates, as JSON.
    """

    folder: Path
    task: str
    identity: str


@dataclass(frozen=True)
class Graded:
    """What a run is worth.

    Attributes:
        n: Number of problems.
        accuracy: Share of them whose selected answer is right, 0 to 1.
        selection: How it was selected.
        usage: What all of them cost.
    """

    n: int
    accuracy: float
    selection: str
    usage: Usage


def key_of(path: Path, task: str, run: Mapping[str, Any]) -> Key:
    """The key of a journal, or of results, from what it says of its run."""
    return Key(path.parent, task, json.dumps({name: run.get(name) for name in _IDENTITY}, sort_keys=True))


def grade(
    records: Sequence[Record], path: Path, *, selection: str | None = None, aggregation: str | None = None
) -> Graded:
    """Selects as the adapters do, late, and grades what was selected; problems without a gold answer are left out.

    Args:
        records: Of one run, in which a problem may occur several times, as lm-eval's documents may.
        path: The file that tells of the run; samples files beside it have gold answers.
        selection: See `choose`.
        aggregation: See `choose`.

    Raises:
        TtsEvalError: If no problem has a gold answer, or no solution an answer: of prose or code we can't tell.
    """
    lacking = {record.task for record in records if record.gold is None}
    golds = {task: read_samples_gold(path.parent, task) for task in lacking}
    correct, selections, usage = [], set(), Usage()
    for record in records:
        gold = gold_of(record, golds.get(record.task, {}))
        if gold is None:
            continue
        choice = choose(record, gold, default_grader(), selection=selection, aggregation=aggregation)
        correct.append(any(answer.selected and answer.correct for answer in choice.answers))
        selections.add(_called(choice.selection, None if choice.scores is None else choice.aggregation))
        usage += record.usage
    if not correct:
        raise TtsEvalError(
            f"{path}: no gold answer for any of its problems; if the task has any, run lm_eval again with --log_samples"
        )
    if not any(candidate.answer is not None for record in records for candidate in record.candidates):
        raise TtsEvalError(f"{path}: no solution of {records[0].task} states an answer; {FIND_ANSWERS}")
    return Graded(len(correct), sum(correct) / len(correct), " or ".join(sorted(selections)), usage)


def reported(path: Path, journals: Mapping[Key, Sequence[Path]]) -> tuple[dict[Key, Run], list[str]]:
    """Reads a results_*.json.

    Args:
        path: The file.
        journals: The journals by key.

    Returns:
        A run for each task and group of tasks, and notes on tasks that it tells too little of.

    Raises:
        TtsEvalError: If it isn't whole, or something else than lm-eval's.
    """
    found: dict[Key, Run] = {}
    notes = []
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        for task in report["results"]:
            key = key_of(path, task, report["config"].get("tts_eval", {}))
            try:
                of_task = _of_task(path, report, task, journals.get(key, []))
            except TtsEvalError as error:
                notes.append(f"left out: {error}")
                continue
            if of_task is not None:
                found[key] = of_task
            elif task in report["n-samples"]:
                notes.append(f"left out: {path}: {task} has no {_ACCURACY} and no journal; run a task of ours")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TtsEvalError(f"{path}: not whole results of lm-eval ({error!r}); delete it, or run again") from error
    return found, notes


def _of_task(path: Path, report: Mapping[str, Any], task: str, journals: Sequence[Path]) -> Run | None:
    """What results say of one task; of a task that isn't ours the journals are graded, if there are any."""
    config, scores = report["config"], report["results"][task]
    ours = config.get("tts_eval", {})
    n = from_json(int, scores["sample_len"], f"{path}: sample_len")
    if _ACCURACY in scores:
        accuracy = from_json(float, scores[_ACCURACY], f"{path}: {_ACCURACY}")
        graded = Graded(n, accuracy, _selection(config), _usage(path, report, n, journals))
    elif journals:
        selection, aggregation = _told(config)
        graded = grade(_documents(path, task, journals), path, selection=selection, aggregation=aggregation)
    else:
        return None
    if graded.n != n or n < 1 or not 0 <= graded.accuracy <= 1:
        raise TtsEvalError(f"{path}: {task}: accuracy {graded.accuracy} of {graded.n} of {n} problems; run it again")
    # lm-eval's means are of all ranks, and of this task alone.
    counted = {
        name: from_json(float, scores[f"{name},none"], f"{path}: {name}")
        for name in ("generations", "tokens")
        if f"{name},none" in scores
    }
    parameters = from_json(int, config.get("model_num_parameters", 0), f"{path}: model_num_parameters")
    return Run(
        task=task,
        model=model_of({**_policy(config), **_prompting(report, task)}),
        verifier=thing_of(ours.get("verifier")),
        strategy=thing_of(ours["strategy"] if ours else _decoding(report, task)),
        budget=from_json(int, ours["budget"], f"{path}: budget") if ours else _rounded(counted.get("generations")),
        selection=graded.selection,
        seed=ours["seed"] if ours else config.get("torch_seed"),
        n=n,
        accuracy=graded.accuracy,
        **{**means(graded.usage, n), **counted},
        parameters=parameters if parameters > 0 else None,
        date=from_json(float, report.get("date", 0.0), f"{path}: date"),
        source=str(path),
    )


def means(usage: Usage, n: int) -> dict[str, float | None]:
    """What a problem costs, by the names that a `Run` has for it."""
    totals = {
        "generations": usage.generations,
        "tokens": usage.decode_tokens,
        "verifier_tokens": usage.verifier_tokens,
        "seconds": usage.seconds,
    }
    return {name: None if total is None else total / n for name, total in totals.items()}


def model_of(arguments: Any) -> Named:
    """A model from its arguments, or from its bare name."""
    given = as_mapping(arguments)
    name = next((name for name in _MODEL_NAMES if name in given), "")
    return named(str(given.get(name, "")), {key: value for key, value in given.items() if key != name})


def thing_of(parameters: Any) -> Named:
    """A verifier or strategy from its `name` and parameters, or from its bare name."""
    given = as_mapping(parameters)
    return named(str(given.get("name", "")), {key: value for key, value in given.items() if key != "name"})


def _rounded(generations: float | None) -> int | None:
    return None if generations is None else round(generations)


def _policy(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of the base model, of a plain run those of its only model."""
    ours = config.get("tts_eval")
    return {"base": config["model"], **_arguments(config)} if ours is None else ours["model"]


def _arguments(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything of `--model_args`; lm-eval takes it as a string too."""
    given = config["model_args"]
    return given if isinstance(given, dict) else dict(part.split("=", 1) for part in given.split(",") if "=" in part)


def _prompting(report: Mapping[str, Any], task: str) -> dict[str, Any]:
    """How the model was asked, where that isn't a bare prompt."""
    return {
        "shots": report["n-shot"].get(task) or None,
        "chat_template": report.get("chat_template_sha") is not None or None,
        "system_instruction": report.get("system_instruction"),
    }


def _decoding(report: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The strategy of a run that isn't one of our searches: a single answer, or a replay."""
    model, configs = str(report["config"]["model"]), report["configs"]
    if model.startswith("tts-"):
        return {"name": model.removeprefix("tts-")}
    # A group of tasks has no configuration of its own.
    options = configs.get(task, next(iter(configs.values()), {})).get("generation_kwargs") or {}
    temperature = options.get("temperature")
    if not temperature or options.get("do_sample") is False:
        return {"name": "greedy"}
    return {"name": "one sample", "temperature": temperature}


def _selection(config: Mapping[str, Any]) -> str:
    """How the adapter chose: as it was told, or as suits the verifier."""
    ours = config.get("tts_eval", {})
    selection, aggregation = _told(config)
    if ours and selection is None:
        of_chains = ours["strategy"]["name"] == "revise"
        scored = "hierarchical" if of_chains else "best_of_n_weighted"
        selection = "majority" if ours["verifier"] is None else scored
    aggregation = aggregation or ours.get("strategy", {}).get("aggregation")
    return "" if selection is None else _called(selection, aggregation)


def _called(selection: str, aggregation: str | None) -> str:
    """A selection with what it makes of step scores, if it uses them."""
    if aggregation is None or selection in WITHOUT_SCORES:
        return selection
    return f"{selection} ({aggregation})"


def _told(config: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """`selection=` and `aggregation=`, as far as they were given."""
    given = _arguments(config)
    return given.get("tts_selection", given.get("selection")), given.get("tts_aggregation", given.get("aggregation"))


def _usage(path: Path, report: Mapping[str, Any], n: int, journals: Sequence[Path]) -> Usage:
    """What a task cost: results know the cost of a whole run on one rank, journals that of each problem."""
    ours = report["config"].get("tts_eval")
    if ours is None:
        return UNKNOWN_USAGE
    if "shard" not in ours and n == sum(of_task["effective"] for of_task in report["n-samples"].values()):
        usage: Usage = from_json(Usage, ours["usage"], f"{path}: usage")
        return usage
    records = _records(journals)
    return sum((record.usage for record in records), Usage()) if len(records) == n else UNKNOWN_USAGE


def _documents(path: Path, task: str, journals: Sequence[Path]) -> list[Record]:
    """A record for each document of the results: those with equal prompts share one, and a journal may hold more."""
    records = _records(journals)
    samples = path.with_name(f"samples_{task}_{path.stem.removeprefix('results_')}.jsonl")
    if not samples.exists():
        return records
    by_prompt = {record.prompt_hash: record for record in records}
    with samples.open(encoding="utf-8") as lines:
        asked = {sample["doc_id"]: sample["prompt_hash"] for sample in map(json.loads, lines)}
    return [by_prompt[prompt] for prompt in asked.values() if prompt in by_prompt]


def _records(journals: Sequence[Path]) -> list[Record]:
    return [record for journal in journals for record in read_journal(journal)[1]]
