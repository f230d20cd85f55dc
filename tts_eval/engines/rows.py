"""The KV cache of the rows that decode together, written in place.

Rows are right-aligned in one block a layer, so that all of them write their next token in the same column:

    column   start                 stop
    row 0      . . p p p p p t t t |        p prompt, t sampled, . masked
    row 1      p p p p p p p p t t |
    row 2      . . . . p p p p p t |        (joined last)

A row joins by copying its prompt's keys and values to the columns before `stop`, and leaves by giving its place to the
last row. Nothing is concatenated from step to step, and nothing else moves unless the block must grow.
"""

from __future__ import annotations

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer


LayerKV = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer for one sequence: each [heads, tokens, dim]."""

_COLUMNS_AHEAD = 64


class _Window:
    """Which part of the blocks is in use: rows [0, count), columns [start, stop)."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.start = 0
        self.stop = 0


class _Layer(CacheLayerMixin):
    """One layer's block; `keys` and `values` are [row capacity, heads, column capacity, dim]."""

    is_sliding = False

    def __init__(self, window: _Window):
        super().__init__()
        self.window = window

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise NotImplementedError("blocks are made when the first row joins")

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes one new column, [rows, heads, 1, dim], and returns the window, [rows, heads, columns, dim]."""
        assert self.keys is not None and self.values is not None
        rows, column = len(self.window.lengths), self.window.stop
        self.keys[:rows, :, column] = key_states[:, :, 0]
        self.values[:rows, :, column] = value_states[:, :, 0]
        columns = slice(self.window.start, column + 1)
        return self.keys[:rows, :, columns], self.values[:rows, :, columns]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.window.stop - self.window.start

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):
    """A transformers cache for rows that come and go.

    Use: `join` rows; then for every step `begin_step`, the model's forward pass with this cache, `end_step`. After an
        out-of-memory
    error the cache is unusable: make a new one and let its rows join again.
    """

    def __init__(self, layer_count: int):
        self._window = _Window()
        self._blocks = [_Layer(self._window) for _ in range(layer_count)]
        super().__init__(layers=list(self._blocks))

    @property
    def row_count(self) -> int:
        """Rows in the cache."""
        return len(self._window.lengths)

    def begin_step(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Makes room for one more token a row.

        Returns:
            The attention mask [rows, columns + 1] int64, each row's own new token included, and the positions [rows, 1]
            int64 of the new tokens.
        """
        self._make_room(self.row_count, 0)
        width = self._window.stop - self._window.start + 1
        lengths = torch.tensor(self._window.lengths, device=device)[:, None]
        return (torch.arange(width, device=device) >= width - 1 - lengths).long(), lengths

    def end_step(self) -> None:
        """Says that every row has written one token."""
        self._window.stop += 1
        self._window.lengths = [length + 1 for length in self._window.lengths]

    def join(self, kv: list[LayerKV], copies: int) -> None:
        """Adds `copies` rows that all start from the same sequence.

        Args:
            kv: Its keys and values, layer by layer.
            copies: How many rows.
        """
        length = kv[0][0].shape[1]
        first = self.row_count
        self._make_room(first + copies, length, kv)
        window = self._window
        for block, (keys, values) in zip(self._blocks, kv, strict=True):
            assert block.keys is not None and block.values is not None
            block.keys[first : first + copies, :, window.stop - length : window.stop] = keys
            block.values[first : first + copies, :, window.stop - length : window.stop] = values
        window.lengths += [length] * copies
        window.start = window.stop - max(window.lengths)

    def leave(self, row: int) -> None:
        """Removes a row; the last row takes its place, so the caller must move its own books likewise."""
        window = self._window
        last = self.row_count - 1
        if row != last:
            columns = slice(window.stop - window.lengths[last], window.stop)
            for block in self._blocks:
                assert block.keys is not None and block.values is not None
                block.keys[row, :, columns] = block.keys[last, :, columns]
                block.values[row, :, columns] = block.values[last, :, columns]
            window.lengths[row] = window.lengths[last]
        window.lengths.pop()
        window.start = window.stop - max(window.lengths, default=0)

    def _make_room(self, rows: int, length: int, like: list[LayerKV] | None = None) -> None:
        """Makes sure that `rows` rows fit, a joining one of `length` tokens among them, and the next column exists.

        `like` gives shapes and type to the first blocks.
        """
        window = self._window
        width = max(length, window.stop - window.start)
        old_rows, old_columns = self._capacity()
        if rows <= old_rows and window.stop < old_columns and length <= window.stop:
            return
        # Small steps: what is copied now and then costs less than memory that stays empty.
        new_rows = old_rows if rows <= old_rows else max(rows, old_rows + old_rows // 4)
        new_columns = width + _COLUMNS_AHEAD
        for index, block in enumerate(self._blocks):
            source = like[index] if like else (block.keys[0], block.values[0])
            block.keys = self._grown(block.keys, source[0], new_rows, new_columns, width)
            block.values = self._grown(block.values, source[1], new_rows, new_columns, width)
        window.start, window.stop = width - (window.stop - window.start), width

    def _capacity(self) -> tuple[int, int]:
        keys = self._blocks[0].keys
        return (0, 0) if keys is None else (keys.shape[0], keys.shape[2])

    def _grown(self, old: torch.Tensor | None, like: torch.Tensor, rows: int, columns: int, stop: int) -> torch.Tensor:
        # Zeros, not empty: a masked column weighs nothing, but nothing times NaN is NaN.
        block = like.new_zeros(rows, like.shape[0], columns, like.shape[2])
        if old is not None:
            window = self._window
            used = slice(window.start, window.stop)
            block[: self.row_count, :, stop - (window.stop - window.start) : stop] = old[: self.row_count, :, used]
        return block


def sequence_cache() -> Cache:
    """An empty cache for reading one sequence, that keeps all of it (also in layers with a sliding window)."""
    return Cache(layer_class_to_replicate=DynamicLayer)


def layer_kv(cache: Cache) -> list[LayerKV]:
    """Keys and values of the one sequence that `cache` has read, layer by layer, each [heads, tokens, dim]."""
    return [(layer.keys[0], layer.values[0]) for layer in cache.layers]
