"""The one scoring loop of all verifiers that are read token by token (section 2).

What has been read is kept: of a prefix that extends one that was scored before only the new tokens are read, and the
prompt of many solutions once.
"""

from __future__ import annotations

import gc
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from tts_eval.memory import is_out_of_memory
from tts_eval.types import Prefix, Problem, TtsEvalError, Usage
from tts_eval.verifiers.cache import Known, PrefixTree, common_length
from tts_eval.verifiers.family import FamilyVerifier, finite_scores, rendered_whole
from tts_eval.verifiers.formats import Format
from tts_eval.verifiers.reading import Reader, Row, Scratch, read_rows, reads_in_pieces
from tts_eval.verifiers.rendering import Rendered


Item: TypeAlias = tuple[Problem, Prefix]
Ids: TypeAlias = tuple[int, ...]
Key: TypeAlias = tuple[str, str | None, tuple[str, ...]]
"""All that scores depend on: prompt, question and steps."""


_CACHE_SHARE = 0.25  # of a GPU's free memory, once the verifier is loaded
_CACHE_BYTES = 2**30  # elsewhere


class HFVerifier(FamilyVerifier):
    """Scores with a transformers model.

    Scores don't depend on what else is in a call, beyond rounding.

    Args:
        reader: The model.
        tokenizer: Its tokenizer.
        family: The family: how to render, and how to make scores of outputs.
        batch_tokens: Most tokens, known ones and padding included, of one forward pass; a longer sequence goes alone.
        cache_bytes: Memory for what has been read; None takes a quarter of what is free on a GPU, else 1 GiB.
    """

    def __init__(self, reader: Reader, tokenizer: Any, family: Format, *, batch_tokens: int, cache_bytes: int | None):
        super().__init__(family, tokenizer, reader.context)
        self._reader = reader
        self._batch_tokens = batch_tokens
        self._tree = PrefixTree(_room(reader.device) if cache_bytes is None else cache_bytes)
        self._keeps = reads_in_pieces(reader)
        self._scratch = Scratch()

    @torch.inference_mode()
    def score(self, items: Sequence[Item]) -> list[tuple[tuple[float, ...], Usage]]:
        """See `Verifier.score`.

        Raises:
            TtsEvalError: If a solution does not fit the context, a step has no score of its own, or a score is no
                number.
        """
        started = time.monotonic()
        keys = [(problem.prompt, problem.question, prefix.steps) for problem, prefix in items]
        distinct = dict(zip(reversed(keys), reversed(items), strict=True))  # of equal ones the first
        rendered = {key: self._render(*item) for key, item in distinct.items()}
        shared = _shared(rendered) if self._keeps else {}
        costs = Counter({ids: cost for ids, (_, cost) in self._read(set(shared.values())).items()})
        read = self._read({one.ids for one in rendered.values() if one.positions})
        costs.update({ids: cost for ids, (_, cost) in read.items()})
        scores = {
            key: self._scores(distinct[key][0], read[one.ids][0], one) if one.positions else ()
            for key, one in rendered.items()
        }
        charges = []
        for key in keys:
            # What several items share is charged to the first of them.
            ids = rendered[key].ids
            cost = costs.pop(ids, 0) + costs.pop(shared.get(key[:2], ()), 0)
            charges.append((cost, max(0, len(ids) - cost)))
        share = (time.monotonic() - started) / max(1, len(items))
        return [
            (scores[key], Usage(verifier_tokens=cost, reused_tokens=reused, seconds=share))
            for key, (cost, reused) in zip(keys, charges, strict=True)
        ]

    def forget(self) -> None:
        """See `Verifier.forget`."""
        self._tree.clear()

    def _render(self, problem: Problem, prefix: Prefix) -> Rendered:
        return rendered_whole(self._family, self._tokenizer, self.context, problem, prefix)

    def _scores(self, problem: Problem, outputs: torch.Tensor, rendered: Rendered) -> tuple[float, ...]:
        return finite_scores(self._family, problem, outputs, rendered)

    def _read(self, sequences: Collection[Ids]) -> dict[Ids, tuple[torch.Tensor, int]]:
        """For each sequence its outputs, [tokens, outputs], and how many tokens had to be read for them."""
        while True:
            try:
                return self._read_all(sequences)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(max(map(len, sequences)), error)

    def _shrink(self, longest: int, error: Exception) -> None:
        """Out of memory: forgets all that was read, and goes on with half as much at a time."""
        if self._batch_tokens <= longest:
            raise TtsEvalError(
                f"the verifier runs out of memory on a single solution of {longest} tokens ({error}): use a smaller "
                "verifier, one behind a server (verifier=http://...), or a lower max_gen_toks in --gen_kwargs; what is "
                "done is kept"
            ) from error
        self._batch_tokens = max(longest, self._batch_tokens // 2)
        self._scratch = Scratch()
        self.forget()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _read_all(self, sequences: Iterable[Ids]) -> dict[Ids, tuple[torch.Tensor, int]]:
        read: dict[Ids, tuple[torch.Tensor, int]] = {}
        unread: dict[Ids, Known] = {}
        for ids in sequences:
            known = self._tree.find(ids)
            if known.length == len(ids):
                read[ids] = (torch.cat(known.outputs), 0)
            else:
                unread[ids] = known
        for batch in self._batches({ids: len(ids) - known.length for ids, known in unread.items()}):
            read |= self._read_batch(batch, [unread[ids] for ids in batch])
        return read

    def _batches(self, unread: Mapping[Ids, int]) -> Iterator[list[Ids]]:
        """Cuts sequences, given with their number of new tokens, into batches of similar ones."""
        batch: list[Ids] = []
        past = new = 0
        for ids in sorted(unread, key=lambda ids: (unread[ids], len(ids), ids)):
            past, new = max(past, len(ids) - unread[ids]), max(new, unread[ids])
            if batch and (len(batch) + 1) * (past + new) > self._batch_tokens:
                yield batch
                batch, past, new = [], len(ids) - unread[ids], unread[ids]
            batch.append(ids)
        if batch:
            yield batch

    def _read_batch(self, batch: Sequence[Ids], known: Sequence[Known]) -> dict[Ids, tuple[torch.Tensor, int]]:
        starts = [max(0, past.length - self._reader.lookback) for past in known]
        rows = [Row(ids[start:], past.kv_until(start)) for ids, past, start in zip(batch, known, starts, strict=True)]
        read = {}
        results = read_rows(self._reader, rows, self._keeps, self._scratch)
        for ids, past, start, (outputs, kv) in zip(batch, known, starts, results, strict=True):
            again = past.length - start
            outputs = outputs[again:]
            if kv is not None:
                self._tree.add(ids, past.length, kv[:, :, again:], outputs)
            read[ids] = (torch.cat([*past.outputs, outputs]), len(ids) - start)
        return read


def _room(device: torch.device) -> int:
    """Bytes for what has been read."""
    return int(_CACHE_SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else _CACHE_BYTES


def _shared(rendered: Mapping[Key, Rendered]) -> dict[tuple[str, str | None], Ids]:
    """What all solutions of a problem begin with, where there are several."""
    sequences: defaultdict[tuple[str, str | None], set[Ids]] = defaultdict(set)
    for key, one in rendered.items():
        if one.ids:
            sequences[key[:2]].add(one.ids)
    shared = {}
    for problem, several in sequences.items():
        first, last = min(several), max(several)  # in lexical order these share the least
        length = common_length(first, last)
        if len(several) > 1 and length:
            shared[problem] = first[:length]
    return shared
