"""What makes a row of a batch compute the very numbers that it would compute alone, and the check that it does."""

from __future__ import annotations

import sys
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from tts_eval.engines.rows import RowCache
from tts_eval.engines.summation import fix_order
from tts_eval.types import TtsEvalError


fix_order()


def row_cache(model: Any) -> RowCache:
    """An empty cache for rows of a transformers causal language model."""
    config = model.config.get_text_config()
    # `eager` attention adds its mask to the scores; `sdpa` and its kin take truth values.
    additive = config._attn_implementation == "eager"
    return RowCache(config, additive=additive, least_rows=_least_rows(model), spare_rows=_spare_rows(model))


def read_sequence(model: Any, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Runs the model over one sequence.

    Args:
        model: A transformers causal language model.
        ids: At least one token.

    Returns:
        Keys and values, [2 x layers, heads, tokens, dim], and the logits of the next token, [1, vocabulary].

    Raises:
        RuntimeError: If its layers' keys and values are not of one shape.
    """
    # All of it is kept, also in layers with a sliding window: the rows' masks see to those.
    cache = Cache(layer_class_to_replicate=DynamicLayer)
    inputs = torch.tensor([ids], device=model.device)  # [1, tokens]
    output = model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    kv = [states[0].to(model.device) for layer in cache.layers for states in (layer.keys, layer.values)]
    return torch.stack(kv), output.logits[:, -1]


@torch.inference_mode()
def require_exact_rows(model: Any, context: int) -> None:
    """Reads two sequences as rows of one batch and each by itself; the logits must be the same.

    Some architectures take the last column for a row's own position, whatever the mask says. Better to find out now
    than to sample nonsense.

    Raises:
        TtsEvalError: If they differ by more than rounding, or would in a context so long, or the model takes no such
            batch at all.
    """
    most = most_rotated(model)
    if context > most:
        raise TtsEvalError(
            f"{type(model).__name__} reads all rows of a batch otherwise once one of them has more than {most} tokens "
            f"(its RoPE is longrope or dynamic): give max_length={most} in --model_args"
        )
    vocabulary = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    # Their lengths differ by more than the local windows that such architectures have.
    lengths = (3, min(300, context - 1))
    sequences = [torch.randint(vocabulary, (length + 1,), generator=generator).tolist() for length in lengths]
    try:
        cache = row_cache(model)
        for *ids, _ in sequences:
            cache.join([read_sequence(model, ids)[0]], 1)
        inputs = cache.begin_step([ids[-1] for ids in sequences], model.device)
        found = model(**inputs).logits[:2, -1]
        expected = torch.cat([read_sequence(model, ids)[1] for ids in sequences])
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise TtsEvalError(f"{type(model).__name__} can't be batched row by row: {error}") from error
    if expected.isnan().any():
        return  # nothing to compare; sampling from it says what is wrong
    off = (found.double() - expected.double()).square().mean(-1).sqrt() / expected.double().std(-1)  # [2]
    # By what was tried: up to 0.05 in half precision and nothing in float32 where all is well, 0.3 where it is not.
    if not off.max() < (0.02 if found.dtype == torch.float32 else 0.1):
        raise TtsEvalError(f"{type(model).__name__} reads rows of different lengths in one batch wrongly")


def most_rotated(model: Any) -> int:
    """Longest row that is rotated by its own length: beyond it keys of all rows may be rotated by that of the longest.

    Returns:
        Tokens; `sys.maxsize` for a RoPE that looks at no length.
    """
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}  # absent where nothing is rotated
    found = [sys.maxsize]
    # One for all layers, or one for each kind of layer.
    for parameters in (rope, *(inner for inner in rope.values() if isinstance(inner, dict))):
        kind = parameters.get("rope_type", "default")
        if kind == "longrope":
            found.append(parameters["original_max_position_embeddings"])
        elif "dynamic" in kind:
            found.append(config.max_position_embeddings)
    return min(found)


def _least_rows(model: torch.nn.Module) -> int:
    """Fewest rows for which a row's results don't depend on how many there are.

    As found by trying MKL's float32 kernels: they treat products of less than 4 rows apart, and where the result has
    less than 32 columns (a tiny vocabulary) also those with less rows than columns.
    """
    narrowest = min((m.out_features for m in model.modules() if isinstance(m, torch.nn.Linear)), default=32)
    return 4 if narrowest >= 32 else 32


def _spare_rows(model: torch.nn.Module) -> int:
    """How many rows take up what is computed otherwise at the end of a tensor.

    torch's activation functions treat 32 numbers at a time, and what is left over at the very end one by one, which
    may differ in the last digit. Where a row's width is no multiple of 32, some of what is left over is the last row's.
    """
    return int(any(m.out_features % 32 for m in model.modules() if isinstance(m, torch.nn.Linear)))
