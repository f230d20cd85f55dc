"""`transcript=true` of the adapters: the tree goes to the journal, and nothing else changes."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from tts_eval.cli import main
from tts_eval.journal import Record, read_journal
from tts_eval.jsonl import Header
from tts_eval.micro.problems import draw_problem
from tts_eval.model_adapters.base import SearchLM
from tts_eval.model_adapters.best_of_n import BestOfN
from tts_eval.model_adapters.step_search import Beam, Lookahead
from tts_eval.types import TtsEvalError, Usage


ARGUMENTS = {
    "pretrained": "micromath/base",
    "verifier": "micromath/prm",
    "budget": 4,
    "temperature": 1.0,
    "step_delimiter": "\\n",
}
PROBLEMS = [draw_problem(random.Random(seed), "Algebra", 3) for seed in range(2)]


def search(kind: type[SearchLM], path: Path, **arguments: Any) -> tuple[Header, list[Record]]:
    """Two problems in a journal of their own."""
    generation = {"until": ["\n\n"], "max_gen_toks": 60}
    requests = [
        Instance("generate_until", {"unique_id": uid}, (f"{problem.problem}\n", generation), 0, ("t", 0, 1))
        for uid, problem in zip("ab", PROBLEMS)
    ]
    adapter = kind({**ARGUMENTS, **arguments, "journal": str(path)}, {"device": "cpu"})
    adapter.generate_until(requests, disable_tqdm=True)
    header, records = read_journal(path)
    assert header is not None
    return header, records


@pytest.mark.parametrize(
    ("kind", "arguments"), [(BestOfN, {}), (Beam, {"width": 2}), (Lookahead, {"width": 2, "lookahead": 1})]
)
def test_a_transcript_changes_nothing_else(kind: type[SearchLM], arguments: dict[str, Any], tmp_path: Path) -> None:
    plain_header, plain = search(kind, tmp_path / "plain.jsonl", **arguments)
    header, told = search(kind, tmp_path / "told.jsonl", **arguments, transcript=True)
    assert header.identity == plain_header.identity
    assert [replace(record, nodes=None, usage=Usage()) for record in told] == [
        replace(record, usage=Usage()) for record in plain
    ]
    assert all(record.nodes is None for record in plain)
    for record in told:
        assert record.nodes is not None
        steps = {((), 0): ()}
        for node in record.nodes:
            steps[node.key] = steps[node.parent] + node.steps
        ended = {node.candidate: steps[node.key] for node in record.nodes if node.candidate is not None}
        assert [ended[index] for index in range(4)] == [candidate.steps for candidate in record.candidates]
        assert any(node.lookahead for node in record.nodes) == (kind is Lookahead)
        assert all(node.scores is not None and len(node.scores) == len(node.steps) for node in record.nodes)
    assert main(["show", str(tmp_path / "told.jsonl"), "--uid", "a"]) == 0


def test_a_value_that_is_neither_true_nor_false(tmp_path: Path) -> None:
    with pytest.raises(TtsEvalError, match=r"transcript=maybe should be true or false: change it in --model_args"):
        search(BestOfN, tmp_path / "j.jsonl", transcript="maybe")
