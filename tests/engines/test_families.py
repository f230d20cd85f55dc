"""The batch on other architectures, and that a sample is bit for bit the same alone and in any batch."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from tiny import CONTEXT, END, naive_tokens, run, tiny_engine

from tts_eval.engines.exact import require_exact_rows
from tts_eval.engines.rows import RowCache
from tts_eval.types import Decoding, Prefix, Problem, Sample, TtsEvalError


DECODING = Decoding(temperature=1.0, seed=5, step_delimiter="\n")
COMMON = {
    "vocab_size": END + 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "eos_token_id": END,
    "bos_token_id": None,
    "pad_token_id": None,
}
# Windows far shorter than the sequences, so that a wrong one shows.
MIXED = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"use_sliding_window": True, **MIXED},
    "Mistral": {"sliding_window": 6},
    "Gemma2": {"query_pre_attn_scalar": 8, "attn_implementation": "eager", **MIXED},
    "Gemma3Text": {"query_pre_attn_scalar": 8, **MIXED},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT},
    "Phi3": {"sliding_window": 6},
}
CLASSES = {"Gemma3Text": "Gemma3ForCausalLM", "GPT2": "GPT2LMHeadModel"}


def model_of(family: str, dtype: torch.dtype, **changes: Any) -> Any:
    torch.manual_seed(1)
    given = {**COMMON, **FAMILIES[family], **changes}
    attention = given.pop("attn_implementation", "sdpa")
    if family == "GPT2":
        names = (
            "vocab_size",
            "initializer_range",
            "eos_token_id",
            "bos_token_id",
            "n_embd",
            "n_layer",
            "n_head",
            "n_positions",
        )
        given = {name: given[name] for name in names}
    config = getattr(transformers, f"{family}Config")(**given)
    config._attn_implementation = attention
    model = getattr(transformers, CLASSES.get(family, f"{family}ForCausalLM"))(config)
    return model.to(dtype).eval()


def problems(count: int) -> list[Problem]:
    return [Problem(f"p{index}", "abcdefgh. "[index % 5 :] * (1 + index % 4), (), 30) for index in range(count)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_samples_what_the_naive_sampler_does(family: str) -> None:
    model = model_of(family, torch.float64)
    asked = problems(4)
    for problem, (reply, _) in zip(
        asked, run(tiny_engine(model, DECODING), [(p, Sample((Prefix(),), 3, "end")) for p in asked]), strict=True
    ):
        for prefix in reply:
            tokens, logprobs = naive_tokens(
                model, problem.prompt, problem.uid, prefix.path, DECODING, prefix.token_count or 0
            )
            assert list(prefix.tokens) == tokens
            assert prefix.logprob == pytest.approx(sum(logprobs), abs=1e-6)


def test_in_float32_a_sample_is_bit_for_bit_the_same_alone_and_in_any_batch() -> None:
    model = model_of("Llama", torch.float32)
    asked = problems(24)
    requests = [(problem, Sample((Prefix(),), 4, "end")) for problem in asked]
    together = run(tiny_engine(model, DECODING), requests)
    for request, (reply, _) in zip(requests, together, strict=True):
        ((alone, _),) = run(tiny_engine(model, DECODING), [request])
        assert [prefix.tokens for prefix in reply] == [prefix.tokens for prefix in alone]
        # The model's numbers are equal; drawing from them is so to the last bit or two of float64.
        assert [prefix.logprob for prefix in reply] == pytest.approx([p.logprob for p in alone], abs=1e-12)


LOCAL = {"attention_types": [[["global", "local"], 1]], "window_size": 8}


@pytest.mark.parametrize(
    ("family", "given"),
    [
        ("GPTNeo", {"num_layers": 2, "num_heads": 4, "max_position_embeddings": CONTEXT, **LOCAL}),
        ("Bloom", {"n_layer": 2, "n_head": 4}),
        ("Mamba", {"num_hidden_layers": 2, "state_size": 4}),
        ("Rwkv", {"num_hidden_layers": 2, "attention_hidden_size": 32}),
    ],
)
def test_an_architecture_that_takes_no_such_batches_is_refused(family: str, given: dict[str, Any]) -> None:
    torch.manual_seed(1)
    config = getattr(transformers, f"{family}Config")(vocab_size=END + 1, hidden_size=32, **given)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with pytest.raises(TtsEvalError, match=r"batch|can't be forked"):
        tiny_engine(model, DECODING)


PLAIN, DYNAMIC = ({"rope_type": kind, "rope_theta": 10000.0, "factor": 2.0} for kind in ("linear", "dynamic"))
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("Phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 64}),
        ("Llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": 64}),
        (
            "Gemma3Text",
            {
                "rope_parameters": {"sliding_attention": PLAIN, "full_attention": DYNAMIC},
                "max_position_embeddings": 64,
            },
        ),
    ],
)
def test_a_context_in_which_the_longest_row_decides_the_rotation_is_refused(
    family: str, changes: dict[str, Any]
) -> None:
    model = model_of(family, torch.float64, **copy.deepcopy(changes))
    with pytest.raises(TtsEvalError, match=r"more than 64 tokens.*give max_length=64"):
        tiny_engine(model, DECODING)
    require_exact_rows(model, 64)


def test_layers_with_another_kind_of_state_are_refused_with_the_mend() -> None:
    config = SimpleNamespace(layer_types=["linear_attention", "full_attention"], num_hidden_layers=2)
    with pytest.raises(TtsEvalError, match=r"linear_attention.*base=vllm"):
        RowCache(config, additive=False)
