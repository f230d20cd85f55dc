"""FLOPs against the paper's numbers, a real model's operations, and shapes worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.analysis.flops import (
    ACCOUNTINGS,
    RATIOS,
    inference_flops,
    matching_budget,
    matching_ratio,
    pretraining_flops,
)
from tts_eval.analysis.ledger_flops import (
    ModelShape,
    eflops,
    forward_flops,
    kv_bytes,
    ledger_flops,
    model_shape,
)
from tts_eval.micro.members import resolve
from tts_eval.types import TtsEvalError, Usage


V1, ICLR = ACCOUNTINGS["v1"], ACCOUNTINGS["iclr"]
BASE = ModelShape(188_864, lookup=0, layers=4, heads=4, kv_heads=2, head_dim=16, bytes_per_value=4)
TOKEN = 2 * 188_864 + 4 * 4 * 4 * 16 * 100
"""FLOPs of a token of `BASE` that attends to 100."""

accountings = st.sampled_from([V1, ICLR])
times = st.floats(1.01, 1e3)


@pytest.mark.parametrize(("ratio", "budget"), [(22, 16), (0.795, 64), (0.164, 256)])
def test_the_papers_match_points(ratio: float, budget: int) -> None:
    assert matching_budget(14.2, ratio, V1) == pytest.approx(budget, rel=0.005)
    assert matching_budget(14.2, ratio / 2, ICLR) == pytest.approx(budget, rel=0.005)
    assert matching_ratio(14.2, budget, V1) == pytest.approx(ratio, rel=0.005)
    assert matching_ratio(14.2, budget, ICLR) == pytest.approx(ratio / 2, rel=0.005)


def test_published_ratios_are_the_same_points() -> None:
    assert RATIOS.keys() == ACCOUNTINGS.keys() and (V1.constant, ICLR.constant) == (3.0, 1.5)
    for name, ratios in RATIOS.items():
        found = [matching_ratio(14.2, budget, ACCOUNTINGS[name]) for budget in (256, 64, 16)]
        assert found == pytest.approx(ratios, rel=0.03)  # the paper prints two digits


@given(times, st.floats(1e-3, 1e3), accountings)
def test_budget_and_ratio_are_inverse(m: float, ratio: float, accounting: Any) -> None:
    assert matching_ratio(m, matching_budget(m, ratio, accounting), accounting) == pytest.approx(ratio, rel=1e-6)


@given(times, st.floats(1e-3, 1e3), accountings)
def test_both_sides_cost_the_same(m: float, ratio: float, accounting: Any) -> None:
    smaller, pretraining, asked = 1e9, 1e12, ratio * 1e12
    budget = matching_budget(m, ratio, accounting)
    cost = pretraining_flops(smaller, pretraining) + budget * inference_flops(smaller, asked, accounting)
    larger = pretraining_flops(m * smaller, pretraining) + inference_flops(m * smaller, asked, accounting)
    assert cost == pytest.approx(larger)


@pytest.mark.parametrize("budget", [1, 14.2])
def test_few_generations_match_at_no_ratio(budget: float) -> None:
    assert matching_ratio(14.2, budget, V1) is None


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_out_of_range(wrong: float) -> None:
    with pytest.raises(TtsEvalError, match=r"R=.* give a number above 0"):
        matching_budget(14.2, wrong, V1)
    with pytest.raises(TtsEvalError, match=r"budget=.* give a number above 0"):
        matching_ratio(14.2, wrong, V1)
    for call in matching_budget, matching_ratio:
        with pytest.raises(TtsEvalError, match=r"times=.* a number above 1"):
            call(wrong, 16, V1)
        with pytest.raises(TtsEvalError, match="times=1 "):
            call(1.0, 16, V1)


def test_shape_of_the_shipped_base() -> None:
    """A layer: q and o 64x64, k and v 64x32, three of 64x170, two norms; around them 134x64, tied, and a norm."""
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 170 + 2 * 64
    config = json.loads((Path(resolve("micromath/base")) / "config.json").read_text())
    assert model_shape(config, 4 * layer + 134 * 64 + 64) == BASE
    assert forward_flops(BASE, 7, 100) == 7 * TOKEN
    assert kv_bytes(BASE, 7, 100) == 7 * 100 * (2 * 4 * 2 * 16 * 4)
    assert eflops(3.0, 4.0) == 3.0 + 562.5 * 4


@pytest.mark.parametrize("tied", [True, False])
def test_shape_gives_what_a_model_computes(tied: bool) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 300, "head_dim": 32}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(**sizes, **heads, tie_word_embeddings=tied, attn_implementation="eager")
    model = LlamaForCausalLM(config).eval()
    shape = model_shape(json.loads(config.to_json_string()), model.num_parameters())
    assert shape.lookup == (0 if tied else model.get_input_embeddings().weight.numel())
    length = 200
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        cache = model(torch.arange(length)[None]).past_key_values
    # Without a fused kernel every token is multiplied with all, those after it included.
    assert forward_flops(shape, length, length) == pytest.approx(counter.get_total_flops(), rel=0.005)
    held = sum(
        part.numel() * part.element_size() for layer in cache.layers for part in (layer.keys, layer.values)
    )
    assert kv_bytes(replace(shape, bytes_per_value=4), 1, length) == held


CONFIG = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "vocab_size": 10}


def test_what_a_config_leaves_out() -> None:
    assert model_shape(CONFIG, 1000) == ModelShape(1000, 0, 2, 4, 4, 16, 2)
    untied = model_shape(CONFIG | {"tie_word_embeddings": False, "torch_dtype": "float32"}, 1000)
    assert (untied.matmul_parameters, untied.bytes_per_value) == (1000 - 640, 4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_experts_per_tok": 2}, "config.json is that of a mixture of experts: FLOPs are known"),
        ({"hidden_size": "wide"}, 'config.json.hidden_size must be an integer, not "wide": FLOPs are known'),
        ({"text_config": CONFIG}, "config.json.num_hidden_layers is missing: FLOPs are known"),
    ],
)
def test_other_shapes_are_refused(change: dict[str, Any], said: str) -> None:
    config = change if "text_config" in change else CONFIG | change
    with pytest.raises(TtsEvalError) as error:
        model_shape(config, 1000)
    assert str(error.value).startswith(said) and str(error.value).endswith("compare tokens or seconds instead")


def test_one_chain_costs_what_kinetics_says() -> None:
    """Its C_TTS for one trial: 2 P L + (2 r L_in D L + r D L^2) + I (2 L_in D L + D L^2), in 16 bits."""
    prompt, written, r = 150, 4000, 2
    shape = ModelShape(752_000_000, lookup=0, layers=28, heads=16, kv_heads=8, head_dim=128, bytes_per_value=2)
    size = 2 * 28 * 8 * 128  # D: values of a token's keys and values
    pairs = 2 * prompt * size * written + size * written**2
    expected = 2 * shape.parameters * written + r * pairs + 562.5 * pairs
    context = prompt + written / 2
    found = eflops(forward_flops(shape, written, context), kv_bytes(shape, written, context))
    assert found == pytest.approx(expected)


def test_ledger_by_hand() -> None:
    usage = Usage(
        prefill_tokens=10, decode_tokens=50, verifier_tokens=20, reused_tokens=37, verifier_reused_tokens=30
    )
    verifier = replace(BASE, parameters=BASE.parameters + 50)
    found = ledger_flops(usage, BASE, verifier, 100)
    scored = TOKEN + 100
    assert (found.prefill, found.decode, found.verifier) == (10 * TOKEN, 50 * TOKEN, 20 * scored)
    assert found.total == 60 * TOKEN + 20 * scored
    assert found.uncached == 67 * TOKEN + 50 * scored  # 7 of the reused tokens were the policy's
    assert found.kv_bytes == 50 * 100 * 1024
    assert found.eflops == found.total + 562.5 * 50 * 100 * 1024


def test_ledger_without_a_verifier() -> None:
    found = ledger_flops(Usage(prefill_tokens=10, decode_tokens=50, reused_tokens=5), BASE, None, 100)
    assert (found.verifier, found.total, found.uncached) == (0.0, 60 * TOKEN, 65 * TOKEN)


def test_what_the_ledger_cannot_tell() -> None:
    unknown = ledger_flops(Usage(prefill_tokens=10, decode_tokens=50, verifier_tokens=20), BASE, None, 100)
    assert (unknown.verifier, unknown.total, unknown.uncached, unknown.eflops) == (None, None, None, None)
    assert (unknown.decode, unknown.kv_bytes) == (50 * TOKEN, 50 * 100 * 1024)
    text_only = ledger_flops(Usage(prefill_tokens=None, decode_tokens=None, reused_tokens=None), BASE, None, 100)
    assert (text_only.prefill, text_only.decode, text_only.total, text_only.kv_bytes) == (None, None, None, None)
    uncounted = ledger_flops(Usage(prefill_tokens=10, reused_tokens=None), BASE, None, 100)
    assert (uncounted.total, uncounted.uncached) == (10 * TOKEN, None)
