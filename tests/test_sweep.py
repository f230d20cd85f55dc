"""`tts-eval sweep`: cells that read like any run, what is derived, what is resumed, and what is refused."""

from __future__ import annotations

import copy
import csv
import fcntl
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.cli import main
from tts_eval.commands import sweep_cells
from tts_eval.commands.sweep_cells import first_candidates
from tts_eval.commands.sweep_plan import Cell, cells_of, read_sweep
from tts_eval.journal import Record, read_journal
from tts_eval.jsonl import Header
from tts_eval.plugin import register_adapters
from tts_eval.types import Candidate, TtsEvalError, Usage


MODELS = {"pretrained": "micromath/base", "verifier": "micromath/prm", "temperature": 1, "step_delimiter": "\n"}
SWEEP: dict[str, Any] = {
    "task": "tts_micromath",
    "limit": 3,
    "model_args": MODELS,
    "budgets": [1, 4],
    "strategies": [
        {"name": "best-of-n"},
        {"name": "beam", "width": 2, "budgets": [4]},
        {"name": "dvts", "width": 2, "budgets": [2, 4]},
    ],
}
NAMES = ["best-of-n/n1_s0", "best-of-n/n4_s0", "beam_width-2/n4_s0", "dvts_width-2/n2_s0", "dvts_width-2/n4_s0"]

register_adapters()


def write(folder: Path, sweep: dict[str, Any]) -> str:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep))
    return str(path)


def run(sweep: dict[str, Any], output: Path) -> int:
    file = write(output.parent, sweep)
    return main(["sweep", file, "--output", str(output), "--metadata", "micromath_train=10"])


def journal(cell: Path) -> tuple[Header, list[Record]]:
    (path,) = cell.glob("candidates_*.jsonl")
    header, records = read_journal(path)
    assert header is not None
    return header, records


def results(cell: Path) -> dict[str, Any]:
    (path,) = cell.glob("results_*.json")
    return json.loads(path.read_text())


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*_*.json*")}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("sweep") / "output"
    assert run(SWEEP, output) == 0
    return output


@pytest.fixture
def output(filled: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(filled, tmp_path / "output")
    return tmp_path / "output"


def test_each_cell_is_a_run_like_any_other(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        cell = filled / name
        assert sorted(path.name.split("_")[0] for path in cell.iterdir()) == ["candidates", "results", "samples"]
        budget = int(cell.name[1:].split("_")[0])
        _, records = journal(cell)
        assert [len(record.candidates) for record in records] == [budget] * 3
        assert results(cell)["config"]["tts_eval"]["budget"] == budget
        assert results(cell)["config"]["model"] == f"tts-{name.split('/')[0].split('_')[0]}"
    main(["select", str(filled), "--format", "json"])
    measured = {(row["strategy"].split(" ")[0], row["budget"]) for row in json.loads(capsys.readouterr().out)}
    assert {("best-of-n", 1), ("best-of-n", 4), ("beam", 4), ("dvts", 2), ("dvts", 4)} <= measured


def test_the_table_is_what_lm_eval_measured(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(SWEEP, filled) == 0
    shown = capsys.readouterr().out
    with (filled / "sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [f"{line['strategy']}/n{line['budget']}_s{line['seed']}" for line in lines] == NAMES
    for name, line in zip(NAMES, lines):
        scores = results(filled / name)["results"]["tts_micromath"]
        assert float(line["accuracy"]) == scores["accuracy,none"]
        assert float(line["generations"]) == scores["generations,none"]
        assert f"{100 * scores['accuracy,none']:.1f} ± {100 * scores['accuracy_stderr,none']:.1f}" in shown
        assert bool(line["seconds"]) == (line["derived_from"] == "")
    assert [line["derived_from"] for line in lines if line["derived_from"]] == ["best-of-n/n4_s0", "dvts_width-2/n4_s0"]


def test_derived_cells_equal_runs_of_their_own(filled: Path, tmp_path: Path) -> None:
    """And cells cost what they cost alone, whatever the verifier read before: here beam comes first."""
    alone = copy.deepcopy(SWEEP)
    alone["strategies"] = [
        {"name": "beam", "width": 2, "budgets": [4]},
        {"name": "dvts", "width": 2, "budgets": [2]},
        {"name": "best-of-n", "budgets": [1]},
    ]
    assert run(alone, tmp_path / "output") == 0
    for name in ("best-of-n/n1_s0", "dvts_width-2/n2_s0", "beam_width-2/n4_s0"):
        (derived, ours), (own, theirs) = journal(filled / name), journal(tmp_path / "output" / name)
        assert derived.identity == own.identity
        assert ("derived_from" in derived.run) == ("beam" not in name) and "derived_from" not in own.run
        assert results(tmp_path / "output" / name)["sweep"]["derived_from"] is None
        by_uid = {record.uid: record for record in theirs}
        for record in ours:
            other = by_uid[record.uid]
            for one, two in zip(record.candidates, other.candidates, strict=True):
                assert replace(one, step_scores=None, logprob=None) == replace(two, step_scores=None, logprob=None)
                assert one.logprob == pytest.approx(two.logprob)
                assert one.step_scores == pytest.approx(two.step_scores, abs=1e-4)
            for column in Usage.__dataclass_fields__:
                known = getattr(record.usage, column)
                assert known is None or "seconds" in column or known == getattr(other.usage, column), column
    assert journal(filled / "best-of-n/n1_s0")[1][0].usage.decode_tokens is not None
    assert journal(filled / "dvts_width-2/n2_s0")[1][0].usage.decode_tokens is None


def test_what_is_done_is_not_done_again(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = times(filled)
    monkeypatch.delattr(sweep_cells, "Filler")  # no model is loaded
    assert run({**SWEEP, "model_args": {**MODELS, "cache_gb": 1}}, filled) == 0
    assert times(filled) == before


def test_a_cell_killed_midway_goes_on(filled: Path, output: Path) -> None:
    """The largest run and what is derived from it."""
    for name in NAMES[:2]:
        for path in [*(output / name).glob("results_*"), *(output / name).glob("samples_*")]:
            path.unlink()
        (output / name / "lock").touch()
        (output / name / "unfinished").mkdir()
        (output / name / "unfinished" / "results_2026-01-01T00-00-00.json").touch()
        (kept,) = (output / name).glob("candidates_*")
        header, first, second, _ = kept.read_bytes().splitlines(keepends=True)
        kept.write_bytes(header + first + second[: len(second) // 2])
    untouched = times(output / "dvts_width-2")
    assert run(SWEEP, output) == 0
    assert times(output / "dvts_width-2") == untouched
    for name in NAMES[:2]:
        (_, before), (_, after) = journal(filled / name), journal(output / name)
        assert before[0] == next(record for record in after if record.uid == before[0].uid)
        assert {record.uid: [c.text for c in record.candidates] for record in before} == {
            record.uid: [c.text for c in record.candidates] for record in after
        }
        task = "tts_micromath"
        assert results(output / name)["results"][task] == pytest.approx(results(filled / name)["results"][task])
        assert sorted(path.name.split("_")[0] for path in (output / name).iterdir()) == [
            *("candidates", "results", "samples")
        ]


def test_cells_of_other_processes_are_left_to_them(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, free = output / "dvts_width-2/n4_s0", output / "beam_width-2/n4_s0"
    for cell in (held, free, output / "dvts_width-2/n2_s0"):
        for path in cell.glob("[rs]*"):
            path.unlink()
    seen = []
    with (held / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def others_end(_: float) -> None:
            seen.extend(path.parent.relative_to(output) for path in output.rglob("results_*"))
            lock.close()

        monkeypatch.setattr(sweep_cells, "time", SimpleNamespace(sleep=others_end))
        assert run(SWEEP, output) == 0
    assert sorted(map(str, seen)) == sorted([*NAMES[:3]])  # neither the held cell, nor the one derived from it
    assert len(list(output.rglob("results_*"))) == 5


@pytest.mark.parametrize("ended", [True, False])
def test_a_changed_sweep_is_refused(ended: bool, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not ended:
        for path in output.rglob("results_*"):
            path.unlink()
    before = times(output)
    assert run({**SWEEP, "model_args": {**MODELS, "temperature": 0.5}}, output) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tts-eval: ")]
    assert ("of another sweep" if ended else "written by another run") in line
    assert "temperature is 1" in line and "there and 0.5 here" in line
    assert times(output) == before


def test_another_limit_is_another_sweep(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run({**SWEEP, "limit": 4}, filled) == 1
    assert "(limit is 3 there and 4 here); restore the sweep's file" in capsys.readouterr().err


def test_the_sweep_that_ships() -> None:
    name = "micromath_search"
    cells = cells_of(read_sweep(name), None)
    assert len(cells) == 8 * 5 and len({cell.folder for cell in cells}) == 40
    derived = {cell.name: cell.source.name for cell in cells if cell.source}
    assert derived == {
        **{f"best-of-n/n{k}_s0": "best-of-n/n256_s0" for k in (1, 4, 16, 64)},
        **{f"dvts_width-4/n{k}_s0": "dvts_width-4/n256_s0" for k in (4, 16, 64)},
    }
    costs = {cell.name: cell.solutions for cell in cells}
    assert costs["lookahead_lookahead-3_width-sqrt/n64_s0"] == 256 and costs["beam_width-sqrt/n64_s0"] == 64


def cells(sweep: dict[str, Any], folder: Path) -> list[Cell]:
    return cells_of(read_sweep(write(folder, sweep)), folder)


def test_seeds_budgets_and_what_can_not_be_derived(tmp_path: Path) -> None:
    dvts = [{"name": "dvts", "width": width} for width in (3, "sqrt")]
    found = cells({**SWEEP, "seeds": [0, 7], "budgets": [3, 4, 6], "strategies": dvts}, tmp_path)
    assert [cell.name for cell in found[:4]] == [f"dvts_width-3/n{k}_s{s}" for k, s in ((6, 0), (4, 0), (3, 0), (6, 7))]
    assert {cell.name: cell.source.name for cell in found if cell.source} == {
        f"dvts_width-3/n3_s{seed}": f"dvts_width-3/n6_s{seed}" for seed in (0, 7)
    }


@pytest.mark.parametrize(("base", "name"), [("hf", "seed"), ("local-completions", "seed"), ("litellm", "tts_seed")])
def test_the_seeds_reach_the_run_whatever_the_base(base: str, name: str, tmp_path: Path) -> None:
    """Litellm's own `seed` goes to its requests; what a server's or vLLM's would do, ours does."""
    given = {"model": "m", "verifier": "micromath/prm"}
    found = cells({**SWEEP, "base": base, "model_args": given, "seeds": [0, 7]}, tmp_path)
    assert {cell.seed for cell in found} == {0, 7} and all(cell.model_args[name] == cell.seed for cell in found)


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(strategy=[]), r"sweep.yaml: unknown 'strategy'; did you mean strategies\?"),
        (lambda s: s.pop("task"), r"sweep.yaml: task is missing"),
        (lambda s: s.update(budgets=4), r"sweep.yaml: budgets must be a list, not 4"),
        (lambda s: s.update(budgets=[]), r"a list of budgets, seeds or strategies is empty"),
        (lambda s: s.update(strategies=[]), r"a list of budgets, seeds or strategies is empty"),
        (lambda s: s["strategies"][1].update(budgets=[]), r"a list of budgets, seeds or strategies is empty"),
        (lambda s: s["strategies"][1].update(budgets=4), r"budgets of beam_width-2 must be a list, not 4"),
        (lambda s: s.update(limit=0), r"limit is 0; give a number of problems"),
        (lambda s: s.update(budgets=[0]), r"strategy best-of-n: budget=0 should be a whole number of at least 1"),
        (lambda s: s.update(seeds=[0.5]), r"seeds\[0\] must be an integer"),
        (lambda s: s.update(base="fh"), r"base=fh: lm-eval has no such model; did you mean hf"),
        (lambda s: s["model_args"].update(base="hf"), r"model_args has base; write base: as a key of its own"),
        (lambda s: s["model_args"].update(budget=4), r"model_args has budget; the sweep sets it for each cell"),
        (lambda s: s["model_args"].update(temprature=1), r"temprature= .*did you mean temperature="),
        (lambda s: s["model_args"].update(max_steps=9), r"model_args has max_steps, which best-of-n doesn't take"),
        (lambda s: s.update(model_args={**MODELS, "noise": 0.1}, seeds=[0, 1]), r"noise depends on the seed"),
        (lambda s: s["strategies"].append({"name": "baem"}), r"strategies: unknown 'baem'; did you mean beam\?"),
        (lambda s: s["strategies"].append({"width": 4}), r"strategies: unknown 'None'; choose from best-of-n"),
        (lambda s: s["strategies"].append({"name": "beam", "widht": 4}), r"unknown 'widht'; did you mean width\?"),
        (lambda s: s["strategies"].append({"name": "beam", "verifier": "x"}), r"strategy beam_verifier-x: unknown"),
        (lambda s: s["strategies"].append({"name": "beam", "width": 0}), r"strategy beam_width-0: width=0 should be"),
        (lambda s: s["strategies"].append({"name": "lookahead"}), r"strategy lookahead: the argument lookahead= is"),
        (lambda s: s["strategies"].append({"name": "best-of-n"}), r"lists the strategy best-of-n twice"),
    ],
)
def test_a_sweep_that_makes_no_sense(change: Change, message: str, tmp_path: Path) -> None:
    sweep = copy.deepcopy(SWEEP)
    change(sweep)
    with pytest.raises(TtsEvalError, match=message):
        cells(sweep, tmp_path)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    ready_made = "micromath_orm, micromath_ratio, micromath_search, micromath_without_history"
    with pytest.raises(TtsEvalError, match=rf"no such file, nor one .* us: {ready_made}$"):
        read_sweep("micromath")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(TtsEvalError, match=r"broken.yaml: can't be read as YAML"):
        read_sweep(str(tmp_path / "broken.yaml"))
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(TtsEvalError, match=r"list.yaml: must hold keys and values: task, model_args"):
        read_sweep(str(tmp_path / "list.yaml"))
    with pytest.raises(TtsEvalError, match="give --output"):
        cells_of(read_sweep(write(tmp_path, SWEEP)), None)


@pytest.mark.parametrize(("task", "message"), [("tts_micromth", "did you mean"), ("tts_math", "is a group")])
def test_a_task_that_is_none(task: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run({**SWEEP, "task": task}, tmp_path / "output") == 1
    assert message in capsys.readouterr().err


@given(tokens=st.lists(st.none() | st.integers(0, 99), min_size=1, max_size=6), data=st.data())
def test_only_what_is_known_of_the_cost_is_kept(tokens: list[int | None], data: st.DataObject) -> None:
    name, k = data.draw(st.sampled_from(("best-of-n", "dvts"))), data.draw(st.integers(1, len(tokens)))
    found = tuple(Candidate("a", "1", ("a",), (0.5,), None, None, n, "eos", i, 0) for i, n in enumerate(tokens))
    spent = Usage(len(tokens), 1, 2, 3, 0, 0, 4, 5, 6.0, 7.0, 8.0)
    small = first_candidates(Record("u", "t", {"name": name}, len(tokens), 0, found, spent), k)
    assert small.candidates == found[:k] and small.budget == small.usage.generations == k
    known = name == "best-of-n" and None not in tokens[:k]
    assert small.usage.decode_tokens == (sum(n or 0 for n in tokens[:k]) if known else None)
    assert small.usage.seconds is small.usage.verifier_tokens is small.usage.prefill_tokens is None
