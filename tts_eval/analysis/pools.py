"""Pools: the graded candidates of each problem, gathered from journals."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tts_eval.analysis.gold import Gold, gold_of, read_samples_gold
from tts_eval.answers import FIND_ANSWERS
from tts_eval.journal import Record, read_journal
from tts_eval.jsonl import flatten
from tts_eval.selection import Booleans, Integers, as_classes
from tts_eval.types import Candidate, TtsEvalError, Usage


DEPENDENT_STRATEGIES = ("beam", "lookahead", "dvts", "rebase", "revise", "optimal")
"""Strategies whose candidates come from one joint search: a subset of them isn't a smaller search."""

# They don't change how a candidate comes about. An aggregation that a strategy lists does: it ranked the prefixes.
_SPENT = ("seed", "budget", "selection")
_NOT_PARAMETERS = ("name", *_SPENT)

_PROMPTS = ("prompting", "limits")
_LONGEST = 60  # characters that a label gives to a system prompt or to stop strings


class Grader(Protocol):
    """What the analysis needs of `tts_eval.answers`."""

    def grade(self, pairs: Iterable[tuple[str, str | None]]) -> list[bool]:
        """Says for each (gold, answer) whether they are equivalent; None never is."""

    def group(self, answers: Sequence[str | None]) -> list[int | None]:
        """Gives equivalent answers the same id, and None to None."""


@dataclass(frozen=True)
class Pool:
    """The candidates of one problem from one run.

    Attributes:
        uid: The problem.
        seed: The run's seed.
        level: The problem's difficulty label, or None.
        candidates: All candidates, n of them.
        classes: Answer classes, [n] (see `tts_eval.selection`).
        correct: Whether each candidate's answer is right, [n].
        usage: What the candidates cost together.
    """

    uid: str
    seed: int
    level: Any
    candidates: tuple[Candidate, ...]
    classes: Integers
    correct: Booleans
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class PoolSet:
    """The pools of one task and one strategy at one budget: one or more seeds of each problem.

    Attributes:
        task: lm-eval's task name.
        strategy: The strategy's name; with the parameters that tell it from others of that name, if there are any.
        budget: The paper's N (section 3).
        independent: Whether the candidates are independent samples, so that k of them are a pool of budget k.
        pools: By uid and seed, so that what is drawn from them doesn't depend on which problem was finished first.
        parameters: The strategy as the journals have it: its `name` and everything that it was given.
        model: The policy, as the journals' headers have it; empty where they don't have one.
        verifier: The verifier, likewise; empty without one.
        prompts: How the policy was asked: `prompting` and `limits` of the headers, without what wasn't given.
    """

    task: str
    strategy: str
    budget: int
    independent: bool
    pools: tuple[Pool, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    verifier: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own(self) -> dict[str, Any]:
        """Those of the parameters that tell one strategy from another, whatever is spent on it."""
        return {name: value for name, value in self.parameters.items() if name not in _SPENT}


@dataclass(frozen=True)
class _Key:
    """What pools of one set share."""

    task: str
    name: str
    budget: int
    parameters: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class _Graded:
    """A record, what is known of its problem, what its journal's header says of the run, and when that started."""

    record: Record
    gold: Gold
    run: Mapping[str, Any]
    started: str | None


def grade_all(pairs: Iterable[tuple[Gold, str | None]], grader: Grader) -> list[bool]:
    """Whether each answer is equivalent to one that is right."""
    asked = list(pairs)
    verdicts = iter(grader.grade((right, answer) for gold, answer in asked for right in gold.answers))
    return [sum(next(verdicts) for _ in gold.answers) > 0 for gold, _ in asked]


def find_journals(paths: Sequence[Path]) -> list[Path]:
    """Returns the journals among `paths`: files as they are, folders searched for `candidates_*.jsonl`; each once.

    Raises:
        TtsEvalError: If a path doesn't exist, or there is no journal at all.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise TtsEvalError(f"{path}: no such file or folder; check the path")
        for journal in sorted(path.rglob("candidates_*.jsonl")) if path.is_dir() else [path]:
            found.setdefault(journal.resolve(), journal)
    if not found:
        raise TtsEvalError(
            f"no journal (candidates_*.jsonl) in {', '.join(map(str, paths))}; "
            "run lm_eval with one of our models and --output_path, or name the file"
        )
    return list(found.values())


def load_pools(
    paths: Sequence[Path], grader: Grader, *, texts: bool = True, lenient: bool = False
) -> tuple[list[PoolSet], list[str]]:
    """Reads and grades journals.

    Args:
        paths: Journals, or folders that hold some.
        grader: Judges equivalence; each call gets all it can batch.
        texts: Whether the candidates keep texts and steps, which take up most of the memory.
        lenient: Whether a malformed journal is left out with a note, instead of being an error.

    Returns:
        The sets of pools, and notes for the user on what was left out.

    Raises:
        TtsEvalError: If there is no journal, a malformed one, or no gold answer at all.
    """
    notes: list[str] = []
    records: dict[_Key, dict[tuple[str, int], _Graded]] = defaultdict(dict)
    lacking: dict[str, list[str]] = defaultdict(list)
    repeated = 0
    for run, started, record, gold in _graded_records(find_journals(paths), notes if lenient else None):
        if gold is None:
            lacking[record.task].append(record.uid)
            continue
        of_key, place = records[_key(run, record)], (record.uid, record.seed)
        if place in of_key:
            repeated += 1
            before = of_key[place].started
            if before is not None and started is not None and started < before:
                continue
        kept = record if texts else replace(record, candidates=tuple(map(_without_text, record.candidates)))
        of_key[place] = _Graded(kept, gold, run, started)
    if not records and not lacking:
        known = f" ({'; '.join(notes)})" if notes else ""
        raise TtsEvalError(
            f"no finished problem in {', '.join(map(str, paths))}{known}; run the same lm_eval command again to go on "
            "with it"
        )
    if not records:
        raise TtsEvalError(
            f"no gold answer for any problem of {', '.join(sorted(lacking))}; run lm_eval again with "
            "--log_samples and the same --output_path (if the task has any), or put `gold` in the journal's lines"
        )
    notes += [f"{task}: {len(uids)} problems without a gold answer are left out" for task, uids in lacking.items()]
    if repeated:
        notes.append(f"{repeated} problems occur again with the same strategy and seed; the newest journal counts")
    sets = _build(records, grader)
    return sets, notes + _unanswered(sets)


def _graded_records(
    journals: Sequence[Path], malformed: list[str] | None
) -> Iterator[tuple[Mapping[str, Any], str | None, Record, Gold | None]]:
    """Every record with its run, when that started, and its gold answer.

    What is wrong in a journal goes to `malformed`, if that is a list.
    """
    samples: dict[tuple[Path, str], dict[str, Gold]] = {}
    for path in journals:
        try:
            header, records = read_journal(path)
        except TtsEvalError as error:
            if malformed is None:
                raise
            malformed.append(f"left out: {error}")
            continue
        run = {} if header is None else _told_apart(header.run)
        started = None if header is None else header.run.get("started")
        when = started if isinstance(started, str) else None
        for record in records:
            where = path.parent, record.task
            if record.gold is None and where not in samples:
                samples[where] = read_samples_gold(*where)
            yield run, when, record, gold_of(record, samples.get(where, {}))


def _told_apart(run: Mapping[str, Any]) -> dict[str, Any]:
    """What of a header's run makes other candidates, besides the strategy that each line has."""
    prompting, limits = run.get("prompting"), run.get("limits")
    if isinstance(prompting, dict):
        # Options that weren't given say nothing, and a label is short without them.
        prompting = {name: value for name, value in prompting.items() if value is not None}
    match limits:
        case [[stop, max_tokens]]:  # all problems have the same, which is usual
            limits = {"stop": stop, "max_tokens": max_tokens}
    given = {name: value for name, value in zip(_PROMPTS, (prompting, limits), strict=True) if value}
    return {"model": run.get("model"), "verifier": run.get("verifier"), **given}


def _without_text(candidate: Candidate) -> Candidate:
    return replace(candidate, text="", steps=())


def _key(run: Mapping[str, Any], record: Record) -> _Key:
    parameters = {**run, **{name: value for name, value in record.strategy.items() if name not in _NOT_PARAMETERS}}
    shown = frozenset((name, json.dumps(value)) for name, value in flatten(parameters))
    return _Key(record.task, record.strategy["name"], record.budget, shown)


def _build(records: Mapping[_Key, Mapping[tuple[str, int], _Graded]], grader: Grader) -> list[PoolSet]:
    records = {key: dict(sorted(of_key.items())) for key, of_key in records.items()}
    everything = [one for of_key in records.values() for one in of_key.values()]
    verdicts = iter(grade_all(((one.gold, c.answer) for one in everything for c in one.record.candidates), grader))
    sets = []
    for key, of_key in records.items():
        pools = tuple(_pool(one.record, one.gold, grader, verdicts) for one in of_key.values())
        independent = key.name not in DEPENDENT_STRATEGIES and all(
            candidate.attempt == 0 for pool in pools for candidate in pool.candidates
        )
        alike = [other for other in records if (other.task, other.name) == (key.task, key.name)]
        label, first = _label(key, alike, independent), next(iter(of_key.values()))
        of_run = [as_mapping(first.run.get(name)) for name in ("model", "verifier")]
        of_run.append({name: first.run[name] for name in _PROMPTS if name in first.run})
        sets.append(PoolSet(key.task, label, key.budget, independent, pools, first.record.strategy, *of_run))
    return sorted(sets, key=lambda s: (s.task, s.strategy, s.budget))


def _unanswered(sets: Iterable[PoolSet]) -> list[str]:
    """Notes on tasks of which no solution, with the same way to find answers, states one."""
    answers: dict[tuple[str, str], bool] = defaultdict(bool)
    for one in sets:
        found = any(candidate.answer is not None for pool in one.pools for candidate in pool.candidates)
        answers[one.task, str(one.parameters.get("answer_fallback"))] |= found
    return [
        f"{task}, answer_fallback {fallback}: no solution states an answer, so all count as wrong; {FIND_ANSWERS}"
        for (task, fallback), found in sorted(answers.items())
        if not found
    ]


def as_mapping(value: Any) -> Mapping[str, Any]:
    """A model or verifier of a header: ours are objects, an imported file may have a name."""
    return value if isinstance(value, dict) else {} if value is None else {"name": value}


def _pool(record: Record, gold: Gold, grader: Grader, verdicts: Iterator[bool]) -> Pool:
    classes = as_classes(grader.group([candidate.answer for candidate in record.candidates]))
    correct = np.fromiter(itertools.islice(verdicts, len(classes)), dtype=bool)
    return Pool(record.uid, record.seed, gold.level, record.candidates, classes, correct, record.usage)


def _label(key: _Key, alike: Sequence[_Key], independent: bool) -> str:
    """Names a set so that no two sets give rows that look the same."""
    common = frozenset.intersection(*(other.parameters for other in alike))
    differing = [f"{name}={_shown(name, value)}" for name, value in sorted(key.parameters - common)]
    # Independent pools of two budgets both give the smaller budgets; other strategies give one budget each.
    if independent and len({other.budget for other in alike if other.parameters == key.parameters}) > 1:
        differing.append(f"budget={key.budget}")
    return f"{key.name} ({', '.join(differing)})" if differing else key.name


def _shown(name: str, value: str) -> str:
    """A parameter's value in a label: a long system prompt is cut, and a digest tells it from others."""
    if not name.startswith(_PROMPTS) or len(value) <= _LONGEST:
        return value
    return f"{value[: _LONGEST - 10]}...{hashlib.sha256(value.encode()).hexdigest()[:6]}"
