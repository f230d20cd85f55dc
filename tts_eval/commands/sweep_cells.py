"""Fills the cells of a sweep: each a run of lm-eval in a folder of its own, on models that are loaded once."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm_eval.api.registry import get_model
from lm_eval.evaluator import simple_evaluate
from lm_eval.loggers import EvaluationTracker

from tts_eval.commands.sweep_plan import Cell
from tts_eval.commands.tasks import our_tasks, tasks_of
from tts_eval.journal import Journal, Record, read_journal
from tts_eval.jsonl import Header
from tts_eval.model_adapters.revise import shape_of
from tts_eval.types import UNKNOWN_USAGE, TtsEvalError


_DEVICE = "cuda:0"  # as the lm_eval command has it: the CPU where there is none
_POLL_SECONDS = 5.0

Results = Mapping[str, Any]
"""What lm-eval writes into results_*.json; ours in it is `sweep`: the cell's identity, and `derived_from`."""


def finished(cell: Cell) -> Results | None:
    """The results of a cell, or None while it has none.

    Raises:
        TtsEvalError: If its folder holds the results of another run.
    """
    # The names end in ISO timestamps, so the last name is the newest.
    paths = sorted(cell.folder.glob("results_*.json"))
    if not paths:
        return None
    results: Results = json.loads(paths[-1].read_text(encoding="utf-8"))
    there, here = results.get("sweep", {}).get("cell", {}), cell.identity
    differing = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    if differing:
        shown = ", ".join(f"{key} is {there.get(key)!r} there and {here.get(key)!r} here" for key in differing)
        raise TtsEvalError(
            f"{paths[-1]}: of another sweep ({shown}); restore the sweep's file, or choose another --output"
        )
    return results


class Filler:
    """Fills cells; several processes may do so at once.

    Args:
        cells: All cells that may have to be filled.
        metadata: See `our_tasks`.

    Raises:
        TtsEvalError: If the task is none of ours, or a model can't be loaded.
    """

    def __init__(self, cells: Sequence[Cell], metadata: Sequence[str]):
        self._manager = our_tasks(metadata)
        names = tasks_of(self._manager, cells[0].task)
        if len(names) > 1:
            raise TtsEvalError(f"task {cells[0].task} is a group: sweep one of its tasks ({', '.join(names)})")
        self._task = self._manager.load(names)["tasks"][names[0]]
        self._adapters: dict[str, Any] = {}
        first: Any = None
        for cell in cells:
            arguments = {**cell.model_args, "journal": str(cell.journal)}
            device = {} if "device" in arguments else {"device": _DEVICE}
            self._adapters[cell.name] = get_model(cell.model)(arguments, device, like=first)
            first = first or self._adapters[cell.name]
        if first.world_size > 1:
            raise TtsEvalError(
                "a sweep runs whole cells in one process: start it once for each GPU (CUDA_VISIBLE_DEVICES=0, 1, ...) "
                "instead of through a launcher; the processes share the cells out"
            )

    def fill(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Results]]:
        """Fills cells, and waits for those that other processes are filling.

        Yields:
            Each cell with its results, whoever filled it.

        Raises:
            TtsEvalError: What a run refuses, or if a folder belongs to another sweep or can't be written.
        """
        open_cells = list(cells)
        while open_cells:
            left = []
            for cell in open_cells:
                results = self._try(cell)
                if results is None:
                    left.append(cell)
                else:
                    yield cell, results
            if len(left) == len(open_cells):
                time.sleep(_POLL_SECONDS)
            open_cells = left

    def _try(self, cell: Cell) -> Results | None:
        if cell.source is not None and finished(cell.source) is None:
            return None
        with _claim(cell.folder) as mine:
            if not mine:
                return None
            if finished(cell) is None:
                self._run(cell)
            return finished(cell)

    def _run(self, cell: Cell) -> None:
        if cell.source is not None:
            derive(cell, cell.source)
        adapter = self._adapters[cell.name]
        adapter.forget()
        scratch = cell.folder / "unfinished"
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
        tracker = EvaluationTracker(output_path=str(scratch / "results.json"))
        results = simple_evaluate(
            model=adapter,
            model_args=dict(cell.model_args),
            tasks=[self._task],
            task_manager=self._manager,
            limit=cell.limit,
            evaluation_tracker=tracker,
        )
        results["config"]["model"] = cell.model
        derived_from = None if cell.source is None else cell.source.name
        results["sweep"] = {"cell": cell.identity, "derived_from": derived_from}
        samples = results.pop("samples")
        tracker.save_results_aggregated(results, samples)
        tracker.save_results_samples(cell.task, samples[cell.task])
        # Samples come before results: whoever sees results finds all there is.
        for path in sorted(scratch.iterdir(), reverse=True):
            path.rename(cell.folder / path.name)
        scratch.rmdir()


def derive(cell: Cell, source: Cell) -> None:
    """Writes the journal of a smaller budget from that of a larger one, as the smaller run would have written it.

    Randomness is keyed by the path in the search tree, so a larger run begins with the candidates of a smaller one.
    """
    header, records = read_journal(source.journal)
    assert header is not None
    shape = _shape(cell)
    strategy = {**header.run["strategy"], **shape}
    run = {**header.run, "strategy": strategy, "budget": cell.budget, "derived_from": {"budget": source.budget}}
    with Journal.open(cell.journal, Header(run)) as journal:
        for record in records:
            if record.uid not in journal.records:
                journal.append(first_candidates(record, cell.budget, shape))


def _shape(cell: Cell) -> dict[str, int]:
    """What the strategy of a revising cell says of its shape."""
    if cell.model != "tts-revise":
        return {}
    fixed = {name: int(cell.model_args[name]) for name in ("chains", "length") if name in cell.model_args}
    length, chains = shape_of(cell.budget, fixed)
    return {"chains": chains, "length": length}


def first_candidates(record: Record, budget: int, shape: Mapping[str, int] | None = None) -> Record:
    """What a run with a smaller budget had found.

    Args:
        record: Of best-of-N, DVTS or revisions.
        budget: At most the record's; with DVTS a multiple of the width.
        shape: With revisions the smaller run's `chains` and `length`, neither larger than the record's.

    Returns:
        The first `budget` candidates, of revisions the first attempts of the first chains; with what is known of their
        cost: the number of generations, and except with DVTS the tokens written, which are all in the candidates. Its
        transcript is not kept.
    """
    candidates = record.candidates[:budget]
    if shape:
        chains, length = shape["chains"], shape["length"]
        candidates = tuple(one for one in record.candidates if one.chain < chains and one.attempt < length)
    tokens = [candidate.tokens for candidate in candidates]
    whole = record.strategy["name"] != "dvts" and None not in tokens
    usage = replace(
        UNKNOWN_USAGE,
        generations=budget,
        decode_tokens=sum(count for count in tokens if count is not None) if whole else None,
        lookahead_tokens=0,
        probe_tokens=0,
    )
    strategy = {**record.strategy, **(shape or {})}
    return replace(record, strategy=strategy, budget=budget, candidates=candidates, usage=usage, nodes=None)


@contextmanager
def _claim(folder: Path) -> Iterator[bool]:
    """Holds a cell's lock; False if another process does. The lock goes with the process."""
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise TtsEvalError(f"{path}: {error.strerror}; choose another --output") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        # Only now is the cell done. Somebody may wait with the old file open, but will find the results.
        path.unlink(missing_ok=True)
