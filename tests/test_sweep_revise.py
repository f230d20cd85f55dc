"""`tts-eval sweep` over shapes of revisions: smaller budgets are cut out of the largest run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tts_eval.cli import main
from tts_eval.commands.sweep_cells import first_candidates
from tts_eval.commands.sweep_plan import Cell, cells_of, read_sweep
from tts_eval.journal import Record, read_journal
from tts_eval.jsonl import Header
from tts_eval.plugin import register_adapters
from tts_eval.types import Candidate, Usage


SWEEP: dict[str, Any] = {
    "task": "tts_micromath",
    "limit": 1,
    "model_args": {"pretrained": "micromath/base", "temperature": 1, "step_delimiter": "\n"},
    "budgets": [2, 4],
}
GIVEN: list[dict[str, Any]] = [
    {"name": "revise", "chains": 2},
    {"name": "revise", "length": 1, "budgets": [2]},
    {"name": "revise", "length": 2},
    {"name": "revise", "chains": 1, "budgets": [2]},
]

register_adapters()


def write(folder: Path, sweep: dict[str, Any]) -> str:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep))
    return str(path)


def cells(folder: Path, *strategies: dict[str, Any]) -> list[Cell]:
    return cells_of(read_sweep(write(folder, {**SWEEP, "strategies": list(strategies)})), folder)


def test_derived_cells_equal_runs_of_their_own(tmp_path: Path) -> None:
    """Two chains of two hold two chains of one, and one of two; other strategies run the same shapes."""
    strategies = [{**given, "separator": "\n\n"} for given in GIVEN]
    sweep = write(tmp_path, {**SWEEP, "strategies": strategies})
    assert main(["sweep", sweep, "--output", str(tmp_path / "out"), "--metadata", "micromath_train=10"]) == 0
    for derived, alone in ((GIVEN[0], GIVEN[1]), (GIVEN[2], GIVEN[3])):
        (header, (ours,)), (other, (theirs,)) = (journal(tmp_path / "out", given) for given in (derived, alone))
        assert header.identity == other.identity
        assert ("derived_from" in header.run) and "derived_from" not in other.run
        assert ours.strategy == theirs.strategy and ours.budget == theirs.budget == 2
        for one, two in zip(ours.candidates, theirs.candidates, strict=True):
            assert replace(one, logprob=None) == replace(two, logprob=None)
            assert one.logprob == pytest.approx(two.logprob, abs=1e-4)  # kernels add up in the order of their batch
        assert ours.usage.decode_tokens == theirs.usage.decode_tokens
        assert ours.usage.generations == theirs.usage.generations == 2


def journal(folder: Path, given: dict[str, Any]) -> tuple[Header, list[Record]]:
    name, value = list(given.items())[1]
    (path,) = folder.glob(f"revise_{name}-{value}_*/n2_s0/candidates_*.jsonl")
    header, records = read_journal(path)
    assert header is not None
    return header, records


def test_which_cells_are_derived(tmp_path: Path) -> None:
    found = cells(
        tmp_path,
        {"name": "revise", "chains": 2, "budgets": [2, 3, 8]},
        {"name": "revise", "length": 4, "budgets": [4, 8]},
        {"name": "revise", "ratio": 0.5, "budgets": [2, 8]},
    )
    assert {cell.name for cell in found if cell.source} == {"revise_chains-2/n2_s0", "revise_length-4/n4_s0"}


def test_the_ratio_sweep_that_ships() -> None:
    found = cells_of(read_sweep("micromath_ratio"), None)
    assert len(found) == 12
    runs = [(128 // cell.model_args["chains"], cell.model_args["chains"]) for cell in found if cell.source is None]
    for budget in (16, 64):  # every ratio is there, as shorter chains or fewer
        for chains in (2**i for i in range(budget.bit_length())):
            assert any(length >= budget // chains and most >= chains for length, most in runs)


def test_the_first_attempts_of_the_first_chains() -> None:
    attempts = tuple(
        Candidate(f"{c}{t}", None, ("s",), None, None, None, 10 * c + t, "eos", c, t)
        for c in range(3)
        for t in range(4)
    )
    strategy = {"name": "revise", "chains": 3, "length": 4, "window": 4}
    record = Record("u", "t", strategy, 12, 0, attempts, Usage(12))
    small = first_candidates(record, 4, {"chains": 2, "length": 2})
    assert [candidate.text for candidate in small.candidates] == ["00", "01", "10", "11"]
    assert small.strategy == {"name": "revise", "chains": 2, "length": 2, "window": 4} and small.budget == 4
    assert small.usage.generations == 4 and small.usage.decode_tokens == 0 + 1 + 10 + 11
    assert small.usage.prefill_tokens is small.usage.seconds is None
