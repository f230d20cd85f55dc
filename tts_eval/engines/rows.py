"""The KV cache of the rows that decode together, written in place.

Every row starts at column 0 of one block a layer and writes its next token at its own length:

    column   0 1 2 3 4 5 6 7 ...
    row 0    p p p p p t t          p prompt, t sampled; the rest is masked
    row 1    p p p p p p p p t
    row 2    p p p                  (joined last)

A row joins by copying its prompt's keys and values, and leaves by giving its place to the last row. Nothing is
concatenated from step to step.

What a row computes does not depend on the others, to the last bit: masked columns follow its own, where they add exact
zeros, and shapes are padded to sizes for which the kernels add up in one order (see `tts_eval.engines.exact`).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from tts_eval.types import TtsEvalError


LayerKV = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer for one sequence: each [heads, tokens, dim]."""

Mask: TypeAlias = torch.Tensor | dict[str, torch.Tensor]
"""What each row may read, [rows, 1, 1, columns] bool or additive; by kind of layer where a model mixes them."""

_COLUMNS = 16  # a vector of 16 float32: the attention kernel handles what doesn't fill one separately


class RowCache(Cache):
    """A transformers cache for rows that come and go.

    Use: `join` rows; then for every step `begin_step`, the model's forward pass with this cache, `end_step`. After an
    out-of-memory error the cache is unusable: make a new one and let its rows join again.

    Args:
        config: The text configuration of the model.
        additive: Whether the model's attention adds its mask (`eager`) rather than taking truth values.
        least_rows: Fewest rows of a step; those to spare are computed and ignored (see `tts_eval.engines.exact`).

    Raises:
        TtsEvalError: If the model has layers that keep something else than keys and values.
    """

    def __init__(self, config: Any, *, additive: bool, least_rows: int = 1):
        kinds = set(getattr(config, "layer_types", None) or ())  # absent where all layers are of one kind
        if kinds - {"full_attention", "sliding_attention"}:
            others = ", ".join(sorted(kinds - {"full_attention", "sliding_attention"}))
            raise TtsEvalError(
                f"this model has layers of kind {others}, whose state can't be forked here: serve it (base=vllm, "
                "base=local-completions) and run best-of-N over that"
            )
        self._mixed = "sliding_attention" in kinds
        self._sliding = getattr(config, "sliding_window", None) if self._mixed or not kinds else None
        self._additive = additive
        self._least_rows = least_rows
        self._lengths: list[int] = []
        self._blocks = [_Block() for _ in range(config.num_hidden_layers)]
        super().__init__(layers=list(self._blocks))

    @property
    def row_count(self) -> int:
        """Rows in the cache."""
        return len(self._lengths)

    def join(self, kv: list[LayerKV], copies: int) -> None:
        """Adds `copies` rows that all start from the same sequence.

        Args:
            kv: Its keys and values, layer by layer.
            copies: How many rows.
        """
        first, length = self.row_count, kv[0][0].shape[1]
        self._lengths += [length] * copies
        for block, layer in zip(self._blocks, kv, strict=True):
            block.reserve(*self._padded(), like=layer)
            for target, source in zip(block.kept(), layer, strict=True):
                target[first : first + copies, :, :length] = source

    def leave(self, row: int) -> None:
        """Removes a row; the last row takes its place, so the caller must move its own books likewise."""
        last = self._lengths.pop()
        if row == self.row_count:
            return
        self._lengths[row] = last
        for block in self._blocks:
            for kept in block.kept():
                kept[row, :, :last] = kept[self.row_count, :, :last]

    def begin_step(self, ids: list[int], device: torch.device) -> dict[str, Any]:
        """Makes room for one more token a row.

        Args:
            ids: The token that each row reads, [rows].
            device: Where the model is.

        Returns:
            The arguments of the model's forward pass. Its output has rows to spare at the end.
        """
        rows, columns = self._padded()
        spare = [0] * (rows - self.row_count)
        lengths = torch.tensor([*self._lengths, *spare], device=device)[:, None]  # [rows, 1]
        for block in self._blocks:
            block.reserve(rows, columns)
            block.at, block.columns = lengths[:, 0], columns
        return {
            "input_ids": torch.tensor([*ids, *spare], device=device)[:, None],
            "position_ids": lengths,
            "attention_mask": self._mask(lengths, columns),
            "past_key_values": self,
            "use_cache": True,
        }

    def end_step(self) -> None:
        """Says that every row has written one token."""
        self._lengths = [length + 1 for length in self._lengths]

    def _padded(self) -> tuple[int, int]:
        """Rows and columns of the coming step."""
        columns = max(self._lengths) + 1
        return max(self.row_count, self._least_rows), columns + -columns % _COLUMNS

    def _mask(self, lengths: torch.Tensor, columns: int) -> Mask:
        column = torch.arange(columns, device=lengths.device)
        full = self._as_mask(column <= lengths)
        if self._sliding is None:
            return full
        sliding = self._as_mask((column <= lengths) & (column > lengths - self._sliding))
        return {"full_attention": full, "sliding_attention": sliding} if self._mixed else sliding

    def _as_mask(self, readable: torch.Tensor) -> torch.Tensor:
        mask = readable[:, None, None]  # [rows, 1, 1, columns]
        if not self._additive:
            return mask
        zeros = torch.zeros((), dtype=self._blocks[0].kept()[0].dtype, device=mask.device)
        return torch.where(mask, zeros, torch.finfo(zeros.dtype).min)


class _Block(CacheLayerMixin):
    """One layer's keys and values, each [row capacity, heads, column capacity, dim]."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None
        self.at = torch.empty(0)  # the column in which each row writes, [rows]
        self.columns = 0

    def kept(self) -> LayerKV:
        """Both blocks."""
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def reserve(self, rows: int, columns: int, like: LayerKV | None = None) -> None:
        """Makes the blocks at least that large; the first ones take shape and type of `like`."""
        if self.keys is None or self.values is None:
            assert like is not None
            self.keys, self.values = (kv.new_zeros(rows, kv.shape[0], columns, kv.shape[2]) for kv in like)
        elif rows > self.keys.shape[0] or columns > self.keys.shape[2]:
            self.keys, self.values = (_grown(block, rows, columns) for block in (self.keys, self.values))

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object) -> LayerKV:
        """Writes one token a row, [rows, heads, 1, dim]; returns what all may read, [rows, heads, columns, dim]."""
        at = self.at.to(key_states.device)  # a model may be spread over several
        rows = torch.arange(len(at), device=at.device)
        for block, states in zip(self.kept(), (key_states, value_states), strict=True):
            block[rows, :, at] = states[:, :, 0]
        keys, values = (block[: len(rows), :, : self.columns] for block in self.kept())
        return keys, values

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Not used: the blocks are made when the first row joins."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The window's columns, and its first."""
        return self.columns, 0

    def get_seq_length(self) -> int:
        """Columns before the one that is written, were all rows of one length."""
        return max(0, self.columns - 1)

    def get_max_length(self) -> int:
        """No limit."""
        return -1

    def get_max_cache_shape(self) -> int:
        """The same, under its name in older releases of transformers."""
        return -1


def _grown(block: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    # In small steps: what is copied now and then costs less than memory that stays empty.
    old_rows, heads, old_columns, dim = block.shape
    rows = max(rows, old_rows + old_rows // 4) if rows > old_rows else old_rows
    columns = columns + 4 * _COLUMNS if columns > old_columns else old_columns
    # Zeros, not empty: a masked column weighs nothing, but nothing times NaN is NaN.
    grown = block.new_zeros(rows, heads, columns, dim)
    grown[:old_rows, :, :old_columns] = block
    return grown
