"""What a sweep consists of: from its YAML file to the cells of a table. docs/sweep.md has the keys."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from tts_eval.jsonl import flatten
from tts_eval.model_adapters.servers import NOT_DECISIVE
from tts_eval.plugin import ADAPTERS
from tts_eval.schema import from_json
from tts_eval.types import TtsEvalError


READY_MADE = Path(__file__).parents[1] / "sweeps"
"""Sweeps that ship with us."""

STRATEGIES = tuple(name.removeprefix("tts-") for name in ADAPTERS if name != "tts-replay")

_CELLS_OWN = ("base", "budget", "seed", "tts_seed", "journal")  # the sweep sets them

# Models are loaded once, and one server answers all cells.
_COMMON = (
    *("verifier", "verifier_format", "verifier_reference", "verifier_tokenizer", "verifier_dtype", "noise"),
    *("cache_gb", "deadline", "native_n", "prefill", "send_seed"),
)

_NOT_DECISIVE = ("cache_gb", "deadline", *NOT_DECISIVE)


@dataclass(frozen=True)
class Sweep:
    """The file, as it is written.

    Attributes:
        task: One of our tasks.
        model_args: What all cells have in common: arguments of the base model, and those of ours.
        budgets: Each a row of cells, in the paper's N (section 3).
        strategies: Each with its `name`, arguments, and perhaps `budgets` of its own.
        seeds: Each a table of its own; None is seed 0.
        output: The folder of all cells.
        limit: Only the first problems.
        base: The lm-eval model to search with.
    """

    task: str
    model_args: Mapping[str, Any]
    budgets: tuple[int, ...]
    strategies: tuple[Mapping[str, Any], ...]
    seeds: tuple[int, ...] | None = None
    output: str | None = None
    limit: int | None = None
    base: str | None = None


@dataclass(frozen=True, eq=False)
class Cell:
    """One run.

    Attributes:
        strategy: The strategy with its arguments, as the folder shows it.
        folder: Where its results, samples and journal are.
        task: The task.
        limit: Only the first problems; None takes all.
        model: lm-eval's name of the adapter.
        model_args: Everything that the adapter is given, but for `journal`.
        solutions: What a problem costs in whole solutions, N(k+1) with lookahead k: what the progress bar counts.
        source: The larger run that holds this one's candidates; None where they have to be computed.
    """

    strategy: str
    folder: Path
    task: str
    limit: int | None
    model: str
    model_args: Mapping[str, Any]
    solutions: int
    source: Cell | None = None

    @property
    def name(self) -> str:
        """The last two parts of its folder."""
        return f"{self.strategy}/{self.folder.name}"

    @property
    def budget(self) -> int:
        """The paper's N."""
        return int(self.model_args["budget"])

    @property
    def seed(self) -> int:
        """The seed of its randomness."""
        return int(self.model_args.get("tts_seed", self.model_args.get("seed")))

    @property
    def journal(self) -> Path:
        """Its candidates."""
        return self.folder / f"candidates_{self.task}.jsonl"

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its results: dotted key to value."""
        given = {name: value for name, value in self.model_args.items() if name not in _NOT_DECISIVE}
        return dict(flatten({"task": self.task, "limit": self.limit, "model": self.model, "model_args": given}))


def read_sweep(name: str) -> Sweep:
    """Reads a sweep.

    Args:
        name: A YAML file, or the name of a sweep that ships with us.

    Raises:
        TtsEvalError: If there is none, or the file is malformed.
    """
    path = _find(name)
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TtsEvalError(f"{path}: can't be read as YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise TtsEvalError(f"{path}: must hold keys and values: {', '.join(_names(Sweep))}")
    _require_known(path, loaded, _names(Sweep))
    try:
        sweep: Sweep = from_json(Sweep, json.loads(json.dumps(loaded, default=str)))
    except TtsEvalError as error:
        raise TtsEvalError(f"{path}: {error}") from error
    _require_sense(path, sweep)
    return sweep


def cells_of(sweep: Sweep, output: Path | None) -> list[Cell]:
    """Makes the cells: strategy by strategy, seed by seed, the largest budget first.

    Args:
        sweep: What `read_sweep` returned.
        output: Takes the place of the sweep's own.

    Raises:
        TtsEvalError: If an argument is wrong, a strategy unknown or listed twice, or no output is named.
    """
    if output is None and sweep.output is None:
        raise TtsEvalError("the sweep names no folder for its results: add output: to the file, or give --output")
    folder = output or Path(str(sweep.output))
    cells: list[Cell] = []
    for given in sweep.strategies:
        found = list(_cells(sweep, given, folder))
        if found[0].strategy in {cell.strategy for cell in cells}:
            raise TtsEvalError(f"the sweep lists the strategy {found[0].strategy} twice: leave one out")
        cells += found
    return cells


def _find(name: str) -> Path:
    ready = {path.stem: path for path in sorted(READY_MADE.glob("*.yaml"))}
    path = Path(name) if Path(name).is_file() else ready.get(name)
    if path is None:
        raise TtsEvalError(f"{name}: no such file, nor one of the sweeps that ship with us: {', '.join(ready)}")
    return path


def _require_sense(path: Path, sweep: Sweep) -> None:
    budgets = [sweep.budgets, *(given["budgets"] for given in sweep.strategies if "budgets" in given)]
    if not all((sweep.strategies, sweep.seeds is None or sweep.seeds, *budgets)):
        raise TtsEvalError(f"{path}: a list of budgets, seeds or strategies is empty; without any there is no cell")
    if sweep.limit is not None and sweep.limit < 1:
        raise TtsEvalError(f"{path}: limit is {sweep.limit}; give a number of problems, or leave it out for all")
    for own in set(sweep.model_args) & set(_CELLS_OWN):
        mend = "write base: as a key of its own" if own == "base" else "the sweep sets it for each cell, leave it out"
        raise TtsEvalError(f"{path}: model_args has {own}; {mend}")
    if sweep.model_args.get("noise") and len(sweep.seeds or ()) > 1:
        raise TtsEvalError(f"{path}: noise depends on the seed, but the verifier is loaded once: give a single seed")


def _cells(sweep: Sweep, given: Mapping[str, Any], output: Path) -> Iterator[Cell]:
    """The cells of one strategy."""
    name = given.get("name")
    _require_known("strategies", [str(name)], STRATEGIES)
    own = {key: value for key, value in given.items() if key not in ("name", "budgets")}
    strategy = "_".join([str(name), *(_slug(f"{key}-{own[key]}") for key in sorted(own))])
    budgets = from_json(tuple[int, ...], given.get("budgets", list(sweep.budgets)), f"budgets of {strategy}")
    for seed in sweep.seeds or (0,):
        largest: Cell | None = None
        for budget in sorted(set(budgets), reverse=True):
            base = {} if sweep.base is None else {"base": sweep.base}
            model_args = {**base, **sweep.model_args, **own, "budget": budget, **_seeded(sweep, seed)}
            arguments = _checked(strategy, str(name), own, model_args)
            cell = Cell(
                strategy=strategy,
                folder=output / strategy / f"n{budget}_s{seed}",
                task=sweep.task,
                limit=sweep.limit,
                model=f"tts-{name}",
                model_args=model_args,
                solutions=budget * (1 + arguments.get("lookahead", 0)),
            )
            if largest is not None and _begins_larger_runs(str(name), budget, arguments):
                cell = replace(cell, source=largest)
            largest = largest or cell
            yield cell


def _seeded(sweep: Sweep, seed: int) -> dict[str, int]:
    """The run's seed, as it is written beside the arguments of a base."""
    from tts_eval.model_adapters.engines import base_parameters

    return {"tts_seed" if "seed" in base_parameters(sweep.base or "hf") else "seed": seed}


def _begins_larger_runs(name: str, budget: int, arguments: Mapping[str, Any]) -> bool:
    """Whether a larger run of the same seed holds this one's candidates.

    Samples, trees and chains are independent of one another, and a chain that is cut short is a shorter chain.
    """
    if name == "dvts":
        return arguments["width"] != "sqrt" and budget % arguments["width"] == 0
    if name == "revise":
        return any(arguments[fixed] and budget % arguments[fixed] == 0 for fixed in ("chains", "length"))
    return name == "best-of-n"


def _checked(strategy: str, name: str, own: Mapping[str, Any], model_args: Mapping[str, Any]) -> dict[str, Any]:
    """The adapter's arguments, cast as it will cast them."""
    from lm_eval.api.registry import get_model

    from tts_eval.model_adapters.arguments import split_arguments
    from tts_eval.model_adapters.engines import base_parameters

    known = get_model(f"tts-{name}").ARGUMENTS
    _require_known(f"strategy {strategy}", own, [key for key in known if key not in (*_CELLS_OWN, *_COMMON)])
    parameters = base_parameters(str(model_args.get("base", known["base"].default)))
    try:
        ours, rest = split_arguments(model_args, known, parameters)
    except TtsEvalError as error:
        raise TtsEvalError(f"strategy {strategy}: {error} (here: model_args or strategies of the sweep)") from error
    for key in rest:
        if any(key in get_model(f"tts-{other}").ARGUMENTS for other in STRATEGIES):
            raise TtsEvalError(f"model_args has {key}, which {name} doesn't take: give it to the strategies that do")
    return ours


def _require_known(where: object, given: Iterable[str], known: Iterable[str]) -> None:
    choices = list(known)
    for key in given:
        if key not in choices:
            near = difflib.get_close_matches(str(key), choices, n=1)
            mend = f"did you mean {near[0]}?" if near else f"choose from {', '.join(choices)}"
            raise TtsEvalError(f"{where}: unknown {key!r}; {mend}")


def _names(kind: type[Sweep]) -> list[str]:
    return [field.name for field in fields(kind)]


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]", "-", text)
