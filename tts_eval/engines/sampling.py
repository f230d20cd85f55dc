"""Drawing tokens with randomness that is keyed, not shared.

A row's random numbers depend on (run seed, problem uid, path in the search tree) alone, so a solution is the same
whether its problem runs by itself, in any batch, after a resume or on another rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray


def uniforms(keys: Sequence[int], draws: Sequence[int]) -> NDArray[np.float64]:
    """Takes one number from each of many streams at once: SplitMix64 (Steele, Lea and Flood 2014), which is a counter.

    NumPy's own counter-based generators serve one stream at a time, and a batch has hundreds.

    Args:
        keys: Which streams, as 64-bit numbers, [rows].
        draws: Which number of each, from 0, [rows].

    Returns:
        [rows] in [0, 1).
    """
    count = np.array(draws, dtype=np.uint64) + np.uint64(1)
    z = np.array(keys, dtype=np.uint64) + count * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)) * 2.0**-53)


def draw(logits: torch.Tensor, temperatures: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws one token a row by inverting the cumulative distribution at the row's uniform.

    Args:
        logits: [rows, vocabulary], any float type.
        temperatures: [rows] float64; 0 takes the most likely token.
        uniforms: [rows] float64 in [0, 1).

    Returns:
        Token ids [rows] int64, and their log-probabilities [rows] float64 at temperature 1.
    """
    logits = logits.float()
    warm = temperatures > 0
    divisors = torch.where(warm, temperatures, 1.0).float()[:, None]  # [rows, 1]
    tokens = _invert((logits / divisors).softmax(-1), uniforms)
    if not warm.all():
        tokens = torch.where(warm, tokens, logits.argmax(-1))
    # Not by `exp`, which computes the last few numbers of a tensor otherwise than the rest: rows would see each other.
    logprobs = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    return tokens, logprobs.double()


_BLOCK = 256


def _invert(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Finds the entry of each row up to which a share of its weights lies: first the block of entries, then in it.

    A float32 sum over a large vocabulary is off by enough to move a draw, and float64 throughout takes several times as
    long.

    Args:
        weights: [rows, vocabulary].
        uniforms: [rows] float64 in [0, 1).

    Returns:
        [rows] int64.
    """
    rows, vocabulary = weights.shape
    size = min(vocabulary, _BLOCK)
    if vocabulary % size:
        weights = torch.nn.functional.pad(weights, (0, -vocabulary % size))
    blocks = weights.view(rows, -1, size)
    sums = blocks.sum(-1).double()  # [rows, blocks]
    ends = sums.cumsum(-1)
    targets = uniforms[:, None] * ends[:, -1:]
    block = _first_above(ends, targets)  # [rows, 1]
    # The share of the block, not its weight: the sum below is another than the block's in the last digits.
    share = 1 - (ends.gather(1, block) - targets) / sums.gather(1, block)
    inside = blocks[torch.arange(rows, device=block.device), block[:, 0]].double().cumsum(-1)  # [rows, size]
    return (block * size + _first_above(inside, share * inside[:, -1:]))[:, 0]


def _first_above(ends: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Index of the first of ascending values that lies above the target, [rows, 1]; at most the last."""
    return torch.searchsorted(ends, targets, right=True).clamp_(max=ends.shape[1] - 1)
