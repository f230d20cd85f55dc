"""What keys all randomness. Apart from drawing tokens, since engines that draw none do without torch."""

from __future__ import annotations

import hashlib


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
