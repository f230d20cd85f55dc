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

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from tts_eval.engines.memory import zeros
from tts_eval.types import TtsEvalError


Mask: TypeAlias = torch.Tensor | dict[str, torch.Tensor]
"""What each row may read, [rows, 1, 1, columns] bool or additive; by kind of layer where a model mixes them."""

_COLUMNS = 16  # a vector of 16 float32: the attention kernel handles what doesn't fill one separately
_AHEAD = 4 * _COLUMNS  # for tokens to come: the block grows in such steps


class RowCache(Cache):
    """A transformers cache for rows that come and go.

    Use: `join` rows; then for every step `begin_step`, the model's forward pass with this cache, `end_step`. After an
    out-of-memory error the cache is unusable: make a new one and let its rows join again.

    Args:
        config: The text configuration of the model.
        additive: Whether the model's attention adds its mask (`eager`) rather than taking truth values.
        least_rows: Fewest rows of a step; those to spare are computed and ignored (see `tts_eval.engines.exact`).
        spare_rows: How many there are to spare in any case.

    Raises:
        TtsEvalError: If the model has layers that keep something else than keys and values.
    """

    def __init__(self, config: Any, *, additive: bool, least_rows: int = 1, spare_rows: int = 0):
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
        self._spare_rows = spare_rows
        self._lengths: list[int] = []
        self._blocks = [_Block() for _ in range(config.num_hidden_layers)]
        # Keys and values of all layers in turn, [2 x layers, row capacity, heads, column capacity, dim].
        self.kv = torch.empty(0, 0, 0, 0, 0)
        super().__init__(layers=list(self._blocks))

    @property
    def row_count(self) -> int:
        """Rows in the cache."""
        return len(self._lengths)

    def join(self, stretches: Sequence[torch.Tensor], copies: int, coming: int = 0, ahead: int = 1) -> None:
        """Adds `copies` rows that all start from the same sequence.

        Args:
            stretches: Its keys and values, stretch by stretch, each [2 x layers, heads, tokens, dim].
            copies: How many rows.
            coming: How many more will join before the next step, so that room is made once.
            ahead: How many tokens the rows may write. Room is made for some of them while there is nothing to copy.
        """
        first, length = self.row_count, sum(stretch.shape[2] for stretch in stretches)
        self._lengths += [length] * copies
        rows, columns = self._padded(1 if first else min(ahead, _AHEAD), coming)
        self._reserve(rows, columns, first, like=stretches[0])
        at = 0
        for stretch in stretches:
            end = at + stretch.shape[2]
            self.kv[:, first : first + copies, :, at:end] = stretch[:, None]
            at = end

    def fork(self, rows: Sequence[int], counts: Sequence[int]) -> None:
        """Makes `counts[i]` rows of row `rows[i]`, itself one of them; the copies go to the end, in order."""
        end = self.row_count
        copied = [(row, count - 1) for row, count in zip(rows, counts, strict=True) if count > 1]
        self._lengths += [self._lengths[row] for row, copies in copied for _ in range(copies)]
        self._reserve(self._padded(0)[0], 0, end)
        for row, copies in copied:
            length = self._lengths[row]
            self.kv[:, end : end + copies, :, :length] = self.kv[:, row, None, :, :length]
            end += copies

    def take(self, row: int, start: int) -> torch.Tensor:
        """Copies a row's keys and values from token `start` on, [2 x layers, heads, tokens, dim]."""
        return self.kv[:, row, :, start : self._lengths[row]].clone()

    def leave(self, row: int) -> None:
        """Removes a row; the last row takes its place, so the caller must move its own books likewise."""
        last = self._lengths.pop()
        if row == self.row_count:
            return
        self._lengths[row] = last
        self.kv[:, row, :, :last] = self.kv[:, self.row_count, :, :last]

    def begin_step(self, ids: list[int], device: torch.device) -> dict[str, Any]:
        """Makes room for one more token a row.

        Args:
            ids: The token that each row reads, [rows].
            device: Where the model is.

        Returns:
            The arguments of the model's forward pass. Its output has rows to spare at the end.
        """
        rows, columns = self._padded(1)
        spare = [0] * (rows - self.row_count)
        # By way of numpy, which takes a list in a tenth of torch's time.
        lengths = torch.from_numpy(np.array([*self._lengths, *spare])).to(device)[:, None]  # [rows, 1]
        self._reserve(rows, columns, self.row_count)
        at = torch.arange(rows, device=self.kv.device), lengths[:, 0].to(self.kv.device)
        layers = self.kv[:, :rows, :, :columns].unbind()
        for block, keys, values in zip(self._blocks, layers[::2], layers[1::2], strict=True):
            block.begin_step(keys, values, at)
        return {
            "input_ids": torch.from_numpy(np.array([*ids, *spare])).to(device)[:, None],
            "position_ids": lengths,
            "attention_mask": self._mask(lengths, columns),
            "past_key_values": self,
            "use_cache": True,
        }

    def end_step(self) -> None:
        """Says that every row has written one token."""
        self._lengths = [length + 1 for length in self._lengths]

    def _padded(self, tokens: int, coming: int = 0) -> tuple[int, int]:
        """Rows and columns of a step, if rows have written that many tokens by then, and as many rows have come."""
        columns = max(self._lengths) + tokens
        return max(self.row_count + coming + self._spare_rows, self._least_rows), columns + -columns % _COLUMNS

    def _reserve(self, rows: int, columns: int, used: int, like: torch.Tensor | None = None) -> None:
        """Makes the block, of which `used` rows hold something, at least that large; the first one is like `like`."""
        layers, old_rows, heads, old_columns, dim = self.kv.shape
        if like is not None and not old_rows:
            layers, heads, _, dim = like.shape
            ahead = columns if like.device.type == "cpu" else 0  # there what stays empty costs nothing
            self.kv = zeros(like, (layers, rows, heads, columns + ahead, dim))
            return
        wider = columns > old_columns
        if rows > old_rows or wider:
            # In small steps: what is copied now and then costs less than memory that stays empty. There is nothing to
            # copy in an empty block, so it grows by more.
            ahead = columns if self.kv.device.type == "cpu" else _AHEAD if used else max(_AHEAD, columns // 2)
            rows = max(rows, old_rows + old_rows // 4) if rows > old_rows else old_rows
            columns = columns + ahead if wider else old_columns
            # Zeros, not empty: a masked column weighs nothing, but nothing times NaN is NaN.
            grown = zeros(self.kv, (layers, rows, heads, columns, dim))
            grown[:, :used, :, :old_columns] = self.kv[:, :used]
            self.kv = grown

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
        zeros = torch.zeros((), dtype=self.kv.dtype, device=mask.device)
        return torch.where(mask, zeros, torch.finfo(zeros.dtype).min)


class _Block(CacheLayerMixin):
    """One layer's part of the cache during a step."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.columns = 0

    def begin_step(self, keys: torch.Tensor, values: torch.Tensor, at: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Takes what all rows may read, [rows, heads, columns, dim], and each row with the column it writes, [rows]."""
        self.keys, self.values, self._at = keys, values, at
        self.columns = keys.shape[2]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes one token a row, [rows, heads, 1, dim]; returns what all may read."""
        rows, columns = self._at
        # A model may be spread over several devices; the cache is on one.
        self.keys[rows, :, columns] = key_states[:, :, 0].to(self.keys.device)
        self.values[rows, :, columns] = value_states[:, :, 0].to(self.values.device)
        return self.keys.to(key_states.device), self.values.to(value_states.device)

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
