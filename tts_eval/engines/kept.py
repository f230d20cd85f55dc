"""Keys and values of prefixes that a search may go on from: what was read or written once isn't read again."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Node:
    """A stretch of a sequence, and the node that holds what comes before it; many nodes may share that one.

    Attributes:
        before: None where the stretch begins the sequence.
        kv: Keys and values of the stretch, [2 x layers, heads, tokens, dim].
    """

    before: Node | None
    kv: torch.Tensor

    def stretches(self) -> list[torch.Tensor]:
        """All stretches up to this one, the first first."""
        return [*(self.before.stretches() if self.before else ()), self.kv]


class KeptPrefixes:
    """The living prefixes of every search, by the ticket of the search and their tokens.

    A prefix that is no longer alive goes, and with it whatever no living one shares. Should the rest need more than the
    limit, the searches that were idle for the longest lose theirs, which costs them time and nothing else.

    Args:
        limit: Bytes.
    """

    def __init__(self, limit: float):
        self._limit = limit
        self._searches: OrderedDict[int, dict[tuple[int, ...], Node]] = OrderedDict()
        self.size = 0

    def find(self, ticket: int, tokens: tuple[int, ...]) -> Node | None:
        """What is kept of a prefix."""
        return self._searches.get(ticket, {}).get(tokens)

    def node(self, before: Node | None, kv: torch.Tensor) -> Node:
        """Makes a node, which counts for as long as something refers to it."""
        node = Node(before, kv)
        self.size += kv.nbytes
        weakref.finalize(node, self._freed, kv.nbytes).atexit = False
        return node

    def keep(self, ticket: int, tokens: tuple[int, ...], node: Node) -> None:
        """Keeps a prefix until it is no longer alive or memory is short."""
        self._searches.setdefault(ticket, {})[tokens] = node
        self._searches.move_to_end(ticket)
        while self.size > self._limit and self._searches:
            self._searches.popitem(last=False)

    def retain(self, ticket: int, alive: Iterable[tuple[int, ...]]) -> None:
        """Drops all prefixes of a search but those that are alive."""
        kept = self._searches.get(ticket)
        if kept:
            self._searches[ticket] = {tokens: kept[tokens] for tokens in alive if tokens in kept}
            self._searches.move_to_end(ticket)

    def drop(self, ticket: int) -> None:
        """Drops all prefixes of a search."""
        self._searches.pop(ticket, None)

    def clear(self) -> None:
        """Drops everything."""
        self._searches.clear()

    def _freed(self, size: int) -> None:
        self.size -= size
