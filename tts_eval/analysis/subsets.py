"""Random subsets of a problem's candidates or chains: they depend on that problem and on nothing else."""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from tts_eval.analysis.pools import Pool
from tts_eval.selection import Integers


def subset_key(seed: int, pool: Pool) -> int:
    """What decides a pool's subsets: the seed of the analysis, that of the run, and the problem."""
    return int.from_bytes(hashlib.sha256(f"{seed} {pool.seed} {pool.uid}".encode()).digest()[:16], "big")


@functools.lru_cache(maxsize=1)  # Size after size asks for the same problem's: a prefix of a shuffle is a subset.
def permutations(key: int, n: int, count: int) -> Integers:
    """Shuffles 0 .. n-1 so many times, [count, n]."""
    return np.random.default_rng(key).permuted(np.tile(np.arange(n), (count, 1)), axis=1)
