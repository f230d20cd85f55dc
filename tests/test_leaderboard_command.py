"""`tts-eval leaderboard` from the command line: the table, what it is made of, and what it leaves out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from journals import write

from tts_eval.journal import Journal, Record
from tts_eval.jsonl import Header
from tts_eval.types import Candidate, Usage


Command = Callable[..., tuple[int, str, str]]

BASE = {"base": "hf", "pretrained": "org/base"}
BEST = {"name": "best-of-n", "temperature": 1.0}
USAGE = Usage(generations=16, prefill_tokens=40, decode_tokens=400, verifier_tokens=600, seconds=5.0)


@pytest.fixture
def run(tts_eval_command: Command) -> Command:
    return partial(tts_eval_command, "leaderboard")


def ours(**changes: Any) -> dict[str, Any]:
    """What an adapter of ours tells lm-eval of a run."""
    identity = {"model": BASE, "verifier": {"name": "org/prm"}, "strategy": BEST, "budget": 4, "seed": 0}
    return {**identity, "usage": asdict(USAGE), **changes}


def results(
    folder: Path, scores: dict[str, dict[str, Any]], tts_eval: dict[str, Any] | None, day: int = 1, **config: Any
) -> Path:
    """Writes what lm-eval writes, as far as it is read."""
    folder.mkdir(parents=True, exist_ok=True)
    model = {"model": "hf", "model_args": {"pretrained": "org/large"}, "model_num_parameters": 1000, "torch_seed": 1234}
    told = {} if tts_eval is None else {"model": "tts-" + tts_eval["strategy"]["name"], "tts_eval": tts_eval}
    content = {
        "results": scores,
        "configs": {task: {"generation_kwargs": {"do_sample": False, "temperature": 0.0}} for task in scores},
        "n-shot": dict.fromkeys(scores, 0),
        "n-samples": {task: {"original": 9, "effective": of_task["sample_len"]} for task, of_task in scores.items()},
        "config": {**model, **told, **config},
        "chat_template_sha": None,
        "date": float(day),
    }
    path = folder / f"results_2026-01-{day:02}T00-00-00.000000.json"
    path.write_text(json.dumps(content))
    return path


def scores(accuracy: float, n: int = 4, **more: float) -> dict[str, Any]:
    return {"alias": "toy", "sample_len": n, "accuracy,none": accuracy, **{f"{k},none": v for k, v in more.items()}}


def record(uid: str, answers: str, values: list[float] | None, **changes: Any) -> Record:
    candidates = tuple(
        Candidate(a, a, (a,), None if values is None else (values[i],), None, None, 10, "eos", i, 0)
        for i, a in enumerate(answers)
    )
    usage = Usage(generations=4, decode_tokens=100, verifier_tokens=150, seconds=2.0)
    return replace(Record(uid, "toy", BEST, len(answers), 0, candidates, usage, gold="1"), **changes)


def journal(path: Path, run: dict[str, Any], *records: Record) -> None:
    with Journal.open(path, Header({**run, "limits": []})) as opened:
        for one in records:
            opened.append(one)


def cells(out: str) -> list[dict[str, str]]:
    """The lines of all tables, by column."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("| ")]
    return [dict(zip(rows[0], row, strict=True)) for row in rows if row != rows[0]]


def test_table(tmp_path: Path, run: Command) -> None:
    costs = {"generations": 4.0, "tokens": 100.0}
    results(tmp_path / "base" / "s0", {"toy": scores(0.5, **costs)}, ours())
    results(tmp_path / "base" / "s1", {"toy": scores(0.75, **costs)}, ours(seed=1))
    large = tmp_path / "large"
    results(large, {"toy": scores(0.25, generations=1.0), "other": scores(1.0, n=2, generations=1.0)}, None)
    status, out, err = run(tmp_path)
    assert (status, err) == (0, "")
    assert out == (tmp_path / "leaderboard.md").read_text()
    heads = "model verifier strategy N selection accuracy problems seeds generations tokens"
    table = [line for line in out.splitlines() if line.startswith(("#", "| "))]
    assert [re.sub(r" +", " ", line) for line in table] == [
        "# Leaderboard",
        "## other",
        f"| {' | '.join(heads.split())} | verifier tokens | FLOPs (v1) | seconds |",
        "| org/large | | greedy | 1 | | 100.0 [34.2, 100.0] | 2 | 1 | 1.0 | | | | |",
        "## toy",
        f"| {' | '.join(heads.split())} | verifier tokens | FLOPs (v1) | seconds |",
        "| org/base | org/prm | best-of-n | 4 | best_of_n_weighted | 62.5 [21.9, 90.8] | 4 | 2 | 4.0 | 100 | 150 | "
        "2.00e+05 | 1.25 |",
        "| org/large | | greedy | 1 | | 25.0 [4.6, 69.9] | 4 | 1 | 1.0 | | | | |",
    ]
    assert run(tmp_path) == (0, out, "")


def test_what_differs_is_named_and_sorted_by_number(tmp_path: Path, run: Command) -> None:
    for budget in (16, 4):
        for chains in (16, 2):
            strategy = {"name": "revise", "chains": chains, "window": 4, "template": None}
            results(tmp_path / f"{budget}_{chains}", {"toy": scores(0.5)}, ours(strategy=strategy, budget=budget))
    beam = {"name": "beam", "width": 4, "aggregation": "min"}
    results(tmp_path / "beam", {"toy": scores(0.5)}, ours(strategy=beam, verifier={"name": "org/prm", "noise": 0.2}))
    asked = {"selection": "majority", "pretrained": "org/base"}
    results(tmp_path / "asked", {"toy": scores(0.5)}, ours(verifier=None), model_args=asked)
    results(tmp_path / "sampled", {"toy": scores(0.5, n=3)}, ours(model={**BASE, "dtype": "float16"}, verifier=None))
    rows = cells(run(tmp_path)[1])
    assert [tuple(list(row.values())[:5]) for row in rows] == [
        ("org/base", "", "best-of-n", "4", "majority"),
        ("org/base", "org/prm", "revise (chains=2)", "4", "hierarchical"),
        ("org/base", "org/prm", "revise (chains=2)", "16", "hierarchical"),
        ("org/base", "org/prm", "revise (chains=16)", "4", "hierarchical"),
        ("org/base", "org/prm", "revise (chains=16)", "16", "hierarchical"),
        ("org/base", "org/prm (noise=0.2)", "beam", "4", "best_of_n_weighted (min)"),
        ("org/base (dtype=float16)", "", "best-of-n", "4", "majority"),
    ]


def test_how_a_plain_run_was_asked(tmp_path: Path, run: Command) -> None:
    results(tmp_path / "a", {"toy": scores(0.5, generations=1.0)}, None)
    path = results(tmp_path / "b", {"toy": scores(0.5, generations=1.0)}, None, model_args="pretrained=org/large")
    report = json.loads(path.read_text())
    report["n-shot"], report["chat_template_sha"] = {"toy": 4}, "0f"
    report["configs"]["toy"]["generation_kwargs"] = {"do_sample": True, "temperature": 0.6}
    path.write_text(json.dumps(report))
    replay = {"model": "tts-replay", "model_args": {"model": "org/large", "selection": "best_of_n"}}
    results(tmp_path / "c", {"toy": scores(0.5, generations=16.0)}, None, **replay)
    assert [tuple(list(row.values())[:5]) for row in cells(run(tmp_path)[1])] == [
        ("org/large (base=hf)", "", "greedy", "1", ""),
        ("org/large (base=hf, chat_template=true, shots=4)", "", "one sample", "1", ""),
        ("org/large (base=tts-replay, selection=best_of_n)", "", "replay", "16", "best_of_n"),
    ]


def test_unknown_costs_are_empty(tmp_path: Path, run: Command) -> None:
    derived = replace(USAGE, verifier_tokens=None, seconds=None)
    results(tmp_path, {"toy": scores(0.5)}, ours(usage=asdict(derived)), model_num_parameters=-1)
    (row,) = cells(run(tmp_path)[1])
    assert [row[name] for name in ("generations", "tokens", "verifier tokens", "FLOPs (v1)", "seconds")] == [
        *("4.0", "100", "", "", "")
    ]


def test_costs_of_one_of_several_tasks_come_from_the_journals(tmp_path: Path, run: Command) -> None:
    """lm-eval's results have the cost of the whole run, and with several GPUs that of the first."""
    told = ours(shard="0 of 2")
    results(tmp_path, {"toy": scores(0.5, n=2, tokens=100.0), "other": scores(0.5, n=2)}, told)
    for shard in range(2):
        of_run = {**ours(shard=f"{shard} of 2"), "task": "toy"}
        of_run.pop("usage")
        journal(tmp_path / f"candidates_toy_shard{shard}_1.jsonl", of_run, record(f"p{shard}", "12", None, gold=None))
    other, toy = cells(run(tmp_path)[1])
    names = "generations", "tokens", "verifier tokens", "seconds"
    assert [toy[name] for name in names] == ["4.0", "100", "150", "2.00"]
    assert [other[name] for name in names] == [""] * 4


def test_runs_on_other_problems_are_not_mixed(tmp_path: Path, run: Command) -> None:
    results(tmp_path / "a", {"toy": scores(0.5, n=4)}, ours())
    results(tmp_path / "b", {"toy": scores(1.0, n=2)}, ours(seed=1))
    assert [(row["problems"], row["seeds"]) for row in cells(run(tmp_path)[1])] == [("2", "1"), ("4", "1")]


def test_the_newest_of_equal_runs_counts(tmp_path: Path, run: Command) -> None:
    old = results(tmp_path / "z", {"toy": scores(0.25)}, ours(), day=1)
    new = results(tmp_path / "a", {"toy": scores(0.75)}, ours(), day=2)
    status, out, err = run(tmp_path)
    assert status == 0 and [row["accuracy"][:4] for row in cells(out)] == ["75.0"]
    assert err == f"tts-eval leaderboard: {old}: toy left out, {new} is a newer run of the same\n"


def test_unfinished_journals_are_left_out(tmp_path: Path, run: Command) -> None:
    done, half, longer = (
        {"task": "toy", **{k: v for k, v in ours(seed=seed).items() if k != "usage"}} for seed in range(3)
    )
    results(tmp_path, {"toy": scores(0.5, n=2)}, ours(), day=1)
    results(tmp_path, {"toy": scores(0.5, n=1)}, ours(seed=2), day=2)
    problems = record("p/1", "12", None, gold=None), record("p/2", "12", None, gold=None)
    journal(tmp_path / "candidates_toy_1.jsonl", done, *problems)
    journal(tmp_path / "candidates_toy_2.jsonl", half, *problems)
    journal(tmp_path / "candidates_toy_3.jsonl", longer, *problems)
    with (tmp_path / "candidates_toy_2.jsonl").open("a") as file:
        file.write('{"schema": 1, "uid": "p/3", "ta')
    # Gold answers that another run left there don't make it finished.
    sample = {"doc": {"unique_id": "p/1"}, "target": "1", "prompt_hash": "0" * 64}
    (tmp_path / "samples_toy_2026-01-01T00-00-00.000000.jsonl").write_text(json.dumps(sample) + "\n")
    status, out, err = run(tmp_path)
    assert status == 0 and [(row["problems"], row["seeds"]) for row in cells(out)] == [("1", "1"), ("2", "1")]
    assert [line.split(": ", 1)[1] for line in err.splitlines()] == [
        f"left out: journal {tmp_path}/candidates_toy_2.jsonl: it isn't finished, there are 2 problems in it and no "
        "results_*.json beside it; run the same lm_eval command again",
        f"left out: journal {tmp_path}/candidates_toy_3.jsonl: it isn't finished, there are 2 problems in it and "
        "results of 1 of them beside it; run the same lm_eval command again",
    ]


BROKEN: dict[str, Any] = {
    "results_torn.json": '{"results": {"to',
    "results_list.json": "[]",
    "results_other.json": '{"results": {"toy": 3}, "config": {}}',
    "results_accuracy.json": {"accuracy,none": 1.5},
    "results_nan.json": {"accuracy,none": float("nan")},
    "results_text.json": {"accuracy,none": "1"},
    "results_empty.json": {"sample_len": 0},
    "results_tokens.json": {"tokens,none": "many"},
    "candidates_toy_1.jsonl": '{"schema": 1}\n',
    "candidates_toy_2.jsonl": "",
    "candidates_toy_3.jsonl": "\x00\xff\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cant_be_read_is_named_and_stops_nothing(tmp_path: Path, run: Command, name: str) -> None:
    results(tmp_path / "good", {"toy": scores(0.5)}, ours())
    expected = run(tmp_path)[1]
    content = BROKEN[name]
    if isinstance(content, dict):
        changed = {**scores(0.5), **content}
        results(tmp_path, {"toy": changed}, ours()).rename(tmp_path / name)
    else:
        (tmp_path / name).write_text(content)
    status, out, err = run(tmp_path)
    assert (status, out) == (0, expected)
    assert err.startswith("tts-eval leaderboard: left out: ") and str(tmp_path / name) in err and err.count("\n") == 1


def test_imported_candidates_are_graded(tmp_path: Path, run: Command) -> None:
    scored = record("a", "1122", [0.9, 0.1, 0.6, 0.6]), record("b", "2111", [0.1, 0.3, 0.2, 0.3])
    write(tmp_path / "weighted" / "candidates_toy_1.jsonl", *scored)  # 1.0 against 1.2; 0.8 against 0.1
    votes = record("a", "1122", None), record("b", "2111", None, gold=None), record("c", "222", None)
    write(tmp_path / "votes" / "candidates_toy_1.jsonl", *(replace(one, budget=8) for one in votes))
    status, out, err = run(tmp_path)
    assert status == 0
    assert [(row["model"], row["N"], row["selection"], row["accuracy"][:4], row["problems"]) for row in cells(out)] == [
        ("m", "4", "best_of_n_weighted (last)", "50.0", "2"),
        ("m", "8", "majority", "50.0", "2"),
    ]
    path = tmp_path / "votes" / "candidates_toy_1.jsonl"
    assert err == f"tts-eval leaderboard: left out: {path}: 1 problems of toy without a gold answer\n"


def test_a_task_that_is_not_ours(tmp_path: Path, run: Command) -> None:
    """Its own metrics aren't shown; with a journal the candidates are graded."""
    foreign = {"sample_len": 2, "exact_match,strict-match": 0.0}
    results(tmp_path / "plain", {"gsm8k": foreign}, None)
    status, _, err = run(tmp_path)
    assert status == 1 and "gsm8k has no accuracy,none and no journal" in err and err.count("\n") == 1
    folder = tmp_path / "ours"
    results(folder, {"gsm8k": foreign}, ours())
    of_run = {"task": "gsm8k", **{key: value for key, value in ours().items() if key != "usage"}}
    problems = [record(uid, "1122", [0.9, 0.4, 0.6, 0.6], gold=None, task="gsm8k", prompt_hash=uid) for uid in "ab"]
    journal(folder / "candidates_gsm8k_1.jsonl", of_run, *problems)
    lines = [sample(number, f"so \\boxed{{{gold}}}", uid) for number, (gold, uid) in enumerate(("1a", "2b"))]
    (folder / "samples_gsm8k_2026-01-01T00-00-00.000000.jsonl").write_text("\n".join(lines))
    status, out, err = run(tmp_path)
    (row,) = cells(out)
    assert status == 0 and row["accuracy"].startswith("50.0 ") and row["tokens"] == "100"
    # One gold answer is missing: half of the problems would be another measurement.
    (folder / "samples_gsm8k_2026-01-01T00-00-00.000000.jsonl").write_text(lines[0])
    assert "of 1 of 2 problems" in run(tmp_path)[2]


def sample(number: int, target: str, prompt: str) -> str:
    """A line of lm-eval's samples."""
    return json.dumps({"doc_id": number, "doc": {}, "target": target, "prompt_hash": prompt})


def test_documents_of_a_task_that_is_not_ours(tmp_path: Path, run: Command) -> None:
    """Two documents with one prompt share a record, and later documents of the journal aren't of these results."""
    told = ours()
    of_run = {"task": "gsm8k", **{key: value for key, value in told.items() if key != "usage"}}
    problems = [record(uid, "11", [0.9, 0.4], gold=None, task="gsm8k", prompt_hash=uid) for uid in "abc"]
    journal(tmp_path / "candidates_gsm8k_1.jsonl", of_run, *problems)
    for day, prompts in ((1, "aba"), (2, "abac")):
        foreign = {"sample_len": len(prompts), "exact_match,none": 0.0}
        results(tmp_path, {"gsm8k": foreign, "other": {"sample_len": 1}}, told, day)
        lines = [sample(number, "1" if uid == "a" else "2", uid) for number, uid in enumerate(prompts)]
        (tmp_path / f"samples_gsm8k_2026-01-0{day}T00-00-00.000000.jsonl").write_text("\n".join(lines))
    status, out, err = run(tmp_path)
    found = {(row["accuracy"][:4], row["problems"]) for row in cells(out)}
    assert status == 0 and found == {("66.7", "3"), ("50.0", "4")}
    assert "of 3 problems" not in err


def test_the_run_s_own_selection_counts_for_a_task_that_is_not_ours(tmp_path: Path, run: Command) -> None:
    told = ours()
    results(tmp_path, {"gsm8k": {"sample_len": 1}}, told, model_args={"selection": "majority"})
    of_run = {"task": "gsm8k", **{key: value for key, value in told.items() if key != "usage"}}
    one = record("a", "112", [0.1, 0.1, 0.9], gold=None, task="gsm8k", prompt_hash="a")
    journal(tmp_path / "candidates_gsm8k_1.jsonl", of_run, one)
    (tmp_path / "samples_gsm8k_2026-01-01T00-00-00.000000.jsonl").write_text(sample(0, "1", "a"))
    (row,) = cells(run(tmp_path)[1])
    assert row["selection"] == "majority" and row["accuracy"].startswith("100.0 ")


def test_a_part_of_an_imported_journal_that_cant_be_graded_is_left_out_alone(tmp_path: Path, run: Command) -> None:
    prose = record("b", "x", None, task="prose")
    prose = replace(prose, candidates=tuple(replace(candidate, answer=None) for candidate in prose.candidates))
    write(tmp_path / "candidates_both_1.jsonl", record("a", "11", None), prose)
    status, out, err = run(tmp_path)
    (row,) = cells(out)
    assert status == 0 and row["accuracy"].startswith("100.0 ") and "no solution of prose states an answer" in err


def test_prose_is_not_graded(tmp_path: Path, run: Command) -> None:
    results(tmp_path, {"ifeval": {"sample_len": 1, "prompt_level_strict_acc,none": 1.0}}, ours())
    of_run = {"task": "ifeval", **{key: value for key, value in ours().items() if key != "usage"}}
    one = record("a", "xy", [0.1, 0.9], gold=None, task="ifeval", prompt_hash="a")
    one = replace(one, candidates=tuple(replace(candidate, answer=None) for candidate in one.candidates))
    journal(tmp_path / "candidates_ifeval_1.jsonl", of_run, one)
    (tmp_path / "samples_ifeval_2026-01-01T00-00-00.000000.jsonl").write_text(sample(0, "0", "a"))
    status, _, err = run(tmp_path)
    assert status == 1 and "no solution of ifeval states an answer" in err


def test_no_path_of_this_machine(tmp_path: Path, run: Command) -> None:
    for number, name in enumerate(("/home/me/runs/a/final", "/home/me/runs/b/final", "/home/me/solo", "org/base")):
        told = ours(model={"base": "hf", "pretrained": name}, verifier={"name": "/home/me/prm"})
        results(tmp_path / str(number), {"toy": scores(0.5)}, told)
    out = run(tmp_path)[1]
    assert [row["model"] for row in cells(out)] == ["a/final", "b/final", "org/base", "solo"]
    assert "/home" not in out and str(tmp_path) not in out and "2026" not in out


def test_nothing_to_show(tmp_path: Path, run: Command) -> None:
    status, out, err = run(tmp_path / "nowhere")
    assert (status, out) == (1, "") and f"{tmp_path}/nowhere: no such folder; name the one that holds your runs" in err
    status, out, err = run(tmp_path)
    assert (status, out) == (1, "") and "no results_*.json and no imported journal, candidates_*.jsonl" in err
    assert not (tmp_path / "leaderboard.md").exists()
