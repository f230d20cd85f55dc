"""From a base to its engine: what is sampled through lm-eval after all, how, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.api_models import JsonChatStr
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tts_eval.journal import read_journal
from tts_eval.micro.members import resolve
from tts_eval.model_adapters.base import SearchLM
from tts_eval.model_adapters.best_of_n import BestOfN
from tts_eval.model_adapters.engines import build_base
from tts_eval.model_adapters.step_search import Beam
from tts_eval.types import TtsEvalError


def ask(adapter: SearchLM, prompt: Any, **generation: Any) -> None:
    asked = Instance("generate_until", {"unique_id": "u"}, (prompt, {"until": [], **generation}), 0, ("t", 0, 1))
    adapter.generate_until([asked], disable_tqdm=True)


@pytest.fixture(scope="module")
def stretching(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model whose RoPE depends on the longest row of a batch, beyond 32 tokens."""
    tokenizer = AutoTokenizer.from_pretrained(resolve("micromath/base"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    # A recommendation that would leave a token or two.
    model.generation_config.do_sample, model.generation_config.top_p = True, 0.01
    folder = tmp_path_factory.mktemp("stretching")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_model_sampled_through_lm_eval_draws_from_its_whole_distribution(
    stretching: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "j.jsonl"
    arguments = {"pretrained": stretching, "max_length": 64, "temperature": 1.0, "journal": str(path)}
    ask(BestOfN({**arguments, "budget": 200}, {"device": "cpu", "batch_size": "200"}), "1+1", max_gen_toks=1)
    assert "give max_length=32 in --model_args; it is sampled through lm-eval instead" in caplog.text.replace("(", "")
    (record,) = read_journal(path)[1]
    assert len({one.text for one in record.candidates}) > 75, "of 134 tokens, and transformers takes 50 by default"


def test_a_step_wise_search_over_it_is_refused_with_the_mend(stretching: str) -> None:
    arguments = {"pretrained": stretching, "max_length": 64, "verifier": "micromath/prm", "budget": 4}
    with pytest.raises(TtsEvalError, match=r"can't go on from a partial.*max_length=32.*tts-best-of-n"):
        ask(Beam(arguments, {"device": "cpu"}), "1+1", max_gen_toks=8)


def test_every_sample_over_litellm_has_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def completion(seed: int, **_: Any) -> Any:
        seeds.append(seed)
        choice = {"index": 0, "message": {"content": f"{seed}"}}
        return SimpleNamespace(model_dump=lambda: {"choices": [choice]})

    monkeypatch.setitem(sys.modules, "litellm", SimpleNamespace(completion=completion))
    chat = JsonChatStr('[{"role": "user", "content": "1+1?"}]')
    ask(BestOfN({"base": "litellm", "model": "m", "budget": 8}), chat, max_gen_toks=8)
    assert len(seeds) == len(set(seeds)) == 8


@pytest.mark.parametrize(
    ("base", "arguments", "words"),
    [
        ("hf", {"think_end_token": "</think>"}, "think_end_token=</think>: base=hf leaves thoughts in its solutions"),
        ("vllm", {"enable_thinking": True}, "enable_thinking=True: base=vllm leaves.*base=local-chat-completions"),
        ("hf", {"mixed_precision_dtype": "bfloat16"}, "mixed_precision_dtype=bfloat16: .* give dtype=bfloat16 instead"),
    ],
)
def test_what_lm_eval_would_heed_and_we_do_not_is_refused(base: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(TtsEvalError, match=words):
        build_base(base, {"pretrained": "micromath/base", **arguments}, None)


def test_a_model_may_be_told_not_to_think() -> None:
    build_base("hf", {"pretrained": "micromath/base", "enable_thinking": False, "device": "cpu"}, None)
