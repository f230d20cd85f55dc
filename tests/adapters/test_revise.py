"""`tts-revise` as lm-eval sees it: shapes, templates, what is refused, and what it writes down."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.api.registry import model_registry
from lm_eval.models.dummy import DummyLM

import tts_eval.verifiers
from tts_eval.cli import main
from tts_eval.journal import Record, read_journal
from tts_eval.micro.members import resolve
from tts_eval.micro.problems import draw_problem
from tts_eval.model_adapters.best_of_n import BestOfN
from tts_eval.model_adapters.revise import REQUEST, Revise, revised_chat, shape_of
from tts_eval.revision import SEPARATOR
from tts_eval.types import Prefix, Problem, TtsEvalError, Usage
from tts_eval.verifiers import load_verifier


ROOT = Path(__file__).parents[2]
MICRO = {"pretrained": "micromath/base", "temperature": 1.0, "step_delimiter": "\\n"}
PLAIN = {"separator": "\\n\\n"}
TOY = {"base": "test-attempts", "budget": 4, "chains": 1}
USER = [{"role": "user", "content": "1+1"}]


class Attempts(DummyLM):
    """Writes down what it is asked and answers A0, A1, ... in turn, every second without an answer; or given texts."""

    def __init__(self, texts: str | None = None, **_: Any) -> None:
        super().__init__()
        self.texts = texts.split("|") if texts else [f"A{n}" + (f" \\boxed{{{n}}}" if n % 2 else "") for n in range(9)]
        self.prompts: list[str] = []

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        self.prompts += [request.args[0] for request in requests]
        return self.texts[len(self.prompts) - len(requests) : len(self.prompts)]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        text = "".join(f"<{message['role']}>{message['content']}" for message in chat_history)
        return text + "<assistant>" * add_generation_prompt


@pytest.fixture(autouse=True, scope="module")
def attempts() -> None:
    model_registry.register("test-attempts", target=Attempts)


class Reader:
    """An outcome verifier: the score is the number that a solution begins with, or else the length of the prompt."""

    kind = "outcome"
    aggregation = "last"
    step_delimiter = None

    def __init__(self, history: bool):
        self.history = history

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> list[tuple[tuple[float, ...], Usage]]:
        words = [(problem, prefix.text.split()[0]) for problem, prefix in items]
        return [((float(len(problem.prompt) if "A" in word else word),), Usage()) for problem, word in words]


def ask(adapter: Any, *prompts: Any, most: int = 60) -> list[str]:
    generation = {"until": ["\n\n"], "max_gen_toks": most}
    requests = [
        Instance("generate_until", {"unique_id": f"u{index}"}, (prompt, generation), 0, ("t", 0, 1))
        for index, prompt in enumerate(prompts)
    ]
    answers: list[str] = adapter.generate_until(requests)
    return answers


def problem(seed: int) -> str:
    return f"{draw_problem(random.Random(seed), 'Algebra', 3).problem}\n"


def revising(**arguments: Any) -> Revise:
    return Revise(arguments, {"device": "cpu"})


def records(
    path: Path, kind: type[Any] = Revise, prompts: Sequence[str] | None = None, **arguments: Any
) -> list[Record]:
    adapter = kind({**MICRO, **arguments, "journal": str(path)}, {"device": "cpu"})
    ask(adapter, *(prompts or map(problem, range(2))))
    return read_journal(path)[1]


def assert_same_attempts(some: Sequence[Record], others: Sequence[Record]) -> None:
    """To the last bit: how many rows are read together changes nothing."""
    for one, other in zip(*(sorted(each, key=lambda record: record.uid) for each in (some, others)), strict=True):
        assert one.candidates == other.candidates


@pytest.mark.parametrize(
    ("budget", "given", "length_and_chains"),
    [
        (16, {"chains": 2}, (8, 2)),
        (16, {"length": 2}, (2, 8)),
        (16, {"ratio": Fraction(1, 4)}, (2, 8)),
        (16, {"ratio": Fraction(16)}, (16, 1)),
        (128, {"ratio": Fraction(1, 128)}, (1, 128)),
        (12, {"ratio": Fraction(1, 3)}, (2, 6)),
        (1, {"chains": 1}, (1, 1)),
    ],
)
def test_a_shape_follows_from_the_budget_and_one_number(
    budget: int, given: dict[str, Any], length_and_chains: tuple[int, int]
) -> None:
    assert shape_of(budget, given) == length_and_chains


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"chains": 3}, r"chains=3 doesn't go with budget=16.* 8x2 \(chains=2\) or 4x4 \(chains=4\): change"),
        ({"length": 32}, r"length=32 doesn't go with budget=16.* are 16x1 \(length=16\): change it in --model_args"),
        ({"ratio": 0.3}, r"ratio=3/10 doesn't go with budget=16.* 2x8 \(ratio=1/4\) or 4x4 \(ratio=1\)"),
        ({}, r"budget=16 is to be shared out.*nothing is said of how: give one of chains=, length= and ratio="),
        ({"chains": 4, "length": 4}, r"chains=4 and length=4 is said of how: give one of"),
        ({"ratio": "a"}, r"ratio=a should be a number above 0, such as 0.25 or 1/4: change it in --model_args"),
        ({"ratio": 0}, r"ratio=0 should be a number above 0"),
        ({"chains": 0}, r"chains=0 should be a whole number of at least 1"),
        ({"chains": 4, "window": 0}, r"window=0 should be a whole number of at least 1"),
        ({"chains": 4, "template": "jinja"}, r"template=jinja should be one of plain, chat"),
        ({"chians": 4}, r"unknown argument chians= in --model_args: did you mean chains="),
        ({"chains": 4, "history": True}, r"history= says what a verifier sees, but there is none: add verifier="),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_loaded(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(TtsEvalError, match=words):
        Revise({"base": "hf", "pretrained": "no/such/model", "budget": 16, **arguments})


def test_plain_prompts_hold_the_window_and_attempts_without_an_answer_too() -> None:
    adapter = Revise({**TOY, "window": 2})
    (answer,) = ask(adapter, "Q: ")
    s = SEPARATOR
    assert adapter._base.prompts == [
        "Q: ",
        f"Q: A0{s}",
        f"Q: A0{s}A1 \\boxed{{1}}{s}",
        f"Q: A1 \\boxed{{1}}{s}A2{s}",
    ]
    assert [candidate["answer"] for candidate in answer.meta["candidates"]] == [None, "1", None, "3"]


def test_chat_prompts_go_on_with_the_chat() -> None:
    adapter = Revise({**TOY, "window": 2})
    ask(adapter, adapter.apply_chat_template([{"role": "system", "content": "S"}, *USER]))
    start, again = "<system>S<user>1+1<assistant>", f"<user>{REQUEST}<assistant>"
    assert adapter._base.prompts == [
        start,
        f"{start}A0{again}",
        f"{start}A0{again}A1 \\boxed{{1}}{again}",
        f"{start}A1 \\boxed{{1}}{again}A2{again}",
    ]
    assert adapter.identity()["strategy"] | {"temperature": 0.8} == {
        **{"name": "revise", "temperature": 0.8, "step_delimiter": "\n\n", "answer_fallback": None},
        **{"chains": 1, "length": 4, "window": 2, "template": "chat", "separator": None},
        **{"revision_request": REQUEST, "history": False},
    }


def test_the_beginning_of_an_answer_is_part_of_every_attempt() -> None:
    chat = [*USER, {"role": "assistant", "content": "So "}]
    assert revised_chat(chat, ["a"], "again") == [
        *USER,
        {"role": "assistant", "content": "So a"},
        {"role": "user", "content": "again"},
        {"role": "assistant", "content": "So "},
    ]
    adapter = Revise({**TOY, "budget": 2, "revision_request": "again"})
    ask(adapter, adapter.apply_chat_template(chat, add_generation_prompt=False))
    assert adapter._base.prompts == ["<user>1+1<assistant>So ", "<user>1+1<assistant>So A0<user>again<assistant>So "]


@pytest.mark.parametrize(
    ("arguments", "rendered", "words"),
    [
        ({"template": "chat"}, False, r"u0: template=chat goes on with the chat.*add --apply_chat_template.*=plain"),
        ({"separator": "x"}, True, r"separator= belongs to template=plain, but this run has chat: drop separator="),
        ({"revision_request": "x"}, False, r"revision_request= belongs to template=chat, but this run has plain"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(arguments: dict[str, Any], rendered: bool, words: str) -> None:
    adapter = Revise({**TOY, **arguments})
    with pytest.raises(TtsEvalError, match=words):
        ask(adapter, adapter.apply_chat_template(USER) if rendered else "1+1")
    assert adapter._base.prompts == []


def test_plain_over_a_chat_template_goes_on_with_the_answer() -> None:
    adapter = Revise({**TOY, "budget": 2, "template": "plain", "separator": "|"})
    ask(adapter, adapter.apply_chat_template(USER))
    assert adapter._base.prompts == ["<user>1+1<assistant>", "<user>1+1<assistant>A0|"]


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A chat endpoint on this machine, whose answers follow from a request's seed; and what it was sent."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            text = f"It is \\boxed{{{random.Random(received[-1]['seed']).randrange(10_000)}}}."
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            body = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/chat/completions", received
    server.shutdown()


@pytest.mark.parametrize("template", ["chat", "plain"])
def test_over_a_chat_endpoint(template: str, endpoint: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    url, received = endpoint
    path = tmp_path / "j.jsonl"
    arguments = {"base": "local-chat-completions", "model": "served", "base_url": url, "budget": 6, "chains": 2}
    adapter = Revise({**arguments, "window": 1, "template": template, "journal": str(path)})
    ask(adapter, adapter.apply_chat_template(USER))
    (record,) = read_journal(path)[1]
    assert [(one.chain, one.attempt) for one in record.candidates] == [(c, n) for c in range(2) for n in range(3)]
    assert len({one.answer for one in record.candidates}) == 6, "every attempt has a seed of its own"
    sent = [json.dumps(request["messages"]) for request in received]
    expected = [USER, USER]
    for before in (one for one in record.candidates if one.attempt < 2):
        turns = [*USER, {"role": "assistant", "content": before.text}, {"role": "user", "content": REQUEST}]
        expected.append(turns if template == "chat" else [{**USER[0], "content": f"1+1{before.text}{SEPARATOR}"}])
    assert sorted(sent) == sorted(map(json.dumps, expected))


def test_with_a_length_of_one_candidates_are_those_of_best_of_n(tmp_path: Path) -> None:
    revised = records(tmp_path / "r.jsonl", budget=4, length=1)
    sampled = records(tmp_path / "b.jsonl", BestOfN, budget=4)
    assert_same_attempts(revised, sampled)


def test_problems_together_have_the_attempts_that_each_has_alone(tmp_path: Path) -> None:
    shape = {**PLAIN, "budget": 8, "chains": 2, "window": 3, "temperature": 1.6}
    together = records(tmp_path / "all.jsonl", prompts=[problem(0), problem(1), problem(2)], **shape)
    (alone,) = records(tmp_path / "one.jsonl", prompts=[problem(0)], **shape)
    (first,) = (record for record in together if record.uid == "u0")
    assert_same_attempts([first], [alone])
    assert len({one.text for one in first.candidates}) > 4
    assert first.usage.generations == 8
    assert first.usage.decode_tokens == sum(one.tokens or 0 for one in first.candidates)


def test_a_journal_is_resumed_and_another_shape_refused(tmp_path: Path) -> None:
    shape = {**PLAIN, "budget": 4, "ratio": 1.0}
    first = records(tmp_path / "j.jsonl", prompts=[problem(0)], **shape)
    after = records(tmp_path / "j.jsonl", prompts=[problem(0), problem(1)], **shape)
    whole = records(tmp_path / "w.jsonl", prompts=[problem(0), problem(1)], **shape)
    assert after[:1] == first
    assert_same_attempts(after, whole)
    with pytest.raises(TtsEvalError, match=r"strategy.chains is 2 there and 1 here"):
        records(tmp_path / "j.jsonl", **(shape | {"ratio": 4}))


def test_lm_evals_cache_is_the_same_runs_before_and_after_prompts_are_known(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache.db")
    answers = ask(CachingLM(Revise(TOY), cache), "Q: ")
    again = CachingLM(Revise(TOY), cache)
    assert ask(again, "Q: ") == answers and again.lm._base.prompts == []
    with pytest.raises(TtsEvalError, match=r"--use_cache.*name another file"):
        CachingLM(Revise({**TOY, "window": 1}), cache)


def test_a_context_that_is_too_short_for_the_window_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    adapter = revising(**{**MICRO, **PLAIN, "budget": 6, "chains": 1, "journal": str(tmp_path / "j.jsonl")})
    tokenizer = adapter.tokenizer
    bare = len(tokenizer.encode(problem(0))) + 4 * len(tokenizer.encode("\n\n"))
    words = f"u0: a revision may see 4 attempts of 160 tokens after {bare} tokens of prompt and write 160 more, "
    words += (
        f"{bare + 800} in all, but the context is 512: lower window= to 2 in --model_args, or lower max_gen_toks in "
    )
    with pytest.raises(TtsEvalError, match=f"{words}--gen_kwargs to {(512 - bare) // 5}"):
        ask(adapter, problem(0), most=160)
    assert read_journal(tmp_path / "j.jsonl")[1] == []
    ask(revising(**{**MICRO, **PLAIN, "budget": 3, "chains": 1, "window": 2}), problem(0), most=160)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The base as `tts-eval train revision` would leave it."""
    folder = shutil.copytree(resolve("micromath/base"), tmp_path / "trained")
    config = json.loads((folder / "config.json").read_text())
    own = {"kind": "revision", "separator": "\n\n", "window": 2, "step_delimiter": "\n"}
    (folder / "config.json").write_text(json.dumps({**config, "tts_eval": own}))
    return folder


def test_a_trained_model_brings_its_separator_window_and_template(trained: Path) -> None:
    adapter = revising(**{**MICRO, "pretrained": str(trained), "budget": 4, "chains": 1})
    adapter._chats["rendered"] = USER  # as with --apply_chat_template: what it was trained with comes first
    ask(adapter, "rendered")
    chosen = {name: adapter.arguments[name] for name in ("window", "separator", "template")}
    assert chosen == {"window": 2, "separator": "\n\n", "template": "plain"}
    other = revising(**{**MICRO, "pretrained": str(trained), "budget": 4, "chains": 1, "window": 3, "separator": ";"})
    assert (other.arguments["window"], other.arguments["separator"]) == (3, ";")
    served = Revise({**TOY, "pretrained": str(trained)})
    assert served.arguments["window"] == 2


def test_a_trained_models_broken_config_is_named(trained: Path) -> None:
    path = trained / "config.json"
    path.write_text(path.read_text().replace('"window": 2', '"window": "two"'))
    with pytest.raises(TtsEvalError, match=r"config.json of .*trained: tts_eval.window must be an integer"):
        revising(**{**MICRO, "pretrained": str(trained), "budget": 4, "chains": 1})


@pytest.mark.parametrize(
    ("own", "given", "seen"), [(True, {}, True), (False, {}, False), (True, {"history": False}, False)]
)
def test_a_verifier_sees_earlier_attempts_if_it_was_trained_to(
    own: bool, given: dict[str, Any], seen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tts_eval.verifiers, "load_verifier", lambda *_, **__: Reader(own))
    path = tmp_path / "j.jsonl"
    adapter = Revise({**TOY, "budget": 2, "verifier": "v", "separator": "----", "journal": str(path), **given})
    ask(adapter, "Q")
    (record,) = read_journal(path)[1]
    assert [one.outcome_score for one in record.candidates] == [1.0, 7.0 if seen else 1.0]  # Q, and QA0----
    assert record.strategy["history"] == seen


def test_a_verifier_of_ours_says_whether_it_was_trained_with_history(tmp_path: Path) -> None:
    folder = shutil.copytree(resolve("micromath/orm"), tmp_path / "orm")
    assert not load_verifier(str(folder)).history
    config = json.loads((folder / "config.json").read_text())
    config["tts_eval"]["history"] = True
    (folder / "config.json").write_text(json.dumps(config))
    assert load_verifier(str(folder)).history and load_verifier(str(folder), noise=0.1).history


SHOWN = """\
prompt  [2 children]
├─     -  A0  [#0 without an answer; 1 child]
│  └─     -  A2  [#1 without an answer]
└─     -  A1 \\boxed{1}  [#2 = 1, selected; 1 child]
   └─     -  A3 \\boxed{3}  [#3 = 3]
"""


def test_a_chain_is_shown_as_a_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "j.jsonl"
    ask(Revise({**TOY, "chains": 2, "transcript": True, "journal": str(path)}), "Q")
    capsys.readouterr()
    assert main(["show", str(path), "--uid", "u0"]) == 0
    assert SHOWN in capsys.readouterr().out


def test_a_transcript_changes_nothing_else_and_holds_every_attempt(tmp_path: Path) -> None:
    arguments = {**PLAIN, "budget": 6, "chains": 2, "window": 1, "verifier": "micromath/prm"}
    plain = records(tmp_path / "plain.jsonl", **arguments)
    told = records(tmp_path / "told.jsonl", **arguments, transcript=True)
    assert [replace(record, nodes=None, usage=Usage()) for record in told] == [
        replace(record, usage=Usage()) for record in plain
    ]
    for record in told:
        assert record.nodes is not None
        held = {node.path: node for node in record.nodes}
        for index, one in enumerate(record.candidates):
            node = held[(one.chain, *[0] * one.attempt)]
            assert (node.candidate, node.steps, node.scores) == (index, one.steps, one.step_scores)


@pytest.mark.parametrize(
    ("selection", "text"),
    [
        # The first chain's winner has the best score of all; of all attempts most say 2, and weigh more together.
        (None, "0.9 \\boxed{1}"),
        ("hierarchical", "0.9 \\boxed{1}"),
        ("best_of_n", "0.9 \\boxed{1}"),
        ("best_of_n_weighted", "0.8 \\boxed{2}"),
        ("majority", "0.8 \\boxed{2}"),
        ("last_attempt", "0.2 \\boxed{2}"),
    ],
)
def test_selections_of_chains(selection: str | None, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tts_eval.verifiers, "load_verifier", lambda *_, **__: Reader(False))
    texts = "0.9 \\boxed{1}|0.8 \\boxed{2}|0.2 \\boxed{2}|0.1 \\boxed{2}"
    given = {} if selection is None else {"selection": selection}
    adapter = Revise({**TOY, "chains": 2, "verifier": "v", "texts": texts, **given})
    (answer,) = ask(adapter, "Q")
    assert answer == text


def test_without_a_verifier_the_majority_of_all_attempts_wins() -> None:
    (answer,) = ask(Revise({**TOY, "chains": 2, "texts": r"\boxed{1}|\boxed{2}|\boxed{3}|\boxed{2}"}), "Q")
    assert answer == r"\boxed{2}"
    with pytest.raises(TtsEvalError, match=r"selection=best should be one of majority, .*, hierarchical, last_attempt"):
        Revise({**TOY, "selection": "best"})


def literal(output: Path, limit: int, **arguments: Any) -> Record:
    """The last record of the literal command on the demo."""
    given = ",".join(f"{key}={value}" for key, value in {"budget": 4, "chains": 2, **arguments}.items())
    command = [str(Path(sys.executable).with_name("lm_eval")), "--model", "tts-revise", "--model_args", given]
    command += ["--tasks", str(ROOT / "tasks/tts_demo/tts_demo.yaml"), "--limit", str(limit), "--apply_chat_template"]
    command += ["--gen_kwargs", "max_gen_toks=16", "--log_samples", "--output_path", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = output.rglob("results_*.json")
    assert json.loads(results.read_text())["results"]["tts_demo"]["generations,none"] == 4
    (journal,) = output.rglob("candidates_*.jsonl")
    *_, last = read_journal(journal)[1]
    assert last.strategy["template"] == "chat"
    assert [(one.chain, one.attempt) for one in last.candidates] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    return last


@pytest.mark.timeout(900)
def test_the_literal_command_on_a_real_model(smollm2: Path, tmp_path: Path) -> None:
    record = literal(tmp_path, 1, base="hf", pretrained=smollm2)
    assert len({one.text for one in record.candidates}) > 1
    assert record.usage.decode_tokens == sum(one.tokens or 0 for one in record.candidates)
    # The problem is read once for both first attempts; a revision reads it again with the attempt.
    assert record.usage.prefill_tokens > 3 * record.usage.reused_tokens


@pytest.mark.timeout(900)
def test_the_literal_command_over_a_chat_endpoint(endpoint: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    url, received = endpoint
    record = literal(tmp_path, 2, base="local-chat-completions", model="served", base_url=url)
    # The task's four worked examples are turns too. Chains don't wait for one another.
    assert sorted(len(request["messages"]) for request in received) == [9] * 4 + [11] * 4
    revised = [request["messages"][-2]["content"] for request in received if len(request["messages"]) == 11]
    assert {one.text for one in record.candidates if one.attempt == 0} <= set(revised)
