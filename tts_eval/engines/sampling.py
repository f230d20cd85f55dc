"""Drawing tokens with randomness that is keyed, not shared.

A row's random numbers depend on (run seed, problem uid, path in the search tree) alone, so a solution is the same
whether its problem runs by itself, in any batch, after a resume or on another rank.
"""

from __future__ import annotations

import hashlib
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


def keyed_int(seed: int, uid: str, path: tuple[int, ...], *, bits: int = 64) -> int:
    """A number that belongs to one node of one problem's search tree, and depends on nothing else.

    Args:
        seed: The run's seed.
        uid: The problem's uid.
        path: Child index at every branching from the root.
        bits: A multiple of 8.
    """
    key = f"{seed}\x1f{uid}\x1f{','.join(map(str, path))}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=bits // 8).digest(), "big")


def draw(logits: torch.Tensor, temperatures: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws one token a row by inverting the cumulative distribution at the row's uniform.

    Args:
        logits: [rows, vocabulary], any float type.
        temperatures: [rows] float64; 0 takes the most likely token.
        uniforms: [rows] float64 in [0, 1).

    Returns:
        Token ids [rows] int64, and their log-probabilities [rows] float64 at temperature 1.
    """
    logits = logits.double()  # float32 sums over a large vocabulary are off by enough to move a draw
    warm = temperatures > 0
    scaled = logits / torch.where(warm, temperatures, 1.0)[:, None]
    cumulative = scaled.softmax(-1).cumsum(-1)  # [rows, vocabulary]
    targets = uniforms[:, None] * cumulative[:, -1:]
    sampled = torch.searchsorted(cumulative, targets, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
    tokens = torch.where(warm, sampled, logits.argmax(-1))
    logprobs = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
    return tokens, logprobs
