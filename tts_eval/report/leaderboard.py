"""The leaderboard: a table a task, a line a model, verifier, strategy and budget; the same runs give the same text."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from statistics import fmean
from typing import Any, NamedTuple

from tabulate import tabulate

from tts_eval.analysis import wilson_interval
from tts_eval.analysis.flops import ACCOUNTINGS, inference_flops
from tts_eval.jsonl import flatten
from tts_eval.report.one_line import one_line


_ACCOUNTING = ACCOUNTINGS["v1"]
_WIDTH = 160  # most characters of a name in a cell

_HEADS = (
    *("model", "verifier", "strategy", "N", "selection", "accuracy", "problems", "seeds"),
    *("generations", "tokens", "verifier tokens", f"FLOPs ({_ACCOUNTING.name})", "seconds"),
)

_LEGEND = (
    "Accuracy of the answers that the runs returned, in percent [95 % Wilson interval over the problems]; with several "
    "seeds\ntheir mean. Costs are means over the problems, empty where nobody counted. "
    f"FLOPs ({_ACCOUNTING.name}): {_ACCOUNTING.inference:g} x parameters x tokens\nof the policy; "
    "what a verifier reads is not part of it.\n"
)


class Named(NamedTuple):
    """A model, a verifier or a strategy.

    Attributes:
        name: What people call it.
        parameters: Everything else that decides what it does, as (name, value).
    """

    name: str
    parameters: frozenset[tuple[str, str]] = frozenset()


def named(name: str, parameters: Mapping[str, Any]) -> Named:
    """Makes one from JSON values; those that are null say nothing."""
    flat = [(key, value) for key, value in flatten(dict(parameters)) if key and value is not None]
    return Named(name, frozenset((key, value if isinstance(value, str) else json.dumps(value)) for key, value in flat))


@dataclass(frozen=True)
class Run:
    """What one run says of one task; a cost is a mean over the problems, and None where nobody counted it.

    Attributes:
        task: lm-eval's task name.
        model: The policy.
        verifier: Without a verifier its name is empty.
        strategy: How the budget was spent.
        budget: The paper's N (section 3), or None.
        selection: How an answer was chosen; empty where there was but one.
        seed: Of the run.
        n: Number of problems, at least 1.
        accuracy: Share of them that were solved, 0 to 1.
        generations: Solutions sampled.
        tokens: Tokens that the policy wrote.
        verifier_tokens: Tokens that the verifier read.
        seconds: Wall-clock seconds.
        parameters: The policy's number of parameters, or None.
        date: Seconds since the epoch: of two runs that differ in nothing else the newer one counts.
        source: The file that says so.
    """

    task: str
    model: Named
    verifier: Named
    strategy: Named
    budget: int | None
    selection: str
    seed: int | None
    n: int
    accuracy: float
    generations: float | None
    tokens: float | None
    verifier_tokens: float | None
    seconds: float | None
    parameters: int | None
    date: float
    source: str

    @property
    def line(self) -> tuple[Any, ...]:
        """What runs of one line share: all but the seed. On other problems it would be another measurement."""
        return self.task, self.model, self.verifier, self.strategy, self.budget, self.selection, self.n

    @property
    def flops(self) -> float | None:
        """FLOPs a problem of the policy, as the paper counts them (section 5)."""
        if self.parameters is None or self.tokens is None:
            return None
        return inference_flops(self.parameters, self.tokens, _ACCOUNTING)


def leaderboard(runs: Sequence[Run]) -> tuple[str, list[str]]:
    """Writes the leaderboard.

    Args:
        runs: In any order; those that differ in their seed alone become one line.

    Returns:
        Markdown without anything that tells when or where it was written; and notes for the user on what was left out.
    """
    kept, notes = _newest(_without_folders(runs))
    blocks = ["# Leaderboard\n"]
    for task in sorted({run.task for run in kept}):
        rows = _rows([run for run in kept if run.task == task])
        blocks.append(f"## {_cell(task)}\n\n{tabulate(rows, _HEADS, 'github', disable_numparse=True)}\n")
    return "\n".join([*blocks, _LEGEND]), notes


def _newest(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Keeps one run of each line and seed."""
    kept: dict[tuple[Any, ...], Run] = {}
    notes = []
    for run in sorted(runs, key=lambda run: (run.date, run.source)):
        before = kept.get((run.line, run.seed))
        if before is not None:
            notes.append(f"{before.source}: {run.task} left out, {run.source} is a newer run of the same")
        kept[run.line, run.seed] = run
    return list(kept.values()), notes


def _rows(runs: Sequence[Run]) -> list[list[str]]:
    """The cells of one task's table."""
    lines: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        lines[run.line].append(run)
    of_lines = list(lines.values())
    columns = [
        _labels([first.model for first, *_ in of_lines]),
        _labels([first.verifier for first, *_ in of_lines]),
        _labels([first.strategy for first, *_ in of_lines]),
    ]
    names = list(zip(*columns, strict=True))
    order = sorted(range(len(names)), key=lambda i: (*map(_natural, names[i]), _rank(of_lines[i][0])))
    return [[*names[i], *_numbers(of_lines[i])] for i in order]


def _numbers(runs: Sequence[Run]) -> list[str]:
    first, accuracy = runs[0], fmean(run.accuracy for run in runs)
    low, high = wilson_interval(accuracy, first.n)
    return [
        "" if first.budget is None else str(first.budget),
        _cell(first.selection),
        f"{100 * accuracy:.1f} [{100 * low:.1f}, {100 * high:.1f}]",
        str(first.n),
        str(len(runs)),
        _mean("{:,.1f}", [run.generations for run in runs]),
        _mean("{:,.0f}", [run.tokens for run in runs]),
        _mean("{:,.0f}", [run.verifier_tokens for run in runs]),
        _mean("{:.2e}", [run.flops for run in runs]),
        _mean("{:.2f}", [run.seconds for run in runs]),
    ]


def _mean(form: str, values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return form.format(fmean(known)) if len(known) == len(values) else ""


def _labels(things: Sequence[Named]) -> list[str]:
    """Each one's name, with the parameters that tell it from others of that name."""
    alike: dict[str, list[frozenset[tuple[str, str]]]] = defaultdict(list)
    for thing in things:
        alike[thing.name].append(thing.parameters)
    common = {name: frozenset.intersection(*parameters) for name, parameters in alike.items()}
    labels = []
    for name, parameters in things:
        differing = [f"{key}={value}" for key, value in sorted(parameters - common[name])]
        labels.append(_cell(f"{name} ({', '.join(differing)})" if differing else name))
    return labels


def _cell(text: str) -> str:
    """A name that no renderer takes for the end of a cell or line, whatever is in it."""
    return one_line(text, _WIDTH).replace("|", "&#124;")


def _natural(text: str) -> list[Any]:
    """Sorts n2 before n16."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def _rank(run: Run) -> tuple[int, str, int]:
    return run.budget or 0, run.selection, run.n


def _without_folders(runs: Sequence[Run]) -> list[Run]:
    """Names files by the end of their path that tells them apart: where they are on this machine is no result."""
    every = {text for run in runs for thing in (run.model, run.verifier, run.strategy) for text in _texts(thing)}
    tails = _tails(text for text in every if text.startswith("/"))

    def shorten(thing: Named) -> Named:
        shown = frozenset((key, tails.get(value, value)) for key, value in thing.parameters)
        return Named(tails.get(thing.name, thing.name), shown)

    return [
        replace(run, model=shorten(run.model), verifier=shorten(run.verifier), strategy=shorten(run.strategy))
        for run in runs
    ]


def _texts(thing: Named) -> list[str]:
    return [thing.name, *(value for _, value in thing.parameters)]


def _tails(paths: Iterable[str]) -> dict[str, str]:
    """The shortest end of each absolute path that no other of them has."""
    parts = {path: PurePosixPath(path).parts[1:] for path in paths}
    tails = {}
    for path, own in parts.items():
        others = [other for other in parts.values() if other != own]
        length = next((k for k in range(1, len(own)) if all(other[-k:] != own[-k:] for other in others)), len(own))
        tails[path] = "/".join(own[-length:]) or path
    return tails
