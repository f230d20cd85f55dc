"""The adapters with a verifier: what it is told, where its scores go, and how they choose the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.registry import model_registry
from lm_eval.models.dummy import DummyLM

import tts_eval.verifiers
from tts_eval.journal import read_journal
from tts_eval.model_adapters.best_of_n import BestOfN
from tts_eval.model_adapters.replay import Replay
from tts_eval.types import Prefix, Problem, TtsEvalError, Usage


SOLUTIONS = {
    # The last step of 1 is the best of all, but it has a bad one before; 2 is good throughout; most say 3.
    "mixed": ["0.1 a\n\n0.9 \\boxed{1}", "0.8 b\n\n0.7 \\boxed{2}", "0.2 \\boxed{3}", "0.3 \\boxed{3}"],
    "empty": ["", "", "", ""],
    "prose": ["0.1 a\n\n0.9 b", "0.8 c", "0.95 d", "0.3 e"],
}


class Scripted(DummyLM):
    """Answers a prompt with its solutions, one after the other."""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.left = {prompt: list(solutions) for prompt, solutions in SOLUTIONS.items()}

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        return [self.left[request.args[0]].pop(0) for request in requests]


class Reader:
    """Scores a step by the number that it begins with, a solution by that of its last step."""

    step_delimiter = "\n\n"

    def __init__(self, kind: Literal["process", "outcome"], aggregation: str):
        self.kind: Literal["process", "outcome"] = kind
        self.aggregation = aggregation
        self.problems: list[Problem] = []

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> list[tuple[tuple[float, ...], Usage]]:
        self.problems += [problem for problem, _ in items]
        each = [tuple(float(step.split()[0]) for step in prefix.steps) for _, prefix in items]
        if self.kind == "outcome":
            each = [scores[-1:] or (0.5,) for scores in each]
        return [(scores, Usage(verifier_tokens=3)) for scores in each]


class SealedDoc(Mapping[str, Any]):
    """A document of which a verifier may see the question, and nobody the gold answer."""

    def __getitem__(self, key: str) -> Any:
        if key not in ("unique_id", "problem"):
            raise AssertionError(f"the search looked at the document's {key!r}")
        return {"unique_id": "u", "problem": "the question"}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("unique_id", "problem", "answer"))

    def __len__(self) -> int:
        raise AssertionError("the search measured the document")


@pytest.fixture(autouse=True, scope="module")
def scripted() -> None:
    model_registry.register("test-scripted", target=Scripted)


def run(
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    *,
    prompt: str = "mixed",
    kind: Literal["process", "outcome"] = "process",
    own: str = "last",
    **arguments: Any,
) -> tuple[str, Reader]:
    """The answer to one problem, and the verifier that helped to choose it."""
    reader = Reader(kind, own)
    monkeypatch.setattr(tts_eval.verifiers, "load_verifier", lambda *_, **__: reader)
    given = {"base": "test-scripted", "budget": 4, "verifier": "v", "journal": str(path), **arguments}
    request = Instance("generate_until", SealedDoc(), (prompt, {"until": ["Q:"], "max_gen_toks": 32}), 0, ("t", 0, 1))
    (answer,) = BestOfN(given).generate_until([request])
    return str(answer), reader


@pytest.mark.parametrize(
    ("selection", "text"),
    [("best_of_n_weighted", "0.95 d"), ("best_of_n", "0.95 d"), ("majority", "0.1 a\n\n0.9 b")],
)
def test_of_texts_without_an_answer_the_best_is_returned(
    selection: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, tmp_path / "j.jsonl", prompt="prose", selection=selection)[0] == text


@pytest.mark.parametrize(
    ("own", "arguments", "boxed"),
    [
        # What a value says of a last step holds for the whole; that it is correct doesn't mend a wrong one before it.
        ("last", {}, 1),
        ("prod", {}, 2),
        ("prod", {"aggregation": "last"}, 1),
        ("last", {"selection": "majority"}, 3),
        ("min", {"selection": "best_of_n"}, 2),
    ],
)
def test_a_verifier_brings_its_aggregation(
    own: str, arguments: dict[str, Any], boxed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, _ = run(monkeypatch, tmp_path / "j.jsonl", own=own, **arguments)
    assert f"\\boxed{{{boxed}}}" in answer


@pytest.mark.parametrize(("delimiter", "warned"), [("\n\n", False), ("\n", True)])
def test_steps_that_the_verifier_was_not_trained_on_are_warned_of(
    delimiter: str, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run(monkeypatch, tmp_path / "j.jsonl", step_delimiter=delimiter)
    assert (r"trained on steps that end with '\n\n', and here they end with '\n'" in caplog.text) == warned


def test_a_verifier_is_told_the_question_and_never_the_gold_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, reader = run(monkeypatch, tmp_path / "j.jsonl")
    assert reader.problems == [Problem("u", "mixed", ("Q:",), 32, "the question")] * 4


def test_step_scores_reach_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j.jsonl"
    named = {"name": "v", "verifier_format": "trl", "verifier_dtype": "float32"}
    run(monkeypatch, path, verifier_format="trl", verifier_dtype="float32", noise=0.5)
    header, (record,) = read_journal(path)
    assert header is not None
    assert header.run["verifier"] == {**named, "noise": 0.5}
    assert [candidate.step_scores for candidate in record.candidates] == [(0.1, 0.9), (0.8, 0.7), (0.2,), (0.3,)]
    assert {candidate.outcome_score for candidate in record.candidates} == {None}
    assert record.usage.verifier_tokens == 12
    with pytest.raises(TtsEvalError, match=r"verifier\.noise is 0\.5 there"):
        run(monkeypatch, path, verifier_format="trl", verifier_dtype="float32")


def test_an_outcome_score_reaches_the_journal_and_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j.jsonl"
    answer, _ = run(monkeypatch, path, kind="outcome")
    (record,) = read_journal(path)[1]
    assert [candidate.outcome_score for candidate in record.candidates] == [0.9, 0.7, 0.2, 0.3]
    assert {candidate.step_scores for candidate in record.candidates} == {None}
    assert "\\boxed{1}" in answer
    request = Instance("generate_until", SealedDoc(), ("mixed", {}), 0, ("t", 0, 1))
    replay = Replay({"journal": str(path), "selection": "best_of_n"})
    assert "\\boxed{1}" in replay.generate_until([request])[0]


@pytest.mark.parametrize("kind", ["process", "outcome"])
def test_solutions_without_a_step_are_wrong_and_no_error(
    kind: Literal["process", "outcome"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j.jsonl"
    answer, _ = run(monkeypatch, path, prompt="empty", kind=kind, budget=1)
    assert answer == ""
    (candidate,) = read_journal(path)[1][0].candidates
    assert candidate.steps == () and candidate.step_scores == (() if kind == "process" else None)
