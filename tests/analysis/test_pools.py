"""Gathering pools: which journals belong together, and where gold answers come from."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tts_eval.analysis import PoolSet, find_journals, load_pools, read_samples_gold
from tts_eval.journal import Record
from tts_eval.jsonl import Header
from tts_eval.types import Candidate, TtsEvalError, Usage


M = {"base": "hf", "pretrained": "m"}


class Equality:
    """A grader for which answers are equal when their strings are."""

    def grade(self, pairs: Iterable[tuple[str, str | None]]) -> list[bool]:
        return [gold == answer for gold, answer in pairs]

    def group(self, answers: Sequence[str | None]) -> list[int | None]:
        return [None if answer is None else answers.index(answer) for answer in answers]


def record(uid: str, answers: str = "12", **changes: object) -> Record:
    candidates = tuple(
        Candidate(a, None if a == "-" else a, (a,), (0.5,), None, None, 1, "eos", i, 0) for i, a in enumerate(answers)
    )
    whole = Record(uid, "toy", {"name": "best_of_n"}, len(answers), 0, candidates, Usage(), gold="1", level=3)
    return replace(whole, **changes)


def write(path: Path, *records: Record, run: dict | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = [] if run is None else [{"schema": 1, "run": run}]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*header, *(r.to_json() for r in records)]))
    return path


def write_samples(path: Path, *samples: dict) -> None:
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))


def load(*paths: Path) -> list[PoolSet]:
    return load_pools(paths, Equality())[0]


def test_find_journals(tmp_path: Path) -> None:
    inner = write(tmp_path / "model" / "candidates_toy_2026.jsonl")
    other = write(tmp_path / "any_name.jsonl")
    write(tmp_path / "samples_toy_2026.jsonl")
    assert find_journals([tmp_path]) == [inner]
    assert find_journals([inner, tmp_path, other, tmp_path / "model" / ".." / "any_name.jsonl"]) == [inner, other]
    with pytest.raises(TtsEvalError, match="nowhere: no such file"):
        find_journals([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(TtsEvalError, match=r"no journal \(candidates_\*.jsonl\) in .*empty; run lm_eval"):
        find_journals([tmp_path / "empty"])


def test_pool_holds_verdicts_of_its_own_candidates(tmp_path: Path) -> None:
    (found,) = load(write(tmp_path / "j.jsonl", record("a", "1-2"), record("b", "221", gold="2")))
    first, second = found.pools
    assert (first.uid, first.level, first.classes.tolist(), first.correct.tolist()) == ("a", 3, [0, -1, 1], [1, 0, 0])
    assert (second.classes.tolist(), second.correct.tolist()) == ([0, 0, 1], [1, 1, 0])


def test_the_order_in_which_problems_were_finished_does_not_matter(tmp_path: Path) -> None:
    records = [record("b", "12"), record("a", "21"), record("c", "-1"), record("d", "221")]
    orders = (write(tmp_path / f"{index}.jsonl", *rows) for index, rows in enumerate(itertools.permutations(records)))
    (first, *others) = (load(order) for order in orders)
    assert [pool.uid for pool in first[0].pools] == ["a", "b", "c"]
    assert all(repr(other) == repr(first) for other in others)


def test_sets_by_task_strategy_and_budget(tmp_path: Path) -> None:
    beam = {"name": "beam", "width": 4}
    write(tmp_path / "candidates_1.jsonl", record("a"), record("b", task="other"))
    write(tmp_path / "candidates_2.jsonl", record("a", strategy=beam, budget=4))
    write(tmp_path / "candidates_3.jsonl", record("a", strategy=beam, budget=16), record("b", strategy=beam, budget=8))
    found = [(s.task, s.strategy, s.budget, s.independent) for s in load(tmp_path)]
    assert found == [
        ("other", "best_of_n", 2, True),
        ("toy", "beam", 4, False),
        ("toy", "beam", 8, False),
        ("toy", "beam", 16, False),
        ("toy", "best_of_n", 2, True),
    ]


def test_an_aggregation_that_ranked_prefixes_makes_another_search(tmp_path: Path) -> None:
    searches = [{"name": "beam", "width": 4, "aggregation": how} for how in ("last", "prod")]
    write(tmp_path / "candidates_1.jsonl", record("a", strategy=searches[0]), record("b", strategy=searches[0]))
    write(tmp_path / "candidates_2.jsonl", record("a", strategy=searches[1]), record("b", strategy=searches[1]))
    assert [(s.strategy, len(s.pools)) for s in load(tmp_path)] == [
        ('beam (aggregation="last")', 2),
        ('beam (aggregation="prod")', 2),
    ]


def test_revision_chains_are_not_independent(tmp_path: Path) -> None:
    chain = record("a", "12")
    chain = replace(chain, candidates=tuple(replace(c, attempt=i) for i, c in enumerate(chain.candidates)))
    assert not load(write(tmp_path / "j.jsonl", chain))[0].independent


def test_seeds_join_and_models_do_not(tmp_path: Path) -> None:
    write(tmp_path / "candidates_1.jsonl", record("a"), run={"model": M, "verifier": None, "seed": 0})
    write(tmp_path / "candidates_2.jsonl", record("a", seed=1), run={"model": M, "verifier": None, "seed": 1})
    (found,) = load(tmp_path)
    assert [pool.seed for pool in found.pools] == [0, 1] and found.strategy == "best_of_n"
    write(
        tmp_path / "candidates_3.jsonl",
        record("a"),
        run={"model": {**M, "pretrained": "large"}, "verifier": None, "seed": 0},
    )
    hot = {"name": "best_of_n", "temperature": 2.0}
    write(tmp_path / "candidates_4.jsonl", record("a", strategy=hot), run={"model": M, "verifier": None})
    assert [s.strategy for s in load(tmp_path)] == [
        'best_of_n (model.pretrained="large")',
        'best_of_n (model.pretrained="m")',
        'best_of_n (model.pretrained="m", temperature=2.0)',
    ]


def test_independent_pools_of_two_budgets_are_told_apart(tmp_path: Path) -> None:
    found = load(write(tmp_path / "j.jsonl", record("a", "12"), record("b", "1212")))
    assert [s.strategy for s in found] == ["best_of_n (budget=2)", "best_of_n (budget=4)"]


def test_the_newest_of_repeated_problems_counts(tmp_path: Path) -> None:
    write(tmp_path / "candidates_toy_1.jsonl", record("a", "22"), record("b"))
    write(tmp_path / "candidates_toy_2.jsonl", record("a", "11"))
    (found,), notes = load_pools([tmp_path], Equality())
    assert {pool.uid: pool.correct.tolist() for pool in found.pools} == {"a": [1, 1], "b": [1, 0]}
    assert notes == ["1 problems occur again with the same strategy and seed; the newest journal counts"]


def test_what_counts_is_when_a_run_started_rather_than_its_path(tmp_path: Path) -> None:
    for name, answers, started in (("a", "11", "2026-03-01T12:00:00"), ("b", "22", "2026-02-28T12:00:00.5")):
        write(tmp_path / f"candidates_{name}.jsonl", record("a", answers), run={"model": M, "started": started})
    (found,), notes = load_pools([tmp_path], Equality())
    assert found.pools[0].correct.tolist() == [1, 1] and "the newest journal counts" in notes[0]
    write(tmp_path / "candidates_c.jsonl", record("a", "12"), run={"model": M})  # it doesn't say when: its path decides
    assert load(tmp_path)[0].pools[0].correct.tolist() == [1, 0]


def test_other_prompts_or_limits_are_other_runs(tmp_path: Path) -> None:
    """Only what was given and differs is in the label."""
    asked = {"prompting": {"num_fewshot": None, "apply_chat_template": True}, "limits": [[["\n\nProblem:"], 1024]]}
    runs = {
        "candidates_1": asked,
        "candidates_2": {**asked, "prompting": {"num_fewshot": 4, "apply_chat_template": True}},
        "candidates_3": {**asked, "limits": [[["\n\nProblem:"], 512]]},
    }
    for name, run in runs.items():
        write(tmp_path / f"{name}.jsonl", record("a"), run={"model": M, **run})
    sets, notes = load_pools([tmp_path], Equality())
    assert [s.strategy for s in sets] == [
        "best_of_n (limits.max_tokens=1024)",
        "best_of_n (limits.max_tokens=1024, prompting.num_fewshot=4)",
        "best_of_n (limits.max_tokens=512)",
    ]
    assert sets[2].prompts == {
        "prompting": {"apply_chat_template": True},
        "limits": {"stop": ["\n\nProblem:"], "max_tokens": 512},
    }
    assert notes == []


def test_long_prompts_are_cut_in_labels(tmp_path: Path) -> None:
    for index, end in enumerate(("calmly", "boldly")):
        run = {"model": M, "prompting": {"system_instruction": "Think step by step. " * 10 + end}}
        write(tmp_path / f"candidates_{index}.jsonl", record("a"), run=run)
    labels = [s.strategy for s in load(tmp_path)]
    assert len(set(labels)) == 2
    assert all(label.startswith('best_of_n (prompting.system_instruction="Think step') for label in labels)
    assert all(len(label) < 110 for label in labels)


@pytest.mark.parametrize("limits", [[], [[["\n"], 8], [["\n"], 16]], [8], "none", {"a": [[1, 2]]}])
def test_limits_of_any_form(tmp_path: Path, limits: object) -> None:
    write(tmp_path / "candidates_1.jsonl", record("a"), run={"model": M})
    write(tmp_path / "candidates_2.jsonl", record("a"), run={"model": M, "limits": limits})
    assert len(load(tmp_path)) == (2 if limits else 1)


def test_gold_from_the_samples_beside_the_journal(tmp_path: Path) -> None:
    write(
        tmp_path / "candidates_toy_2026.jsonl",
        record("test/1.json", gold=None, level=None),
        record("b" * 64, gold=None),
        record("some doc hash", gold=None, prompt_hash="c" * 64),
        record("unknown", gold=None),
    )
    write_samples(
        tmp_path / "samples_toy_2026-01-01T00-00-00.123.jsonl",
        {"doc": {"unique_id": "test/1.json", "level": 5}, "target": "1", "prompt_hash": "a" * 64},
        {"doc": {}, "target": 2, "prompt_hash": "b" * 64},
        {"doc": {"level": 4}, "target": "1", "prompt_hash": "c" * 64},
    )
    write_samples(
        tmp_path / "samples_toy_hard_2026-01-01T00-00-00.123.jsonl",
        {"doc": {"unique_id": "test/1.json"}, "target": "wrong task", "prompt_hash": "a" * 64},
    )
    (found,), notes = load_pools([tmp_path], Equality())
    assert [pool.correct.tolist() for pool in found.pools] == [[0, 1], [1, 0], [1, 0]]
    assert [pool.level for pool in found.pools] == [3, 3, 5]
    assert notes == ["toy: 1 problems without a gold answer are left out"]


@pytest.mark.parametrize(
    ("target", "choices", "right"),
    [
        ("['7', '8']", None, [1, 1, 0]),
        ("[7, 8]", None, [0, 0, 0]),  # an interval, not a list of answers
        ("1", ["9", "8"], [0, 1, 0]),
        ("1", "{{choices}}", None),  # what the template gives only lm-eval knows
        ("2", ["9", "8"], None),
        (" ", None, None),
    ],
)
def test_several_right_answers_and_choices(
    tmp_path: Path, target: str, choices: object, right: list[int] | None
) -> None:
    """lm-eval logs a list of answers in Python's words, and a choice by its number."""
    journal = write(tmp_path / "candidates_toy_1.jsonl", record("p", "789", gold=None), record("q", "789"))
    sample = {"doc": {}, "target": target, "prompt_hash": "p"}
    write_samples(tmp_path / "samples_toy_2026-01-01T00-00-00.1.jsonl", sample)
    config = {} if choices is None else {"doc_to_choice": choices}
    (tmp_path / "results_2026-01-01T00-00-00.1.json").write_text(json.dumps({"configs": {"toy": config}}))
    (pools,) = load(journal)
    assert [pool.correct.tolist() for pool in pools.pools if pool.uid == "p"] == ([] if right is None else [right])


def test_samples_without_any_answer_are_spoken_of(tmp_path: Path) -> None:
    _, notes = load_pools([write(tmp_path / "j.jsonl", record("a", "--"), record("b", "-"))], Equality())
    assert len(notes) == 1 and notes[0].startswith("toy, answer_fallback None: no solution states an answer")
    assert load_pools([write(tmp_path / "j.jsonl", record("a", "--"), record("b", "1"))], Equality())[1] == []


def test_no_gold_at_all(tmp_path: Path) -> None:
    with pytest.raises(
        TtsEvalError, match="no gold answer for any problem of toy; run lm_eval again with --log_samples"
    ):
        load(write(tmp_path / "j.jsonl", record("a", gold=None)))


def test_journal_without_a_finished_problem(tmp_path: Path) -> None:
    with pytest.raises(TtsEvalError, match=r"no finished problem in .*j\.jsonl; run the same lm_eval command again"):
        load(write(tmp_path / "j.jsonl", run={"model": M}))
    (tmp_path / "bad.jsonl").write_text("garbage\n")
    with pytest.raises(TtsEvalError, match=r"bad\.jsonl:1: not JSON"):
        load_pools([tmp_path / "bad.jsonl"], Equality(), lenient=True)


def test_broken_samples_file(tmp_path: Path) -> None:
    path = tmp_path / "samples_toy_2026-01-01T00-00-00.1.jsonl"
    write_samples(path, {"doc": {}, "target": "1", "prompt_hash": "a"}, {"target": "1"})
    with pytest.raises(TtsEvalError, match=f"{path}:2: not a sample of lm-eval"):
        read_samples_gold(tmp_path, "toy")


def test_header_run_is_optional(tmp_path: Path) -> None:
    assert Header({}).run == {}
    path = write(tmp_path / "j.jsonl", record("a"), run={})
    assert load(path)[0].strategy == "best_of_n"
