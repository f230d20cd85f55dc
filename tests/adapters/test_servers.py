"""The adapters over servers, as a user would run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from stub_server import Stub

from tts_eval.journal import read_journal
from tts_eval.micro.members import resolve
from tts_eval.model_adapters.base import SearchLM
from tts_eval.model_adapters.best_of_n import BestOfN
from tts_eval.model_adapters.engines import build_base
from tts_eval.model_adapters.servers import headers_of
from tts_eval.model_adapters.step_search import Beam
from tts_eval.types import TtsEvalError


USER = [{"role": "user", "content": "What is 1+1?"}]


@pytest.fixture
def stub(recording_stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The server, as it was when it started."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    recording_stub.set(next=[], ends=0.3, style="vllm")
    return recording_stub


def texts(stub: Stub, **changes: Any) -> dict[str, Any]:
    common = {"base": "local-completions", "model": "m", "base_url": stub.completions, "tokenizer_backend": "none"}
    return {**common, "budget": 4, **changes}


def chats(stub: Stub, **changes: Any) -> dict[str, Any]:
    return texts(stub, base="local-chat-completions", base_url=stub.chat, **changes)


def ask(adapter: SearchLM, *prompts: Any) -> list[str]:
    generation = {"until": ["Q:"], "max_gen_toks": 60}
    docs = [{"unique_id": f"u{index}", "problem": "1+1?"} for index in range(len(prompts))]
    requests = [
        Instance("generate_until", doc, (prompt, generation), index, ("t", index, 1))
        for index, (doc, prompt) in enumerate(zip(docs, prompts, strict=True))
    ]
    return adapter.generate_until(requests, disable_tqdm=True)


def test_best_of_n_over_completions(stub: Stub, tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    before = stub.stats()
    answers = ask(BestOfN(texts(stub, journal=str(path))), "1+1?\n", "2+2?\n")
    assert all(answers)
    header, records = read_journal(path)
    assert [len({one.text for one in record.candidates}) for record in records] == [4, 4]
    spent = {name: count - before[name] for name, count in stub.stats().items()}
    assert sum(record.usage.decode_tokens or 0 for record in records) == spent["completion_tokens"]
    assert sum(record.usage.prefill_tokens or 0 for record in records) == spent["prompt_tokens"]
    assert spent["requests"] == 2
    assert "sk-secret" not in path.read_text() and header is not None


@pytest.mark.parametrize("kind", ["completions", "chat"])
def test_beam_search_over_a_server(kind: str, stub: Stub, tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    own = {"width": 2, "journal": str(path), "max_steps": 6}
    if kind == "completions":
        ask(Beam(texts(stub, verifier="micromath/prm", **own)), "1+1?\n")
    else:
        # A verifier of ours reads the prompt as text, and a chat is none; so one that shows the question.
        served = {"verifier": stub.url, "verifier_format": "trl", "verifier_tokenizer": "micromath/prm"}
        adapter = Beam(chats(stub, prefill=True, **served, **own))
        ask(adapter, adapter.apply_chat_template(USER))
        goes_on = [body for body in stub.received() if body.get("continue_final_message")]
        assert goes_on and all(body["add_generation_prompt"] is False for body in goes_on)
        assert all(body["messages"][-1]["content"].endswith(".\n\n") for body in goes_on)
    (record,) = read_journal(path)[1]
    assert len(record.candidates) == 4
    assert all(len(one.steps) == len(one.step_scores or ()) for one in record.candidates)
    assert any(len(one.steps) > 1 for one in record.candidates)


def test_beam_search_over_chat_needs_prefill(stub: Stub) -> None:
    adapter = Beam(chats(stub, verifier="micromath/prm"))
    with pytest.raises(TtsEvalError, match=r"chat endpoint.*can't go on from a partial.*prefill=true"):
        ask(adapter, adapter.apply_chat_template(USER))


def test_a_chat_endpoint_wants_a_chat_and_another_text(stub: Stub) -> None:
    with pytest.raises(TtsEvalError, match=r"this prompt is text: add --apply_chat_template"):
        ask(BestOfN(chats(stub)), "1+1?")
    adapter = BestOfN(texts(stub))
    with pytest.raises(TtsEvalError, match=r"takes text, and there is no tokenizer here.*tokenizer="):
        ask(adapter, adapter.apply_chat_template(USER))


def test_what_is_sent_is_the_bases_own_payload(stub: Stub) -> None:
    folder = resolve("micromath/base")
    adapter = BestOfN(texts(stub, tokenizer=folder, tokenizer_backend="huggingface", eos_string="END", temperature=0.5))
    ask(adapter, "1+1?\n")
    body = stub.received()[-1]
    assert body["prompt"] == adapter.tokenizer.encode("1+1?\n", add_special_tokens=False), "ids, no start token added"
    expected = {"model": "m", "max_tokens": 60, "temperature": 0.5, "stop": ["Q:", "END"], "n": 4}
    # Nor does the server cut the distribution as its model's generation_config.json recommends.
    expected |= {"top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1}
    assert {name: body[name] for name in expected} == expected
    adapter = BestOfN(chats(stub, send_seed=False, native_n=False))
    ask(adapter, adapter.apply_chat_template(USER))
    assert "seed" not in stub.received()[-1] and "n" not in stub.received()[-1]


def test_a_plain_seed_is_the_runs(stub: Stub) -> None:
    seeds = []
    for arguments in ({"seed": 1}, {"tts_seed": 1}, {"seed": 2}):
        adapter = BestOfN(texts(stub, **arguments))
        ask(adapter, "1+1?\n")
        seeds.append((adapter.identity()["seed"], stub.received()[-1]["seed"]))
    assert seeds[0] == seeds[1] and [seed for seed, _ in seeds] == [1, 1, 2] and seeds[2][1] != seeds[0][1]


def test_several_replicas_and_one_that_is_dead(stub: Stub) -> None:
    with Stub() as second, Stub() as dead:
        urls = f"{dead.completions}|{stub.completions}|{second.completions}"
        adapter = BestOfN(texts(stub, base_url=urls, native_n=False, num_concurrent=8))
        dead.kill()
        before = stub.stats()["requests"]
        assert all(ask(adapter, *(f"{index}+1?\n" for index in range(12))))
        assert stub.stats()["requests"] - before > 10 and second.stats()["requests"] > 10


def test_a_run_that_broke_off_goes_on_and_may_reach_its_server_otherwise(stub: Stub, tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    arguments = texts(stub, journal=str(path), max_retries=1, num_concurrent=1, timeout=30)
    stub.set(next=["", "", "503"])
    with pytest.raises(TtsEvalError, match=r"no answer after 1 tries.*same command goes on") as refused:
        ask(BestOfN(arguments), *(f"{index}+1?\n" for index in range(4)))
    assert "sk-secret" not in str(refused.value)
    done = {record.uid for record in read_journal(path)[1]}
    before = stub.stats()["requests"]
    elsewhere = {"base_url": f"{stub.completions}|{stub.completions}", "num_concurrent": 2, "max_retries": 3}
    ask(BestOfN({**arguments, **elsewhere}), *(f"{index}+1?\n" for index in range(4)))
    assert stub.stats()["requests"] - before == 4 - len(done)
    assert sorted(record.uid for record in read_journal(path)[1]) == ["u0", "u1", "u2", "u3"]


def test_the_key_is_sent_and_missing_where_it_must_be(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    base = build_base("local-completions", {"model": "m", "base_url": stub.url, "tokenizer_backend": "none"}, None)
    assert headers_of(base) == {"Authorization": "Bearer sk-secret"}
    monkeypatch.delenv("OPENAI_API_KEY")
    base = build_base("local-completions", {"model": "m", "base_url": stub.url, "tokenizer_backend": "none"}, None)
    assert headers_of(base) == {}
    base = build_base("openai-chat-completions", {"model": "m"}, None)
    with pytest.raises(TtsEvalError, match="OPENAI_API_KEY"):
        headers_of(base)


def test_thoughts_are_no_part_of_a_solution(stub: Stub, tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    stub.set(ends=1.0)
    adapter = BestOfN(chats(stub, think_end_token="it ", journal=str(path)))
    ask(adapter, adapter.apply_chat_template(USER))
    (record,) = read_journal(path)[1]
    assert all(one.text.startswith("is \\boxed{") for one in record.candidates)
