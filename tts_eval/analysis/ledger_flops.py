"""The ledger in FLOPs: what a run really computed, from the shapes of its models (beside Snell et al. 2024, section 5).

The paper's accountings (`tts_eval.analysis.flops`) know generated tokens and parameters only. Here every token counts
that was read or written, with attention, for policy and verifier each with its own shape, as computed and as without a
cache.
Kinetics (Sadhukhan et al. 2025, arXiv 2506.05333) adds the keys and values that decoding moves: eFLOPs.

What is left out: softmax, norms and activations, sampling, and reading the weights, which large batches share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tts_eval.schema import from_json
from tts_eval.types import TtsEvalError, Usage


INTENSITY = 562.5
"""FLOPs that Kinetics charges for a byte moved: what an NVIDIA B200 computes in the time.

That is 4.5 PFLOP/s over 8 TB/s, the GPU's peak in 8 bits, or in 16 with sparsity; dense in 16 it would be half.
"""

_BYTES = {"float64": 8, "float32": 4}


@dataclass(frozen=True)
class ModelShape:
    """What the cost of a token depends on, in a dense transformer whose layers all attend to everything before.

    Attributes:
        parameters: All parameters, a tied matrix once.
        lookup: Those of `parameters` that a token only looks up: the input embedding, unless the output head is tied to
            it. Looking up costs nothing.
        layers: Number of layers.
        heads: Query heads a layer.
        kv_heads: Heads of keys and values a layer.
        head_dim: Values in one head.
        bytes_per_value: Of keys and values in the cache.
    """

    parameters: int
    lookup: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    bytes_per_value: int

    @property
    def matmul_parameters(self) -> int:
        """The parameters that a token is multiplied with: each costs it one multiplication and one addition.

        The output head is among them, tied or not, and for tokens that are read too, as in the usual 2 N. That is too
        much where an engine computes no logits of a prompt, and for a verifier with a head of its own on a tied trunk.
        """
        return self.parameters - self.lookup


@dataclass(frozen=True)
class _Config:
    """What we read of a config.json, under Hugging Face's names."""

    num_hidden_layers: int
    num_attention_heads: int
    hidden_size: int
    vocab_size: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    tie_word_embeddings: bool | None = None
    num_experts_per_tok: int | None = None
    dtype: str | None = None
    torch_dtype: str | None = None


def model_shape(config: Mapping[str, Any], parameters: int) -> ModelShape:
    """Reads the shape of a model.

    Args:
        config: Its `config.json`. Without `num_key_value_heads` there are as many as query heads; without `head_dim`
            the heads share `hidden_size`; without `tie_word_embeddings` they are tied (files of transformers before 5
            leave out what is true). The cache has the weights' type, two bytes a value unless that is a wider one.
        parameters: All of its parameters, a tied matrix once.

    Raises:
        TtsEvalError: If the file doesn't describe one plain dense transformer.
    """
    try:
        read: _Config = from_json(_Config, dict(config), "config.json")
    except TtsEvalError as error:
        raise _unknown(str(error)) from error
    if read.num_experts_per_tok is not None:
        raise _unknown("config.json is that of a mixture of experts")
    tied = read.tie_word_embeddings is not False
    return ModelShape(
        parameters=parameters,
        lookup=0 if tied else read.vocab_size * read.hidden_size,
        layers=read.num_hidden_layers,
        heads=read.num_attention_heads,
        kv_heads=read.num_key_value_heads or read.num_attention_heads,
        head_dim=read.head_dim or read.hidden_size // read.num_attention_heads,
        bytes_per_value=_BYTES.get(read.dtype or read.torch_dtype or "", 2),
    )


def _unknown(what: str) -> TtsEvalError:
    return TtsEvalError(f"{what}: FLOPs are known for plain dense transformers only; compare tokens or seconds instead")


def forward_flops(shape: ModelShape, tokens: float, context: float) -> float:
    """FLOPs of reading or writing tokens: either takes a token through the model once.

    Args:
        shape: The model's.
        tokens: How many.
        context: How many tokens each attends to, itself included, on average.
    """
    attention = 4 * shape.layers * shape.heads * shape.head_dim * context  # 2 for each value of Q K^T, 2 for A V
    return tokens * (2 * shape.matmul_parameters + attention)


def kv_bytes(shape: ModelShape, tokens: float, context: float) -> float:
    """Bytes of keys and values that writing tokens reads from the cache: each token all those that it attends to.

    Kinetics has the parallel samples of a problem share one reading of their prompt; here each sample reads it.

    Args:
        shape: The model's.
        tokens: How many are written.
        context: See `forward_flops`.
    """
    per_token = 2 * shape.layers * shape.kv_heads * shape.head_dim * shape.bytes_per_value
    return tokens * context * per_token


def eflops(flops: float, moved: float) -> float:
    """Kinetics' equivalent FLOPs: computation, and what could have been computed while keys and values were moved.

    The two are added, as if neither hid behind the other.

    Args:
        flops: Of all computation.
        moved: Bytes of keys and values (see `kv_bytes`).
    """
    return flops + INTENSITY * moved


@dataclass(frozen=True)
class LedgerFlops:
    """A ledger in FLOPs. None stands for what the ledger or the shapes can't tell.

    Attributes:
        prefill: Of prompts and prefixes that the policy read.
        decode: Of what the policy wrote, lookahead and probes included.
        verifier: Of what the verifier read.
        total: Of the three together.
        uncached: What they would be together if nothing had been served from a cache.
        kv_bytes: Bytes of keys and values moved by the policy's decoding. Reading moves few: its tokens share them.
        eflops: Of `total` and `kv_bytes` (see `eflops`).
    """

    prefill: float | None
    decode: float | None
    verifier: float | None
    total: float | None
    uncached: float | None
    kv_bytes: float | None
    eflops: float | None


def ledger_flops(usage: Usage, policy: ModelShape, verifier: ModelShape | None, context: float) -> LedgerFlops:
    """Turns a ledger of tokens into FLOPs.

    Args:
        usage: Of one problem, or the sum over many.
        policy: Shape of the policy.
        verifier: Shape of the verifier; None where there is none, or where its shape isn't known.
        context: How many tokens a token attends to, itself included, on average over all that were read and written:
            for solutions that were sampled whole, about the prompt's length and half the solution's.
    """
    prefill = _forward(policy, usage.prefill_tokens, context)
    decode = _forward(policy, usage.decode_tokens, context)
    scoring = _forward(verifier, usage.verifier_tokens, context)
    total = _sum(prefill, decode, scoring)
    whole, of_verifier = usage.reused_tokens, usage.verifier_reused_tokens
    of_policy = None if whole is None or of_verifier is None else whole - of_verifier
    saved = _forward(policy, of_policy, context), _forward(verifier, of_verifier, context)
    moved = None if usage.decode_tokens is None else kv_bytes(policy, usage.decode_tokens, context)
    return LedgerFlops(
        prefill=prefill,
        decode=decode,
        verifier=scoring,
        total=total,
        uncached=_sum(total, *saved),
        kv_bytes=moved,
        eflops=None if total is None or moved is None else eflops(total, moved),
    )


def _forward(shape: ModelShape | None, tokens: int | None, context: float) -> float | None:
    if tokens is None or (shape is None and tokens > 0):
        return None
    return 0.0 if shape is None else forward_flops(shape, tokens, context)


def _sum(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
