"""`tts-optimal` as lm-eval sees it: what it runs for which problem, what it writes down, and what it refuses."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model, model_registry
from lm_eval.models.dummy import DummyLM

from tts_eval.journal import Record, read_journal
from tts_eval.micro.problems import draw_problem
from tts_eval.model_adapters.best_of_n import BestOfN
from tts_eval.model_adapters.optimal import Optimal
from tts_eval.plugin import register_adapters
from tts_eval.policy import Difficulty, Policy, PolicyChoice, write_policy
from tts_eval.types import TtsEvalError


MICRO = {"pretrained": "micromath/base", "verifier": "micromath/prm", "temperature": 1.0, "step_delimiter": "\\n"}
NO_MODEL = {"base": "dummy", "model": "none", "verifier": "micromath/prm"}
PROMPTS = [f"{draw_problem(random.Random(seed), 'Algebra', 3).problem}\n" for seed in range(3)]
ALWAYS, NEVER = -1.0, 2.0  # thresholds that every mean score reaches, or none
BEST_OF_N = {"name": "best-of-n", "temperature": 1.0, "step_delimiter": "\n", "answer_fallback": None}
BEAM = {"name": "beam", "width": 2, "max_steps": 40}
ZERO = {"name": "beam", "width": 0}


def policy(threshold: float = ALWAYS, *strategies: Mapping[str, Any], kind: str = "predicted", **other: Any) -> Policy:
    """Two bins, with a strategy for each."""
    named = {str(index): strategy for index, strategy in enumerate(strategies or (BEST_OF_N, BEAM))}
    difficulty = Difficulty(kind, other.pop("aggregation", "last"), (threshold,))
    made_from = other.pop("made_from", {})
    return Policy("t", difficulty, named, (PolicyChoice(1, tuple(named)),), made_from)


def written(tmp_path: Path, made: Policy) -> str:
    path = tmp_path / "policy.yaml"
    write_policy(made, path)
    return str(path)


def ask(adapter: Any, prompts: Sequence[str] = PROMPTS) -> list[Any]:
    generation = {"until": ["\n\n"], "max_gen_toks": 60}
    requests = [
        Instance("generate_until", {"unique_id": f"u{index}"}, (prompt, generation), 0, ("t", 0, 1))
        for index, prompt in enumerate(prompts)
    ]
    answers: list[Any] = adapter.generate_until(requests, disable_tqdm=True)
    return answers


def records(kind: type[Any], journal: Path, **arguments: Any) -> list[Record]:
    ask(kind({**MICRO, "budget": 8, **arguments, "journal": str(journal)}, {"device": "cpu"}))
    return sorted(read_journal(journal)[1], key=lambda record: record.uid)


def assert_same_candidates(some: Sequence[Record], others: Sequence[Record]) -> None:
    for one, other in zip(some, others, strict=True):
        mine, theirs = ([replace(c, step_scores=None, logprob=None) for c in r.candidates] for r in (one, other))
        assert mine == theirs
        for candidate, like in zip(one.candidates, other.candidates, strict=True):
            assert candidate.step_scores == pytest.approx(like.step_scores, abs=1e-4)


def test_it_is_an_lm_eval_model() -> None:
    register_adapters()
    assert get_model("tts-optimal") is Optimal


def test_where_the_policy_says_best_of_n_it_is_best_of_n(tmp_path: Path) -> None:
    found = records(Optimal, tmp_path / "a.jsonl", policy=written(tmp_path, policy(ALWAYS)), probes=3)
    plain = records(BestOfN, tmp_path / "b.jsonl")
    assert_same_candidates(found, plain)
    for record, other in zip(found, plain):
        assert record.usage.decode_tokens == other.usage.decode_tokens
        assert record.usage.generations == record.budget == 8
        assert record.usage.probe_tokens == sum(candidate.tokens or 0 for candidate in record.candidates[:3])
        assert other.usage.probe_tokens == 0


def test_the_other_bin_has_the_other_strategy_with_what_is_left(tmp_path: Path) -> None:
    made = written(tmp_path, policy(NEVER))
    found = records(Optimal, tmp_path / "a.jsonl", policy=made, probes=3, transcript=True)
    plain = records(BestOfN, tmp_path / "b.jsonl", budget=3)
    assert_same_candidates([replace(record, candidates=record.candidates[:3]) for record in found], plain)
    for record in found:
        assert len(record.candidates) == record.usage.generations == record.budget == 8
        assert 0 < record.usage.probe_tokens < record.usage.decode_tokens
        assert record.nodes is not None
        first_steps = {node.path: node for node in record.nodes if len(node.path) == 1}
        assert sorted(first_steps) == [(index,) for index in range(8)]
        assert all(len(first_steps[index,].steps) == 1 for index in range(3, 8))  # step by step, from here on
        assert max(len(node.path) for node in record.nodes) > 1


def test_a_lookahead_has_as_many_solutions_as_cost_what_is_left(tmp_path: Path) -> None:
    made = written(tmp_path, policy(NEVER, BEST_OF_N, {"name": "lookahead", "lookahead": 1, "width": "sqrt"}))
    for record in records(Optimal, tmp_path / "a.jsonl", policy=made, probes=4):
        assert record.usage.generations == 4 + 2 * 2 and len(record.candidates) == 4 + 2
        assert record.usage.lookahead_tokens > 0


def test_a_lookahead_that_is_no_number_is_an_error_of_the_policy(tmp_path: Path) -> None:
    made = written(tmp_path, policy(NEVER, BEST_OF_N, {"name": "lookahead", "lookahead": "x"}))
    with pytest.raises(TtsEvalError, match=r"lookahead=x should be a whole number.*\(here: in the policy\)"):
        records(Optimal, tmp_path / "a.jsonl", policy=made, probes=4)


def test_a_stop_string_within_the_delimiter_is_refused_where_a_bin_has_steps(tmp_path: Path) -> None:
    def asked(*strategies: Mapping[str, Any]) -> list[Any]:
        made = written(tmp_path, policy(NEVER, *strategies))
        given = {**MICRO, "base": "test-agreeing", "step_delimiter": "\n\n", "budget": 8, "policy": made}
        return ask(Optimal(given), ["easy"])

    with pytest.raises(TtsEvalError, match=r"task t ends a solution at '\\n\\n', .*choose another step_delimiter="):
        asked({"name": "best-of-n"}, BEAM)
    assert len(asked({"name": "best-of-n"}, {"name": "best-of-n"})) == 1


def test_probes_may_be_the_whole_budget(tmp_path: Path) -> None:
    found = records(Optimal, tmp_path / "a.jsonl", policy=written(tmp_path, policy(NEVER)), probes=8)
    assert_same_candidates(found, records(BestOfN, tmp_path / "b.jsonl"))
    assert all(record.usage.probe_tokens == record.usage.decode_tokens for record in found)


class Agreeing(DummyLM):
    """Says the same to the first prompt, and something else each time to every other."""

    asked = 0

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        texts = []
        for request in requests:
            self.asked += 1
            answer = "\\frac12" if self.asked % 2 else "0.5"  # equal, though not by their text
            texts.append(f"\\boxed{{{answer if request.args[0] == 'easy' else self.asked}}}")
        return texts


@pytest.fixture(autouse=True, scope="module")
def agreeing() -> None:
    model_registry.register("test-agreeing", target=Agreeing)


def test_adaptive_stopping_needs_neither_policy_nor_verifier(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    adapter = Optimal({"base": "test-agreeing", "budget": 10, "probes": 2, "stop_at": 0.95, "journal": str(path)})
    easy, hard = ask(adapter, ["easy", "hard"])
    assert easy.meta["usage"]["generations"] == len(easy.meta["candidates"]) == 4
    assert hard.meta["usage"]["generations"] == len(hard.meta["candidates"]) == 10
    header, kept = read_journal(path)
    assert header is not None and header.run["budget"] == 10
    assert {record.budget for record in kept} == {10}
    assert sorted(record.usage.generations or 0 for record in kept) == [4, 10]


def test_adaptive_stopping_leaves_step_wise_searches_alone_and_counts_the_probes_votes(tmp_path: Path) -> None:
    made = written(tmp_path, policy(NEVER))
    found = records(Optimal, tmp_path / "a.jsonl", policy=made, stop_at=0.5)
    assert_same_candidates(found, records(Optimal, tmp_path / "b.jsonl", policy=made))
    stopped = records(Optimal, tmp_path / "c.jsonl", policy=written(tmp_path, policy(ALWAYS)), stop_at=0.6)
    plain = records(BestOfN, tmp_path / "d.jsonl")
    counts = [record.usage.generations for record in stopped]
    assert set(counts) <= {4, 8} and 4 in counts  # the probes alone may agree
    shorter = [replace(of, candidates=of.candidates[:count]) for of, count in zip(plain, counts)]
    assert_same_candidates(stopped, shorter)
    assert all(record.usage.verifier_tokens for record in stopped)


def test_a_run_is_the_policys_content_whatever_its_file_is_called(tmp_path: Path) -> None:
    def identity(made: Policy, name: str = "policy.yaml", **arguments: Any) -> dict[str, Any]:
        path = tmp_path / name
        write_policy(made, path)
        adapter = Optimal({**MICRO, "base": "dummy", "budget": 8, "policy": str(path), **arguments})
        return json.loads(json.dumps(adapter.identity()))

    one = identity(policy(0.5, made_from={"run": "a"}))
    assert one["policy"]["difficulty"] == {"kind": "predicted", "aggregation": "last", "thresholds": [0.5]}
    assert one["strategy"]["probes"] == 4 and str(tmp_path) not in json.dumps(one)
    assert identity(policy(0.5, made_from={"run": "b"}), "other.yaml") == one
    for other in (
        identity(policy(0.6)),
        identity(policy(0.5, BEST_OF_N, {**BEAM, "width": 3})),
        identity(policy(0.5), probes=5),
        identity(policy(0.5), stop_at=0.9),
    ):
        assert other["strategy"] != one["strategy"]


def test_an_interrupted_run_goes_on_and_another_policy_is_refused(tmp_path: Path) -> None:
    made, journal = written(tmp_path, policy(ALWAYS)), tmp_path / "j.jsonl"
    whole = records(Optimal, journal, policy=made)
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]))
    assert_same_candidates(records(Optimal, journal, policy=made), whole)
    with pytest.raises(TtsEvalError, match=r"policy.difficulty.thresholds is \[-1.0\] there and \[2.0\] here"):
        records(Optimal, journal, policy=written(tmp_path, policy(NEVER)))


@pytest.mark.parametrize(
    ("made", "arguments", "words"),
    [
        (None, {}, r"needs a policy, or a rule that says when to stop: add policy=FILE, or stop_at=0.95"),
        (None, {"stop_at": 0.4}, r"stop_at=0.4 should be a number of at least 0.5 and at most 1"),
        (policy(), {"verifier": None}, r"by the verifier's scores: add verifier= to --model_args"),
        (policy(), {"probes": 9}, r"probes=9 samples are part of the budget, which is 8: lower probes= or raise"),
        (policy(), {"probes": 0}, r"probes=0 should be a whole number of at least 1"),
        (policy(), {"porbes": 2}, r"did you mean probes="),
        (policy(), {"policy": "no/such/file.yaml"}, r"policy no/such/file.yaml: can't be read"),
        (policy(kind="oracle"), {}, r"policy.yaml: its bins are oracle, which needs gold answers.*kind: predicted"),
        (policy(aggregation="median"), {}, r"unknown difficulty.aggregation in policy .*'median'; choose from last"),
        (policy(0.5, BEAM, {"name": "revise"}), {}, r"unknown strategy in policy .*'revise'; choose from best-of-n, b"),
        (policy(0.5, BEST_OF_N, {**BEAM, "widht": 3}), {}, r"unknown parameter of beam in .*'widht'; choose from"),
        (policy(0.5, BEST_OF_N, ZERO), {}, r"policy .*, strategy .*'width': 0.*whole number of at least 1.*policy"),
        (policy(), {"temperature": 0.7}, r"best-of-n was chosen with temperature=1.0, and this run has 0.7: give it"),
        (policy(), {"step_delimiter": ";"}, r"was chosen with step_delimiter='\\n', and this run has ';': give it"),
    ],
)
def test_what_cannot_be_run_is_refused(
    made: Policy | None, arguments: dict[str, Any], words: str, tmp_path: Path
) -> None:
    named = {} if made is None else {"policy": written(tmp_path, made)}
    fits = {"temperature": 1.0, "step_delimiter": "\\n"}
    with pytest.raises(TtsEvalError, match=words):
        given = {**NO_MODEL, "budget": 8, **fits, **named, **arguments}
        Optimal({name: value for name, value in given.items() if value is not None})
