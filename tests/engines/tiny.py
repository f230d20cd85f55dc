"""A tiny random model that speaks single characters, and the simplest correct way to sample from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tts_eval.engines.hf import HFEngine
from tts_eval.engines.keys import keyed_int
from tts_eval.engines.sampling import draw, uniforms
from tts_eval.types import Decoding, Engine, Prefix, Problem, Sample, Usage


ALPHABET = "abcdefgh .\n"
END = len(ALPHABET)
CONTEXT = 96


def tiny_model(seed: int = 0) -> LlamaForCausalLM:
    """Two layers, grouped heads, float64: sums in another order then differ by 1e-15, too little to move a draw."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=END + 1,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.4,
        eos_token_id=END,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).double().eval()


def encode(text: str) -> list[int]:
    return [ALPHABET.index(character) for character in text]


def decode(ids: Sequence[int]) -> str:
    return "".join(ALPHABET[token] for token in ids if token != END)


def tiny_engine(
    model: LlamaForCausalLM,
    decoding: Decoding | None = None,
    max_rows: int | None = None,
    kept_bytes: int | None = None,
) -> HFEngine:
    return HFEngine(
        model,
        encode=encode,
        decode=decode,
        end_tokens=[END],
        special_tokens={},
        context=CONTEXT,
        decoding=decoding or Decoding(temperature=1.0, step_delimiter="\n"),
        max_rows=max_rows,
        kept_bytes=kept_bytes,
    )


def run(engine: Engine, requests: Sequence[tuple[Problem, Sample]]) -> list[tuple[tuple[Prefix, ...], Usage]]:
    """Submits everything at once and polls until all is answered."""
    answered = {}
    for ticket, (problem, request) in enumerate(requests):
        engine.submit(ticket, problem, request)
    while len(answered) < len(requests):
        for ticket, reply, usage in engine.poll():
            answered[ticket] = (reply, usage)
    return [answered[ticket] for ticket in range(len(requests))]


def naive_tokens(
    model: LlamaForCausalLM, prompt: str, uid: str, path: tuple[int, ...], decoding: Decoding, count: int
) -> tuple[list[int], list[float]]:
    """Samples `count` tokens one by one, the whole sequence read anew for each: no batch, no cache, no stopping."""
    key = keyed_int(decoding.seed, uid, path)
    ids = encode(prompt)
    tokens, logprobs = [], []
    for drawn in range(count):
        with torch.no_grad():
            logits = model(torch.tensor([ids]), use_cache=False).logits[:, -1]
        temperature = torch.tensor([decoding.temperature], dtype=torch.float64)
        token, logprob = draw(logits, temperature, torch.from_numpy(uniforms([key], [drawn])))
        tokens.append(int(token))
        logprobs.append(float(logprob))
        ids = [*ids, int(token)]
    return tokens, logprobs
