"""The adapters as lm-eval sees them, over models that need no weights."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.api.registry import model_registry
from lm_eval.models.dummy import DummyLM

from tts_eval.journal import read_journal
from tts_eval.model_adapters.answer import Answer
from tts_eval.model_adapters.base import SearchLM
from tts_eval.model_adapters.best_of_n import BestOfN
from tts_eval.model_adapters.engines import build_base
from tts_eval.model_adapters.records import question_of
from tts_eval.model_adapters.replay import Replay
from tts_eval.model_adapters.revise import Revise
from tts_eval.model_adapters.step_search import Beam
from tts_eval.plugin import register_adapters
from tts_eval.types import TtsEvalError


class Numbers(DummyLM):
    """Answers with a number that depends on the prompt and on how often it was asked; a question why, with none."""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.asked: dict[str, int] = {}

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        texts = []
        for request in requests:
            prompt = request.args[0]
            self.asked[prompt] = self.asked.get(prompt, 0) + 1
            number = f"So it is \\boxed{{{[7, 3, 7, 5][self.asked[prompt] % 4]}}}"
            texts.append(f"It depends{', very' * self.asked[prompt]}." if prompt.startswith("Why?") else number)
        return texts


@pytest.fixture(autouse=True, scope="module")
def numbers() -> None:
    model_registry.register("test-numbers", target=Numbers)


class SealedDoc(Mapping[str, Any]):
    """A document whose gold answer must not be touched."""

    def __init__(self, uid: str | None, question: str | None = None):
        self.uid = uid
        self.question = question

    def __getitem__(self, key: str) -> Any:
        if key == "problem" and self.question is not None:
            return self.question
        if key == "unique_id" and self.uid is not None:
            return self.uid
        if key == "unique_id":
            raise KeyError(key)
        raise AssertionError(f"the search looked at the document's {key!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(("unique_id", "problem", "answer"))

    def __len__(self) -> int:
        raise AssertionError("the search measured the document")


def request(prompt: str, uid: str | None = None, task: str = "t", repeats: int = 1) -> Instance:
    generation = {"until": ["\n\nQ:"], "max_gen_toks": 32}
    return Instance("generate_until", SealedDoc(uid), (prompt, generation), 0, (task, 0, repeats))


def best_of_n(**arguments: Any) -> BestOfN:
    return BestOfN({"base": "test-numbers", "budget": 4, **arguments})


def test_gold_never_reaches_a_search() -> None:
    answers = best_of_n().generate_until([request("a", "u1"), request("b"), request("c", "u3", task="other")])
    assert [type(answer) for answer in answers] == [Answer] * 3


def test_a_verifier_gets_the_question_and_nothing_else_of_the_document() -> None:
    asked = replace(request("Solve: 1+1\n", "u1"), doc=SealedDoc("u1", "1+1"))
    assert question_of(asked, with_question=True).problem.question == "1+1"
    assert question_of(asked).problem.question is None
    (answer,) = best_of_n(verifier="micromath/prm").generate_until([asked])
    assert answer.meta["usage"]["verifier_tokens"] > 0


@pytest.mark.parametrize(
    ("doc", "question"),
    [
        ({"question": "How many?", "choices": [], "context": None}, "How many?"),
        ({"body": "Two apples and three.", "question": "How many?"}, None),
        ({"question": "Which is prime?", "options": ["21", "23"]}, None),
        ({"problem": "Who won?", "Passage": "Ann won."}, None),
    ],
)
def test_half_a_question_is_none(doc: dict[str, Any], question: str | None) -> None:
    assert question_of(replace(request("a"), doc=doc), with_question=True).problem.question == question


def test_selection_and_aggregation_follow_the_verifier() -> None:
    def chosen(**arguments: Any) -> tuple[str, str]:
        adapter = best_of_n(**arguments)
        return adapter.arguments["selection"], adapter.arguments["aggregation"]

    assert chosen() == ("majority", "last")
    assert chosen(verifier="micromath/prm") == ("best_of_n_weighted", "last")
    assert chosen(verifier="micromath/prm", selection="best_of_n", aggregation="min") == ("best_of_n", "min")


def test_an_answer_is_the_majoritys_and_knows_its_candidates() -> None:
    (answer,) = best_of_n().generate_until([request("a", "u1")])
    assert answer == "So it is \\boxed{7}"
    assert answer.meta["uid"] == "u1" and answer.meta["budget"] == 4
    assert [candidate["answer"] for candidate in answer.meta["candidates"]] == ["3", "7", "5", "7"]
    assert answer.meta["selected"] == 1
    assert answer.meta["usage"]["generations"] == 4 and answer.meta["usage"]["decode_tokens"] is None


@pytest.mark.parametrize(("problems", "budget", "solutions"), [(2, 3, 6), (70, 4, 256)])
def test_solutions_without_any_answer_are_warned_of_once_a_task(
    problems: int, budget: int, solutions: int, caplog: pytest.LogCaptureFixture
) -> None:
    """At the end, or as soon as it is plain."""
    prose = [request(f"Why? {i}", f"p{i}", "prose") for i in range(problems)]
    best_of_n(budget=budget).generate_until(prose)
    best_of_n().generate_until([request("a", "u1")])
    (warning,) = [text for text in caplog.messages if "states an answer" in text]
    assert warning.startswith(f"tts-eval: none of {solutions} solutions of task prose states an answer")


def test_what_the_journal_holds_counts_for_that_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = [request("Why?", "p0", "prose"), request("a", "p1", "prose")]
    for _ in range(2):
        best_of_n(journal=str(tmp_path / "prose.jsonl")).generate_until(asked[:1])
    assert sum("states an answer" in text for text in caplog.messages) == 2
    caplog.clear()
    for some in (asked[1:], asked):
        best_of_n(journal=str(tmp_path / "mixed.jsonl")).generate_until(some)
    assert len(read_journal(tmp_path / "mixed.jsonl")[1]) == 2
    assert not any("states an answer" in text for text in caplog.messages)


def test_an_answer_survives_pickling_and_is_json() -> None:
    (answer,) = best_of_n().generate_until([request("a", "u1")])
    again = pickle.loads(pickle.dumps(answer))
    assert again == answer and again.meta == answer.meta


@pytest.mark.parametrize("name", ["max_gen_toks", "_max_gen_toks"])
def test_a_task_that_sets_no_limit_has_the_bases(name: str, tmp_path: Path) -> None:
    asked = replace(request("a", "u1"), arguments=("a", {"until": ["Q:"]}))
    adapter = best_of_n(journal=str(tmp_path / "j.jsonl"))
    setattr(adapter._base, name, 700)
    adapter.generate_until([asked, request("b", "u2")])
    header, _ = read_journal(tmp_path / "j.jsonl")
    assert header is not None and {most for _, most in header.run["limits"]} == {700, 32}
    assert question_of(asked).problem.max_tokens == 256


def test_stop_strings_are_texts_whatever_lm_evals_casts_made_of_them() -> None:
    asked = replace(request("a"), arguments=("a", {"until": [1, 0, "", None, "Q:"]}))
    assert question_of(asked).problem.stop == ("1", "0", "Q:")


def test_padding_copies_are_computed_once(tmp_path: Path) -> None:
    one = request("a", "u1")
    path = tmp_path / "j.jsonl"
    answers = best_of_n(journal=str(path)).generate_until([one, request("b", "u2"), one, one])
    assert answers[0] == answers[2] == answers[3]
    assert [record.uid for record in read_journal(path)[1]] == ["u1", "u2"]


def test_two_problems_with_one_id_are_refused() -> None:
    with pytest.raises(TtsEvalError, match="two problems with unique_id u1"):
        best_of_n().generate_until([request("a", "u1"), request("b", "u1")])


def test_repeats_are_refused_with_the_mend() -> None:
    with pytest.raises(TtsEvalError, match=r"repeats: 3.*budget="):
        best_of_n().generate_until([request("a", "u1", repeats=3)] * 3)


def test_the_journal_is_resumed_and_keeps_each_problem_once(tmp_path: Path) -> None:
    requests = [request(prompt, prompt) for prompt in "abcdef"]
    first = best_of_n(journal=str(tmp_path)).generate_until(requests[:4])
    (path,) = tmp_path.glob("candidates_t_*.jsonl")
    second = best_of_n(journal=str(tmp_path))
    assert second.generate_until(requests)[:4] == first
    assert list(tmp_path.iterdir()) == [path]
    assert [record.uid for record in read_journal(path)[1]] == list("abcdef")
    assert second.get_model_info()["tts_eval"]["usage"]["generations"] == 24


def test_another_budget_has_a_journal_of_its_own_in_the_folder(tmp_path: Path) -> None:
    best_of_n(journal=str(tmp_path)).generate_until([request("a", "u1")])
    best_of_n(journal=str(tmp_path), budget=2).generate_until([request("a", "u1")])
    assert sorted(read_journal(path)[1][0].budget for path in tmp_path.iterdir()) == [2, 4]


@pytest.mark.parametrize(
    ("change", "words"), [({"budget": 2}, "budget is 4 there and 2 here"), ({"temperature": 0.1}, "temperature is 0.8")]
)
def test_a_named_journal_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "j.jsonl"
    best_of_n(journal=str(path)).generate_until([request("a", "u1")])
    before = path.read_bytes()
    with pytest.raises(TtsEvalError, match=words):
        best_of_n(journal=str(path), **change).generate_until([request("a", "u1")])
    assert path.read_bytes() == before


def test_a_journal_with_other_prompts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    best_of_n(journal=str(path)).generate_until([request("a", "u1")])
    with pytest.raises(TtsEvalError, match="u1 had another prompt"):
        best_of_n(journal=str(path)).generate_until([request("a, but with a chat template", "u1")])


def test_two_tasks_and_one_journal_file_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with pytest.raises(TtsEvalError, match=r"j.jsonl: a journal file holds one task, and this run has 2: name a"):
        best_of_n(journal=str(path)).generate_until([request("a", "u1"), request("b", "u2", task="other")])
    assert not path.exists()


def test_lm_evals_cache_keeps_what_is_done_and_refuses_another_run(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache.db")
    answers = CachingLM(best_of_n(), cache).generate_until([request("a", "u1"), request("b", "u2")])
    again = CachingLM(best_of_n(), cache)
    assert again.generate_until([request("a", "u1"), request("b", "u2")]) == answers
    assert again.lm._base.asked == {}
    with pytest.raises(TtsEvalError, match=r"--use_cache.*name another file"):
        CachingLM(best_of_n(budget=8), cache)


@pytest.mark.parametrize(
    ("kind", "selection"), [(BestOfN, "best_of_n"), (BestOfN, "best_of_n_weighted"), (Revise, "hierarchical")]
)
def test_a_selection_that_needs_scores_says_so_before_a_model_is_loaded(kind: type[SearchLM], selection: str) -> None:
    given = {"pretrained": "./no/such/model", "budget": 4, "selection": selection}
    with pytest.raises(TtsEvalError, match=f"selection {selection} needs verifier scores; give a verifier"):
        kind(given | ({"chains": 1} if kind is Revise else {}))


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (Beam, {"lookahead": 3}, r"lookahead= is an argument of tts-lookahead, and this is tts-beam: drop it from"),
        (BestOfN, {"width": 4}, r"width= is an argument of tts-beam, tts-lookahead, tts-dvts, and this is tts-best"),
        (BestOfN, {"tts_stop_at": 0.9}, r"tts_stop_at= is an argument of tts-optimal, and this is tts-best-of-n"),
        (BestOfN, {"chains": 2}, r"chains= is an argument of tts-revise, and this is tts-best-of-n.*another --model"),
    ],
)
def test_an_argument_of_another_model_is_refused(kind: type[SearchLM], given: dict[str, Any], words: str) -> None:
    register_adapters()
    with pytest.raises(TtsEvalError, match=words):
        kind({"base": "test-numbers", "budget": 4, "verifier": "micromath/prm", **given})


def test_an_argument_of_another_model_that_the_base_declares_is_the_bases() -> None:
    class Wide(Numbers):
        def __init__(self, width: int, **_: Any) -> None:
            super().__init__()
            self.width = width

    register_adapters()
    model_registry.register("test-wide", target=Wide)
    assert best_of_n(base="test-wide", width=4)._base.width == 4


def test_replay_selects_anew_without_a_model(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    requests = [request("a", "u1"), request("b", "u2")]
    expected = best_of_n(journal=str(path)).generate_until(requests)
    replay = Replay({"journal": str(path)})
    # The prompt may differ: a replay renders no chat template.
    found = replay.generate_until([request("a rendered otherwise", "u1"), request("b", "u2")])
    assert found == expected and [answer.meta for answer in found] == [answer.meta for answer in expected]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "argument journal= is missing"),
        ({"journal": "absent.jsonl"}, "absent.jsonl"),
        ({"journal": "JOURNAL", "pretrained": "x"}, "takes no pretrained"),
        ({"journal": "JOURNAL", "selektion": "majority"}, "did you mean selection="),
    ],
)
def test_replay_refuses_what_it_cannot_do(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    path = tmp_path / "j.jsonl"
    best_of_n(journal=str(path)).generate_until([request("a", "u1")])
    given = {key: str(path) if value == "JOURNAL" else value for key, value in arguments.items()}
    with pytest.raises(TtsEvalError, match=words):
        Replay(given)


def test_replay_names_a_problem_that_the_journal_lacks(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    best_of_n(journal=str(path)).generate_until([request("a", "u1")])
    with pytest.raises(TtsEvalError, match="lacks 1 of 2 problems, the first u2"):
        Replay({"journal": str(path)}).generate_until([request("a", "u1"), request("b", "u2")])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"base": "dumy", "budget": 2}, "base=dumy: lm-eval has no such model; did you mean dummy"),
        ({"base": "hf", "budget": 2, "pretrained": "./no/such/model"}, "base model hf can't be made.*no/such/model"),
        ({"base": "hf", "budget": 2, "pretrained": "./no/such.gguf"}, "such.gguf: no such file"),
    ],
)
def test_a_base_that_cannot_be_made_is_one_clear_error(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(TtsEvalError, match=words) as caught:
        BestOfN(arguments)
    assert "\n" not in str(caught.value)[:80]


def test_an_unreadable_gguf_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(TtsEvalError, match=r"base model hf can't be made.*broken.gguf"):
        BestOfN({"base": "hf", "budget": 2, "pretrained": str(path)})


def test_vllm_reads_no_pickle_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(TtsEvalError, match=r"holds its weights as a pickle.*load_format=pt"):
        build_base("vllm", {"pretrained": str(tmp_path)}, None)
