"""A policy on a transformers model: continuous batching over rows, token ids in and out.

Each prompt is read once and shared by all its samples, and a prefix that was written here isn't read again while it
lives; a row that ends leaves the batch at once and the next one joins; every row's randomness is its own. Models whose
attention can't take such batches are refused (`engines.exact`).
"""

from __future__ import annotations

import gc
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from tts_eval.engines.batch import Batch, Job, Place, Row, Stem
from tts_eval.engines.ending import extended
from tts_eval.engines.exact import read_sequence, require_exact_rows, row_cache
from tts_eval.engines.kept import KeptPrefixes
from tts_eval.engines.keys import keyed_int
from tts_eval.engines.memory import free_bytes, keep_freed_memory, row_bytes
from tts_eval.engines.packing import Packing
from tts_eval.engines.sampling import draw, uniforms
from tts_eval.engines.stops import Decode, StopFinder
from tts_eval.memory import is_out_of_memory
from tts_eval.types import Decoding, Finish, Prefix, Problem, Sample, TtsEvalError, Usage


_POLL_SECONDS = 1.0
_PROMPTS = 4096  # whose tokens are remembered: a step-wise search names its prompt again and again
_ROWS_SHARE = 0.3  # of the memory that is free at the start; twice that while the cache of the rows grows
_KEPT_SHARE = 0.2  # of it, for prefixes between two steps; the rest is for activations and everybody else
_MOST_ROWS = 256  # beyond that a batch gains little


class HFEngine:
    """Samples from a transformers causal language model.

    Args:
        model: The model, on its device.
        encode: Prompt text to token ids, special tokens as the model wants them.
        decode: Token ids to text, special tokens left out.
        end_tokens: Ids that end a solution.
        special_tokens: Ids of the tokens that `decode` leaves out, which a problem may name as stop strings.
        context: Longest sequence, in tokens, that the model takes.
        decoding: Temperature, seed, step delimiter and step length of the run.
        max_rows: Most rows in one batch; None chooses by the memory that is free.
        kept_bytes: Memory for prefixes that a search may go on from; None takes a fifth of what is free.

    Raises:
        TtsEvalError: If the model can't be batched like this.
    """

    def __init__(
        self,
        model: Any,
        *,
        encode: Callable[[str], list[int]],
        decode: Decode,
        end_tokens: Iterable[int],
        special_tokens: Mapping[str, int],
        context: int,
        decoding: Decoding,
        max_rows: int | None = None,
        kept_bytes: int | None = None,
    ):
        require_exact_rows(model, context)
        keep_freed_memory()
        self._packing = Packing(model)
        self._model = model
        self._encode = lru_cache(maxsize=_PROMPTS)(encode)
        self._decode = decode
        self._end_tokens = frozenset(end_tokens)
        self._special_tokens = special_tokens
        self._context = context
        self._decoding = decoding
        self._max_rows = max_rows
        free = free_bytes(model.device)
        self._memory = _ROWS_SHARE * free
        self._row_bytes = row_bytes(model, 0)
        self._token_bytes = row_bytes(model, 1) - self._row_bytes
        self._kept = KeptPrefixes(_KEPT_SHARE * free if kept_bytes is None else kept_bytes)
        self._stems: deque[Stem] = deque()
        self._finders: dict[tuple[str, ...], StopFinder] = {}
        self._answered: list[Job] = []
        self._written = 0
        self._batch = self._empty_batch()

    @property
    def tokens_written(self) -> int:
        """Tokens decoded so far."""
        return self._written

    def check(self, problem: Problem) -> None:
        """See `Engine.check`."""
        self._encoded(problem, problem.prompt)

    def _encoded(self, problem: Problem, prompt: str) -> list[int]:
        """Tokens of a prompt, refused if a solution can't follow them."""
        ids = self._encode(prompt)
        length = len(ids)
        if length == 0:
            raise TtsEvalError(f"the prompt of problem {problem.uid} has no tokens: a model can't start from nothing")
        if length >= self._context:
            raise TtsEvalError(
                f"the prompt of problem {problem.uid} has {length} tokens, but the model's context is {self._context}: "
                "use fewer few-shot examples (--num_fewshot), leave the problem out (--samples), or raise max_length= "
                "in --model_args if the model allows it"
            )
        return ids

    def submit(self, ticket: int, problem: Problem, request: Sample) -> None:
        """See `Engine.submit`."""
        temperature = self._decoding.temperature if request.temperature is None else request.temperature
        counts = request.counts
        job = Job(ticket, problem, request, temperature, [None] * sum(counts), missing=sum(counts))
        prefixes = request.prefixes
        prompts = request.prompts or (problem.prompt,) * len(prefixes)
        ids = [[*self._encoded(problem, prompts[at]), *prefix.tokens] for at, prefix in enumerate(prefixes)]
        # What is kept was read after the problem's own prompt, or is another prompt as a whole.
        known_as = [tuple(whole) for whole in ids] if request.prompts else [prefix.tokens for prefix in prefixes]
        self._kept.retain(ticket, (*known_as, *(prefix.tokens for prefix in request.alive)))
        stems: dict[tuple[str, tuple[int, ...], tuple[str, ...]], Stem] = {}
        index = 0
        for at, (prompt, prefix, count) in enumerate(zip(prompts, prefixes, counts, strict=True)):
            key = (prompt, prefix.tokens, prefix.steps)
            if key not in stems:
                stems[key] = Stem(job, prefix, ids[at], self._kept.find(ticket, known_as[at]))
            places = (Place((*prefix.path, request.first + child), index + child) for child in range(count))
            stems[key].waiting += places
            index += count
        self._stems += stems.values()

    def release(self, ticket: int) -> None:
        """See `Engine.release`."""
        self._kept.drop(ticket)

    @torch.inference_mode()
    def poll(self) -> list[tuple[int, tuple[Prefix, ...], Usage]]:
        """See `Engine.poll`."""
        deadline = time.monotonic() + _POLL_SECONDS
        while (self._batch.rows or self._stems) and not self._answered and time.monotonic() < deadline:
            started = time.monotonic()
            try:
                self._admit(deadline)
                jobs = [row.stem.job for row in self._batch.rows]
                self._sample()
                jobs += self._forward()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(error)
                continue
            share = (time.monotonic() - started) / len(jobs)
            for job in jobs:
                job.seconds += share
        answered, self._answered = self._answered, []
        return [(job.ticket, tuple(reply for reply in job.replies if reply), job.cost) for job in answered]

    def _admit(self, deadline: float) -> None:
        """Starts waiting extensions oldest first, while there is room and time to read prompts."""
        logits = [self._batch.logits]
        while self._stems and (time.monotonic() < deadline or not self._batch.rows):
            stem = self._stems[0]
            room = self._room(stem)
            if room <= 0 or (stem.kv is None and stem.before is not None):
                break  # the latter's last token is read with the next step of all others
            if stem.kv is None:
                self._read(stem)
            assert stem.kv is not None and stem.logits is not None
            count = min(room, stem.rows)
            self._batch.size = len(self._batch.rows) + count
            waiting = sum(other.rows for other in self._stems) - count
            coming = min(waiting, room - count)
            self._batch.cache.join([stem.kv], count, coming=coming, ahead=self._token_limit(stem))
            logits.append(stem.logits.expand(count, -1))
            self._batch.rows += [self._row(stem, stem.start()) for _ in range(count)]
            if not stem.waiting:
                self._stems.popleft()
                stem.kv = stem.logits = None
        if len(logits) > 1:
            self._batch.logits = torch.cat(logits)

    def _read(self, stem: Stem) -> None:
        """Reads all of a stem."""
        stem.kv, stem.logits = read_sequence(self._model, stem.ids)
        self._charge(stem, len(stem.ids))
        request = stem.job.request
        # A chain of revisions that repeats itself has the same prompt again.
        goes_on = bool(request.prompts) or stem.prefix in request.alive
        if goes_on or request.until == "step":
            before = stem.before = self._kept.node(None, stem.kv[:, :, :-1])
            if goes_on:
                self._kept.keep(stem.job.ticket, tuple(stem.ids) if request.prompts else stem.prefix.tokens, before)

    @staticmethod
    def _charge(stem: Stem, read: int) -> None:
        whole = len(stem.waiting) * len(stem.ids)
        stem.job.usage += Usage(prefill_tokens=read, reused_tokens=whole - read)

    def _room(self, stem: Stem) -> int:
        """How many more rows like the stem's fit in the batch; at least one in an empty batch."""
        width = len(stem.ids) + self._token_limit(stem)
        self._batch.width = max(self._batch.width, width) if self._batch.rows else width
        fitting = int(self._memory // (self._row_bytes + self._token_bytes * self._batch.width))
        limit = min(fitting, _MOST_ROWS) if self._max_rows is None else self._max_rows
        return max(1, limit) - len(self._batch.rows)

    def _token_limit(self, stem: Stem) -> int:
        """How many tokens an extension of the stem may have."""
        left = stem.job.problem.max_tokens - len(stem.prefix.tokens)
        if stem.job.request.until == "step":
            left = min(left, self._decoding.max_step_tokens)
        return min(left, self._context - len(stem.ids))

    def _row(self, stem: Stem, places: list[Place]) -> Row:
        strings = stem.job.problem.stop
        if stem.job.request.until == "step":
            strings += (self._decoding.step_delimiter,)
        key = keyed_int(self._decoding.seed, stem.job.problem.uid, places[0].path)
        return Row(stem, places, key, self._finder(strings), self._token_limit(stem))

    def _scouts(self) -> list[tuple[Stem, int]]:
        """The oldest stems of which only the last token is unread, each with how many rows it can start."""
        scouts = []
        rows = len(self._batch.rows)
        for stem in self._stems:
            room = len(self._batch.rows) + self._room(stem) - rows
            if rows and stem.rows > room:
                break
            rows += stem.rows
            if stem.kv is None and stem.before is not None:
                scouts.append((stem, min(stem.rows, room)))
        return scouts

    def _finder(self, strings: tuple[str, ...]) -> StopFinder:
        if strings not in self._finders:
            special = {self._special_tokens[string] for string in strings if string in self._special_tokens}
            self._finders[strings] = StopFinder(self._decode, strings, self._end_tokens | special)
        return self._finders[strings]

    def _sample(self) -> None:
        """Draws a token for every row and lets the rows that end leave."""
        if not self._batch.rows:
            return
        rows = self._batch.rows
        temperatures = torch.from_numpy(np.array([row.stem.job.temperature for row in rows], dtype=np.float64))
        random = torch.from_numpy(uniforms([row.key for row in rows], [len(row.tokens) for row in rows]))
        # Apple's GPUs have no float64.
        logits = self._batch.logits.cpu() if self._batch.logits.device.type == "mps" else self._batch.logits
        tokens, logprobs = draw(logits, temperatures.to(logits.device), random.to(logits.device))
        drawn, logs = tokens.tolist(), logprobs.tolist()
        if not math.isfinite(sum(logs)):
            broken = rows[int(logprobs.isfinite().int().argmin())].stem.job.problem
            raise TtsEvalError(
                f"the model's logits for problem {broken.uid} are no numbers: its weights are broken, or "
                "overflow in their type (try dtype=float32 in --model_args)"
            )
        self._batch.last_tokens = drawn.copy()
        self._written += len(drawn)
        for index in range(len(drawn) - 1, -1, -1):
            row, token, written = rows[index], drawn[index], rows[index].tokens
            written.append(token)
            row.logprob += logs[index]
            full = len(written) >= row.limit
            if full or (token not in row.stops.harmless and row.stops.found((*row.stem.prefix.tokens, *written))):
                reply = self._ended(row)
                if reply:
                    self._leave(index, reply)

    def _ended(self, row: Row) -> Prefix | None:
        """The finished extension, unless what the row's last token completed is no end after all."""
        ended: Finish | None = None
        if row.tokens[-1] in self._end_tokens:
            ended = "eos"
        elif row.tokens[-1] in row.stops.end_tokens:
            ended = "stop"
        prefix, job = row.stem.prefix, row.stem.job
        return extended(
            prefix,
            row.places[0].path,
            (*prefix.tokens, *row.tokens),
            row.logprob,
            problem=job.problem,
            until=job.request.until,
            delimiter=self._decoding.step_delimiter,
            decode=self._decode,
            ended=ended,
            full=len(row.tokens) >= row.limit,
            whole=len(row.stem.ids) + len(row.tokens) >= self._context,
        )

    def _leave(self, index: int, reply: Prefix) -> None:
        """Takes a finished row out of the batch."""
        batch = self._batch
        row = batch.rows[index]
        stem, job = row.stem, row.stem.job
        # First what may run out of memory: then the row starts again, and must not have been counted.
        if reply.finish is None and self._kept.find(job.ticket, reply.tokens) is None:
            kv = batch.cache.take(index, len(stem.ids) - 1)
            self._kept.keep(job.ticket, reply.tokens, self._kept.node(stem.before, kv))
        for place in row.places:  # the reply has the path of the first
            job.replies[place.at] = reply if place is row.places[0] else replace(reply, path=place.path)
        job.missing -= len(row.places)
        job.decoded += len(row.tokens)
        batch.leave(index)
        if not job.missing:
            self._answered.append(job)

    def _forward(self) -> list[Job]:
        """Reads every row's last token, which gives the logits of its next, and the last token of new stems.

        Returns:
            The jobs of these stems.
        """
        batch, scouts = self._batch, self._scouts()
        if not batch.rows and not scouts:
            batch.logits = batch.logits[:0]
            return []
        rows = len(batch.rows)
        batch.size = rows + len(scouts)
        coming = sum(count for _, count in scouts)
        for stem, _ in scouts:
            assert stem.before is not None
            batch.cache.join(stem.before.stretches(), 1, coming=rows + coming - batch.cache.row_count - 1)
        ids = [*batch.last_tokens, *(stem.ids[-1] for stem, _ in scouts)]
        inputs = batch.cache.begin_step(ids, self._model.device)
        with self._packing.used(len(inputs["input_ids"])):
            logits = self._model(**inputs).logits[:, -1]  # [rows and more, vocabulary]
        batch.cache.end_step()
        if scouts:
            self._fork(scouts, logits)
        else:
            batch.logits = logits[:rows]
        return [stem.job for stem, _ in scouts]

    def _fork(self, scouts: Sequence[tuple[Stem, int]], logits: torch.Tensor) -> None:
        """Makes rows of stems whose last token was read as the last rows of the batch; `logits` are those of all."""
        batch = self._batch
        rows, counts = len(batch.rows), [count for _, count in scouts]
        read = range(rows, rows + len(scouts))
        batch.size = rows + sum(counts)
        batch.cache.fork(read, counts)
        copied = np.repeat(read, np.array(counts, dtype=int) - 1)
        origins = torch.from_numpy(np.concatenate([np.arange(read.stop), copied]))
        batch.logits = logits[origins.to(logits.device)]
        for row, (stem, count) in zip(read, scouts, strict=True):
            self._charge(stem, 1)
            if count < stem.rows:  # the others start later
                stem.kv, stem.logits = batch.cache.take(row, 0), logits[row : row + 1]
        for stem in (*(stem for stem, _ in scouts), *(scouts[row - rows][0] for row in copied)):
            batch.rows.append(self._row(stem, stem.start()))
        self._stems = deque(stem for stem in self._stems if stem.waiting)

    def _shrink(self, error: Exception) -> None:
        """Out of memory: lets every row start again, in a batch of half the size; keyed randomness repeats itself."""
        if self._max_rows == 1:
            raise TtsEvalError(
                f"out of memory with a single row ({error}): use a smaller model, dtype=bfloat16 in --model_args or "
                "a lower max_gen_toks in --gen_kwargs"
            ) from error
        self._max_rows = max(1, self._batch.size // 2)
        stems = {id(row.stem): row.stem for row in self._batch.rows} | {id(stem): stem for stem in self._stems}
        for row in self._batch.rows:
            row.stem.waiting += row.places
            row.stem.job.decoded += len(row.tokens)  # written, and to be written again
        for stem in stems.values():
            stem.waiting = deque(sorted(stem.waiting, key=lambda place: place.at))
            stem.before = stem.kv = stem.logits = None
        self._stems = deque(sorted(stems.values(), key=lambda stem: (stem.job.ticket, stem.waiting[0].at)))
        self._kept.clear()
        self._batch = self._empty_batch()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _empty_batch(self) -> Batch:
        vocabulary = self._model.config.get_text_config().vocab_size
        logits = torch.empty(0, vocabulary, device=self._model.device, dtype=self._model.dtype)
        return Batch(row_cache(self._model), logits)
