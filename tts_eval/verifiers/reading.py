"""One forward pass over rows of a batch, each the extension of a sequence whose keys and values are kept.

Rows are laid out so that each one's columns are contiguous: what is kept ends where what is new begins.

    column   0 1 2 3 4 5 | 6 7 8
    row 0    k k k k k k | n n       k kept, n new; the rest is masked
    row 1        k k k k | n n n
    row 2                | n

So a model that measures distances in columns (a sliding window, a bias by distance) measures the right ones.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer


_SHARE_KEYS = "TRANSFORMERS_SDPA_FORCE_GQA"


class Reader(Protocol):
    """A model, or several, of which each token of a sequence gets some numbers: the outputs.

    Attributes:
        device: Where inputs go.
        dtype: Of the weights.
        vocabulary: Number of token ids.
        context: Longest sequence in tokens, or None where there is no limit.
        lookback: How many tokens before a new one must be read again for its output.
    """

    device: torch.device
    dtype: torch.dtype
    vocabulary: int
    context: int | None
    lookback: int

    def read(
        self, ids: torch.Tensor, mask: torch.Tensor, past: torch.Tensor | None, keep: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Reads new tokens.

        Args:
            ids: [rows, new].
            mask: What is there, [rows, past + new], of 1 and 0.
            past: Keys and values of all layers, [2 x layers, rows, heads, past + new, dim]; those of the new tokens are
                written into it. None if there are none.
            keep: Whether keys and values of the new tokens are wanted.

        Returns:
            The outputs, [rows, new, outputs], and if wanted keys and values, [2 x layers, rows, heads, new, dim].
        """


class TokenReader:
    """Reads a transformers model; the outputs are its logits, or those of a head on its last hidden state.

    Args:
        model: The model, on its device.
        head: From hidden states to outputs; None if the model returns logits itself.
    """

    lookback = 0

    def __init__(self, model: Any, head: torch.nn.Module | None = None):
        self._model = model.eval()
        self._head = head
        self.device = model.device
        self.dtype = model.dtype
        self.vocabulary = model.get_input_embeddings().num_embeddings
        # Absent where positions have no limit.
        self.context = getattr(model.config.get_text_config(), "max_position_embeddings", None)

    def read(
        self, ids: torch.Tensor, mask: torch.Tensor, past: torch.Tensor | None, keep: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `Reader.read`."""
        with _shared_keys(self.device):
            return self._read(ids, mask, past, keep)

    def _read(
        self, ids: torch.Tensor, mask: torch.Tensor, past: torch.Tensor | None, keep: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if not keep:
            return self._outputs(input_ids=ids, attention_mask=mask), None
        columns = mask.shape[1] - ids.shape[1]
        cache = Cache(layer_class_to_replicate=DynamicLayer)
        if past is not None:
            cache.layers += [_Layer(keys, values, columns) for keys, values in past.unflatten(0, (-1, 2))]
        positions = mask.cumsum(-1)[:, columns:] - 1
        outputs = self._outputs(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        if past is None:
            past = torch.stack([states for layer in cache.layers for states in (layer.keys, layer.values)])
        return outputs, past[:, :, :, columns:]

    def _outputs(self, **inputs: Any) -> torch.Tensor:
        """The forward pass, [rows, new, outputs]."""
        output = self._model(**inputs)
        logits: torch.Tensor = output.logits if self._head is None else self._head(output.last_hidden_state)
        return logits


class RatioReader:
    """Reads a policy and its reference; a token's output is `log p - log p_reference` of it, given those before.

    Args:
        policy: The fine-tuned model.
        reference: The model from which it was tuned, of the same architecture and tokenizer.
    """

    lookback = 1  # a token's probability is read off the logits of the token before

    def __init__(self, policy: TokenReader, reference: TokenReader):
        self._readers = (policy, reference)
        self.device = policy.device
        self.dtype = policy.dtype
        self.vocabulary = min(policy.vocabulary, reference.vocabulary)
        self.context = min((one.context for one in self._readers if one.context is not None), default=None)

    def read(
        self, ids: torch.Tensor, mask: torch.Tensor, past: torch.Tensor | None, keep: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `Reader.read`; the output of the first new token is 0."""
        pasts = (None, None) if past is None else past.chunk(2)
        logprobs, kvs = [], []
        for reader, own_past in zip(self._readers, pasts, strict=True):
            logits, kv = reader.read(ids, mask, own_past, keep)
            logprobs.append(torch.stack([_logprobs(*row) for row in zip(logits, ids, strict=True)]))
            kvs.append(kv)
        ratios = torch.nn.functional.pad(logprobs[0] - logprobs[1], (1, 0))  # [rows, new]
        return ratios[..., None], torch.cat([kv for kv in kvs if kv is not None]) if keep else None


class Row(NamedTuple):
    """A row to be read.

    Attributes:
        ids: Its new tokens, at least one.
        past: Keys and values of the tokens before, stretch by stretch, each [2 x layers, heads, tokens, dim].
    """

    ids: Sequence[int]
    past: Sequence[torch.Tensor] = ()


class Scratch:
    """Memory that one batch after the other uses: on a CPU fresh pages cost more than what is copied into them."""

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    def block(self, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """A tensor of any content, which the next call may give away again."""
        if like.device.type != "cpu":
            return like.new_empty(shape)
        size = math.prod(shape)
        if self._memory.numel() < size:
            self._memory = like.new_empty(2 * size)  # prefixes grow; what isn't touched takes no memory
        return self._memory[:size].view(*shape)


def read_rows(
    reader: Reader, rows: Sequence[Row], keep: bool, scratch: Scratch | None = None
) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """Reads rows in one batch.

    Args:
        reader: The model.
        rows: At least one.
        keep: Whether keys and values are wanted.
        scratch: Where to lay out what is known; None takes new memory.

    Returns:
        For each row the outputs of its new tokens, [new, outputs] float32 on the CPU, and if `keep` their keys and
        values, [2 x layers, heads, new, dim], views of the batch's, which the next use of `scratch` overwrites.
    """
    # By way of numpy, which takes lists in a tenth of torch's time.
    pasts = [sum(stretch.shape[2] for stretch in row.past) for row in rows]
    lengths = [len(row.ids) for row in rows]
    columns, new = max(pasts), max(lengths)
    padded = np.array([[*row.ids, *[0] * (new - length)] for row, length in zip(rows, lengths, strict=True)])
    ids = torch.from_numpy(padded)
    column = np.arange(columns + new)
    first, last = columns - np.array(pasts)[:, None], columns + np.array(lengths)[:, None]
    mask = torch.from_numpy(((first <= column) & (column < last)).astype(np.int64))
    past: torch.Tensor | None = None
    if columns:
        like = next(stretch for row in rows for stretch in row.past)
        shape = like.shape[0], len(rows), like.shape[1], columns + new, like.shape[3]
        past = (scratch or Scratch()).block(shape, like)
        past[:, :, :, : columns - min(pasts)] = 0  # masked, but nothing times NaN is NaN
        # Rows that go on from the same tokens, as siblings in a search do, are filled together.
        end = 0
        for _, alike in groupby(rows, lambda row: [(stretch.data_ptr(), stretch.shape[2]) for stretch in row.past]):
            row, *others = alike
            first_row, end = end, end + 1 + len(others)
            at = columns - pasts[first_row]
            for stretch in row.past:
                past[:, first_row:end, :, at : at + stretch.shape[2]] = stretch[:, None]
                at += stretch.shape[2]
    outputs, kv = reader.read(ids.to(reader.device), mask.to(reader.device), past, keep)
    outputs = outputs.float().cpu()
    return [
        (outputs[index, :length], None if kv is None else kv[:, index, :, :length])
        for index, length in enumerate(lengths)
    ]


@torch.inference_mode()
def reads_in_pieces(reader: Reader) -> bool:
    """Whether two sequences read in two pieces, in one batch, have the outputs that they have when read whole.

    They don't where attention looks ahead, or where a layer keeps something else than keys and values.
    """
    longest = min(300, reader.context or 300)  # more than the local windows that some architectures have
    generator = torch.Generator().manual_seed(0)
    sequences = [torch.randint(reader.vocabulary, (n,), generator=generator).tolist() for n in (8, longest)]
    cuts = (3, longest - 2)
    try:
        firsts = [read_rows(reader, [Row(ids[:cut])], True)[0][1] for ids, cut in zip(sequences, cuts, strict=True)]
        starts = [cut - reader.lookback for cut in cuts]
        rows = [
            Row(ids[start:], [kv[:, :, :start]])
            for ids, start, kv in zip(sequences, starts, firsts, strict=True)
            if kv is not None
        ]
        pieces = read_rows(reader, rows, True)
        found = torch.cat([outputs[reader.lookback :] for outputs, _ in pieces])
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False
    whole = [read_rows(reader, [Row(ids)], False)[0][0] for ids in sequences]
    expected = torch.cat([outputs[cut:] for outputs, cut in zip(whole, cuts, strict=True)])
    tolerance = torch.finfo(reader.dtype).eps ** 0.5 * max(1.0, float(expected.std()))
    return torch.allclose(found, expected, rtol=0, atol=tolerance)


@contextmanager
def _shared_keys(device: torch.device) -> Iterator[None]:
    """Lets a group of heads share its keys on a CPU, which takes a third of the time of transformers' copies.

    Where there is a mask transformers copies them for each head, since GPU kernels need that. Not for the policy: its
    rows, one token each, are packed by group, and this would make a row depend on the others in the last digit. What
    the user has set stays.
    """
    if device.type != "cpu" or _SHARE_KEYS in os.environ:
        yield
        return
    os.environ[_SHARE_KEYS] = "1"
    try:
        yield
    finally:
        del os.environ[_SHARE_KEYS]


class _Layer(DynamicLayer):
    """One layer's keys and values, [rows, heads, past + new, dim], the new ones yet to be written."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, columns: int):
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values, self._columns = keys, values, columns

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """In place: `DynamicLayer` copies all that is known to put the new behind it."""
        self.keys[:, :, self._columns :] = key_states
        self.values[:, :, self._columns :] = value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Columns before the new ones."""
        return self._columns


def _logprobs(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-probability of each token but the first, [new - 1]; in float32, a row at a time: vocabularies are large."""
    return -torch.nn.functional.cross_entropy(logits[:-1].float(), ids[1:], reduction="none")
