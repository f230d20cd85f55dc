"""Which of many runs plays which part in a report: found from what the journals say of themselves."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tts_eval.analysis.accuracy import pool_budgets
from tts_eval.analysis.chains import SHAPE_PARAMETERS, Family, families
from tts_eval.analysis.pools import PoolSet
from tts_eval.selection import candidate_scores
from tts_eval.types import TtsEvalError


_MOST = 0.9  # A run with a smaller share of the problems is left out, rather than the problems that it lacks.


@dataclass(frozen=True)
class Revisions:
    """Chains of one revision model, read by one verifier.

    Attributes:
        family: The runs, by shape.
        model: The revision model, as the journals' headers have it.
        verifier: The verifier, likewise.
        history: Whether the verifier sees the attempts before.
        sets: The same runs as they were loaded.
    """

    family: Family
    model: Mapping[str, Any]
    verifier: Mapping[str, Any]
    history: bool
    sets: tuple[PoolSet, ...]


@dataclass(frozen=True)
class Roles:
    """The runs of one task by the part that they play.

    Attributes:
        task: lm-eval's task name.
        base: The largest run of independent samples of the base model; with its verifier, if it has one.
        search: All runs of the base model with that verifier, `base` among them.
        outcome: The largest run of independent samples of the base model with an outcome verifier, or None.
        revisions: The chains with the most attempts; None without any.
        without_history: Chains of the same model, read by a verifier that doesn't see the attempts before; or None.
        notes: What was left out.
    """

    task: str
    base: PoolSet
    search: tuple[PoolSet, ...]
    outcome: PoolSet | None
    revisions: Revisions | None
    without_history: Revisions | None
    notes: tuple[str, ...]


def roles_of(sets: Sequence[PoolSet], task: str | None = None) -> Roles:
    """Finds the parts.

    Base model and verifier are the pair with the most runs that aren't chains of revisions, among those with a run of
    independent samples; of pairs with equally many, one with a process verifier.

    Args:
        sets: What `load_pools` returned.
        task: The task; None where there is but one, or else the one with the most runs.

    Raises:
        TtsEvalError: If the task has no run, or none of independent samples.
    """
    runs = Counter(pools.task for pools in sets)
    chosen = task or runs.most_common(1)[0][0]
    if chosen not in runs:
        raise TtsEvalError(f"--task {chosen}: no such task in these runs; they are of {', '.join(sorted(runs))}")
    notes = [
        f"task {other}: left out ({count} runs); report it with --task {other}"
        for other, count in sorted(runs.items())
        if other != chosen
    ]
    chains = [pools for pools in sets if pools.task == chosen and pools.parameters.get("name") == "revise"]
    others = [pools for pools in sets if pools.task == chosen and pools.parameters.get("name") != "revise"]
    if not any(pools.independent for pools in others):
        raise TtsEvalError(
            f"{chosen}: no run of independent samples, which difficulty and every comparison need; run lm_eval --model "
            "tts-best-of-n with the base model and --log_samples"
        )
    found, rest = _search(others)
    base = max((pools for pools in found if pools.independent), key=_largest)
    search, short = whole(found, keep=base)
    notes += short
    alike = [pools for pools in rest if pools.independent and _asked(pools) == _asked(base)]
    outcome, short = whole([pools for pools in alike if scored(pools) == "outcome"], most=max(map(problems, search)))
    notes += short
    notes += [
        f"{_called(pools)}: left out, the report is on {_called(base)}"
        for pools in rest
        if not (any(pools is one for one in alike) and scored(pools) == "outcome")
    ]
    revisions, without_history, more = _revisions(chains)
    return Roles(
        chosen,
        base,
        tuple(search),
        max(outcome, key=_largest, default=None),
        revisions,
        without_history,
        (*notes, *more),
    )


def problems(pools: PoolSet) -> int:
    """How many problems a run has."""
    return len({pool.uid for pool in pools.pools})


def whole(
    sets: Sequence[PoolSet], *, most: int | None = None, keep: PoolSet | None = None
) -> tuple[list[PoolSet], list[str]]:
    """The runs that aren't far from finished: a comparison is on the problems that all of them have.

    Args:
        sets: The runs.
        most: How many problems a finished one has; None takes the largest.
        keep: A run that stays in any case.

    Returns:
        Those runs, and a note on each of the others.
    """
    of_most = most or max(map(problems, sets), default=0)
    found = [pools for pools in sets if pools is keep or problems(pools) >= _MOST * of_most]
    notes = [
        f"{pools.strategy} N={pools.budget}: left out, {problems(pools)} of {of_most} problems; run it again to go on "
        "with it"
        for pools in sets
        if not any(pools is one for one in found)
    ]
    return found, notes


def difficulty_of(sets: Sequence[PoolSet], base: PoolSet) -> PoolSet:
    """The samples by which bins are cut, where others than the runs' are given.

    Args:
        sets: What `load_pools` returned of them.
        base: The base model's samples among the runs.

    Raises:
        TtsEvalError: If there are none of the same task, model, verifier and prompts, or they are the runs' own.
    """
    about = base.task, base.model, base.verifier, base.prompts
    able = [of for of in sets if of.independent and (of.task, of.model, of.verifier, of.prompts) == about]
    if not able:
        verifier = f" with verifier {model_name(base.verifier)}" if base.verifier else ""
        raise TtsEvalError(
            f"--bins: no independent samples of {model_name(base.model)}{verifier} on {base.task}; make some by "
            "lm_eval --model tts-best-of-n with the arguments of the run and another seed="
        )
    found = max(able, key=_largest)
    if {pool.seed for pool in found.pools} & {pool.seed for pool in base.pools} and found.parameters == base.parameters:
        raise TtsEvalError("--bins: these are samples of the runs themselves; sample again, with another seed=")
    return found


def _revisions(sets: Sequence[PoolSet]) -> tuple[Revisions | None, Revisions | None, list[str]]:
    """The chains with the most attempts, those without history beside them, and notes on the others."""
    found: list[Revisions] = []
    notes: list[str] = []
    for of_models in _by_models(sets).values():
        finished, more = whole(of_models)
        notes += more
        first = finished[0]
        about = first.model, first.verifier, bool(first.parameters.get("history")), tuple(finished)
        of_family, more = families(finished)
        notes += more
        found += [Revisions(family, *about) for family in of_family]
    found.sort(key=lambda one: (-sum(run.shape.budget for run in one.family.runs), not one.history))
    if not found:
        return None, None, notes
    main = found[0]
    alike = [one for one in found[1:] if _asked(one.sets[0]) == _asked(main.sets[0])]
    beside = [one for one in alike if main.history and not one.history and one.verifier]
    notes += [
        f"revise of {model_name(one.model)}: left out, the report is on {model_name(main.model)}"
        for one in found[1:]
        if one not in beside[:1]
    ]
    return main, beside[0] if beside else None, notes


def _asked(pools: PoolSet) -> tuple[Mapping[str, Any], ...]:
    """What must be alike for samples to differ by the verifier alone.

    Where steps end and whether it sees earlier attempts is only how it reads them, and a shape how many there are.
    """
    reading = (*SHAPE_PARAMETERS, "step_delimiter", "history")
    return pools.model, pools.prompts, {name: value for name, value in pools.own.items() if name not in reading}


def _by_models(sets: Sequence[PoolSet]) -> Mapping[str, list[PoolSet]]:
    """By policy and verifier, and how the policy was asked."""
    groups: dict[str, list[PoolSet]] = defaultdict(list)
    for pools in sets:
        groups[json.dumps([pools.model, pools.verifier, pools.prompts], sort_keys=True)].append(pools)
    return groups


def scored(pools: PoolSet) -> str | None:
    """By what kind of verifier: `process`, `outcome` or None."""
    candidate = next((c for pool in pools.pools for c in pool.candidates if c.answer is not None), None)
    if candidate is None or any(candidate_scores(pool.candidates, "last") is None for pool in pools.pools):
        return None
    return "process" if candidate.step_scores is not None else "outcome"


def model_name(of: Mapping[str, Any]) -> str:
    """What a reader calls a model or verifier of a journal's header."""
    return str(of.get("pretrained") or of.get("name") or of.get("model") or "unnamed")


def _search(sets: Sequence[PoolSet]) -> tuple[list[PoolSet], list[PoolSet]]:
    """The runs of the base model and its verifier, and all others."""
    able = [group for group in _by_models(sets).values() if any(pools.independent for pools in group)]
    best = max(able, key=lambda group: (len(group), scored(group[0]) == "process", max(map(_largest, group))))
    return best, [pools for pools in sets if not any(pools is one for one in best)]


def _largest(pools: PoolSet) -> tuple[int, int]:
    return (pool_budgets(pools)[-1], len(pools.pools)) if pools.independent else (0, 0)


def _called(pools: PoolSet) -> str:
    verifier = f" with {model_name(pools.verifier)}" if pools.verifier else ""
    return f"{pools.parameters.get('name', pools.strategy)} N={pools.budget} of {model_name(pools.model)}{verifier}"
