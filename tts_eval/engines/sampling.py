"""Drawing tokens with randomness that is keyed, not shared.

A row's random numbers depend on (run seed, problem uid, path in the search tree) alone, so a solution is the same
whether its problem runs by itself, in any batch, after a resume or on another rank.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def keyed_generator(seed: int, uid: str, path: tuple[int, ...]) -> np.random.Generator:
    """The stream of uniforms that belongs to one node of one problem's search tree.

    Args:
        seed: The run's seed.
        uid: The problem's uid.
        path: Child index at every branching from the root.

    Returns:
        A counter-based generator (Philox); its t-th uniform chooses the t-th token below the node.
    """
    return np.random.Generator(np.random.Philox(key=keyed_int(seed, uid, path, bits=128)))


def keyed_int(seed: int, uid: str, path: tuple[int, ...], *, bits: int) -> int:
    """A number that depends on the key alone, for engines with seeds of their own; `bits` is a multiple of 8."""
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
