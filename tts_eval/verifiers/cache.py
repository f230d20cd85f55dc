"""What a verifier has read: keys, values and outputs of every token, in a tree in which sequences share beginnings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch


@dataclass(slots=True, eq=False)
class _Stretch:
    """Tokens between two forks of the tree.

    Attributes:
        ids: The tokens; empty at the root.
        kv: Their keys and values, [2 x layers, heads, tokens, dim].
        outputs: [tokens, outputs].
        parent: The stretch before; None at the root.
        children: The stretches after, by their first token.
    """

    ids: tuple[int, ...] = ()
    kv: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    outputs: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    parent: _Stretch | None = None
    children: dict[int, _Stretch] = field(default_factory=dict)

    def part(self, start: int, end: int) -> tuple[tuple[int, ...], torch.Tensor, torch.Tensor]:
        """Some of its tokens, with memory of their own."""
        return self.ids[start:end], self.kv[:, :, start:end].clone(), self.outputs[start:end].clone()


@dataclass(frozen=True, slots=True)
class Known:
    """The longest beginning of a sequence that has been read.

    Attributes:
        length: In tokens.
        kv: Keys and values, stretch by stretch, each [2 x layers, heads, tokens, dim].
        outputs: Stretch by stretch, each [tokens, outputs].
    """

    length: int
    kv: list[torch.Tensor]
    outputs: list[torch.Tensor]

    def kv_until(self, end: int) -> list[torch.Tensor]:
        """Keys and values of the first `end` tokens."""
        if end == self.length:
            return self.kv
        kept = []
        for stretch in self.kv:
            kept.append(stretch if stretch.shape[2] <= end else stretch[:, :, :end])
            end = max(0, end - stretch.shape[2])
        return kept


class PrefixTree:
    """A radix tree over token ids that forgets what has not been asked for the longest.

    Args:
        limit: Bytes that it may keep. What doesn't fit is read again when it is needed, which only costs time.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._root = _Stretch()
        # The least recently used first. A use puts a stretch behind those that extend it, so the first is a leaf.
        self._order: OrderedDict[_Stretch, None] = OrderedDict()
        self.size = 0

    def find(self, ids: Sequence[int]) -> Known:
        """Finds the longest known beginning of a sequence."""
        path, length = self._walk(ids)
        kv, outputs = [stretch.kv for stretch in path], [stretch.outputs for stretch in path]
        beyond = sum(len(stretch.ids) for stretch in path) - length
        if beyond:  # the last stretch goes on otherwise
            kv[-1], outputs[-1] = kv[-1][:, :, :-beyond], outputs[-1][:-beyond]
        for stretch in reversed(path):
            self._order.move_to_end(stretch)
        return Known(length, kv, outputs)

    def add(self, ids: tuple[int, ...], start: int, kv: torch.Tensor, outputs: torch.Tensor) -> None:
        """Keeps what was read of a sequence.

        Args:
            ids: The whole sequence.
            start: How many of its tokens were known; if those have been forgotten meanwhile nothing is kept.
            kv: Keys and values of the others, [2 x layers, heads, new, dim].
            outputs: Theirs, [new, outputs].
        """
        path, length = self._walk(ids)
        if length < start or length == len(ids):
            return
        parent = path[-1] if path else self._root
        matched = length - sum(len(stretch.ids) for stretch in path[:-1])
        if matched < len(parent.ids):
            parent = self._split(parent, matched)
        new = length - start
        leaf = _Stretch(ids[length:], kv[:, :, new:].clone(), outputs[new:].clone(), parent)
        parent.children[leaf.ids[0]] = leaf
        self._count(leaf, 1)
        above: _Stretch | None = leaf
        while above is not None and above is not self._root:
            self._order[above] = None
            self._order.move_to_end(above)
            above = above.parent
        while self.size > self._limit:
            self._forget(next(iter(self._order)))

    def clear(self) -> None:
        """Forgets everything."""
        self._root = _Stretch()
        self._order.clear()
        self.size = 0

    def _walk(self, ids: Sequence[int]) -> tuple[list[_Stretch], int]:
        """The stretches that match the sequence, the last perhaps in part, and how many tokens match."""
        path: list[_Stretch] = []
        stretch, length = self._root, 0
        while length < len(ids) and ids[length] in stretch.children:
            stretch = stretch.children[ids[length]]
            path.append(stretch)
            count = common_length(stretch.ids, ids[length : length + len(stretch.ids)])
            length += count
            if count < len(stretch.ids):
                break
        return path, length

    def _split(self, stretch: _Stretch, at: int) -> _Stretch:
        """Cuts a stretch in two and returns the upper part."""
        assert stretch.parent is not None
        self._count(stretch, -1)
        upper = _Stretch(*stretch.part(0, at), stretch.parent, {stretch.ids[at]: stretch})
        stretch.parent.children[upper.ids[0]] = upper
        stretch.ids, stretch.kv, stretch.outputs = stretch.part(at, len(stretch.ids))
        stretch.parent = upper
        self._count(upper, 1)
        self._count(stretch, 1)
        return upper

    def _forget(self, leaf: _Stretch) -> None:
        assert leaf.parent is not None and not leaf.children
        del leaf.parent.children[leaf.ids[0]], self._order[leaf]
        self._count(leaf, -1)

    def _count(self, stretch: _Stretch, sign: int) -> None:
        self.size += sign * (stretch.kv.nbytes + stretch.outputs.nbytes)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return next(index for index in range(shorter) if one[index] != other[index])
