"""A policy behind an OpenAI-compatible server, or several replicas of it: whole solutions, and step by step.

Every request of a search is a coroutine of its own, so requests go out as they arise and nothing waits for the slowest
(docs/servers.md).
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from tts_eval.engines.copies import CopyGuard, Reply
from tts_eval.engines.keys import keyed_int
from tts_eval.engines.server_replies import Answer, Ask, Piece, Served, first_of, read_answer
from tts_eval.engines.stops import add_step, cut_at, split_steps
from tts_eval.engines.text import require_room
from tts_eval.replicas import RefusedError, Replicas
from tts_eval.types import Decoding, Finish, Prefix, Problem, Sample, TtsEvalError, Usage


_PEEK = 8  # tokens that tell whether the delimiter or the end comes next
_BLANK_ROUNDS = 3  # pieces of white space in a row that make no step


@dataclass(frozen=True, slots=True)
class _Job:
    ticket: int
    problem: Problem
    request: Sample
    temperature: float
    since: float  # on the shared clock


class ServerEngine:
    """Samples from a server.

    A sample of an unfinished prefix goes on from its text. What ended it is what the server says (`stop_reason` of
    vLLM, `matched_stop` of SGLang); where it doesn't, it is asked greedily what comes next.

    Args:
        replicas: The server.
        served: What it can do.
        decoding: Temperature, seed and delimiter of the run.
    """

    def __init__(self, replicas: Replicas, served: Served, decoding: Decoding):
        self._replicas = replicas
        self._served = served
        self._decoding = decoding
        self._native_n = served.native_n
        self._guard = CopyGuard(decoding.temperature, constant=False)
        self._answered: queue.SimpleQueue[Future[tuple[_Job, tuple[Prefix, ...], Usage]]] = queue.SimpleQueue()
        self._under_way = 0
        self._written: int | None = 0
        self._clock = 0.0  # advances by a second's share of each request under way
        self._looked = 0.0

    @property
    def tokens_written(self) -> int | None:
        """Tokens decoded so far, by the server's count or the tokenizer's; None where neither tells."""
        return self._written

    def check(self, problem: Problem) -> None:
        """See `Engine.check`; where context or tokenizer are unknown it is left to the server."""
        served = self._served
        if served.count_tokens is not None and served.context is not None:
            require_room(problem, served.count_tokens(problem.prompt), served.context)

    def submit(self, ticket: int, problem: Problem, request: Sample) -> None:
        """See `Engine.submit`."""
        if not self._served.goes_on and (request.until == "step" or any(prefix.steps for prefix in request.prefixes)):
            raise TtsEvalError(
                "a chat endpoint takes whole turns, so a search can't go on from a partial solution: use "
                "base=local-completions with --apply_chat_template, prefill=true if the server continues a last "
                "message of the assistant's (vLLM and SGLang do), --model tts-best-of-n, or base=hf"
            )
        temperature = self._decoding.temperature if request.temperature is None else request.temperature
        self._tick()
        job = _Job(ticket, problem, request, temperature, self._clock)
        self._under_way += 1
        self._replicas.run(self._serve(job)).add_done_callback(self._answered.put)

    def poll(self) -> list[Reply]:
        """See `Engine.poll`: waits until something has been answered."""
        released: list[Reply] = []
        try:
            while self._under_way and not released:
                answers = [self._next()]
                while not self._answered.empty():
                    answers.append(self._next())
                for left, answer in zip(reversed(range(len(answers))), answers, strict=True):
                    released += self._admit(*answer, waiting=left + self._under_way > 0)
        except BaseException:
            self._replicas.close()  # what is under way would only cost
            raise
        return released

    def release(self, ticket: int) -> None:
        """See `Engine.release`."""
        self._replicas.leave(ticket)

    def _next(self) -> tuple[_Job, tuple[Prefix, ...], Usage]:
        answer = self._answered.get().result()
        self._tick()
        self._under_way -= 1
        return answer

    def _tick(self) -> None:
        """Shares the time since the last look out among the requests under way."""
        now = time.monotonic()
        self._clock += (now - self._looked) / max(1, self._under_way)
        self._looked = now

    def _admit(self, job: _Job, reply: tuple[Prefix, ...], cost: Usage, *, waiting: bool) -> list[Reply]:
        cost = replace(cost, seconds=self._clock - job.since)
        if self._written is not None:
            self._written = None if cost.decode_tokens is None else self._written + cost.decode_tokens
        answer = (job.ticket, reply, cost)
        sampled = len(reply) > 1 and job.temperature > 0
        if job.request.until == "end" and not any(prefix.steps for prefix in job.request.prefixes):
            texts = [prefix.text for prefix in reply]
            return self._guard.admit([answer], [texts], sampled=sampled, waiting=waiting)
        if sampled and len(job.request.prefixes) == 1:
            self._guard.see_brief([prefix.text for prefix in reply])
        # Nothing else may come that would let go what is held back.
        return [answer, *self._guard.admit([], [], sampled=True, waiting=waiting)]

    # Everything below runs on the event loop.

    async def _serve(self, job: _Job) -> tuple[_Job, tuple[Prefix, ...], Usage]:
        request = job.request
        prompts = request.prompts or (job.problem.prompt,) * len(request.prefixes)
        places = zip(prompts, request.prefixes, request.counts, strict=True)
        parts = await asyncio.gather(*(self._extend(job, *place) for place in places))
        reply = tuple(prefix for prefixes, _ in parts for prefix in prefixes)
        return job, reply, sum((cost for _, cost in parts), Usage())

    async def _extend(self, job: _Job, prompt: Any, prefix: Prefix, count: int) -> tuple[list[Prefix], Usage]:
        """All extensions of one prefix, and what they cost."""
        paths = [(*prefix.path, child) for child in range(job.request.first, job.request.first + count)]
        limit = self._limit(job, prefix)
        # Greedy samples are all the same one, and some servers refuse several.
        wanted = paths if job.temperature > 0 else paths[:1]
        pieces, cost = await self._draw(job, prompt, prefix.text, wanted, limit)
        extended = await asyncio.gather(
            *(self._finished(job, prompt, prefix, path, piece) for path, piece in zip(wanted, pieces, strict=True))
        )
        prefixes = [extension for extension, _ in extended]
        if job.temperature == 0:
            prefixes = [replace(prefixes[0], path=path) for path in paths]
        return prefixes, sum((more for _, more in extended), cost)

    def _limit(self, job: _Job, prefix: Prefix, used: int = 0) -> int:
        """How many more tokens an extension may have, after `used` of its own."""
        if prefix.token_count is None:
            raise TtsEvalError(
                "the server doesn't say how many tokens it wrote (usage) and there is no tokenizer to count them, so "
                "the length of a solution can't be limited: add tokenizer= to --model_args"
            )
        left = job.problem.max_tokens - prefix.token_count
        return (min(left, self._decoding.max_step_tokens) if job.request.until == "step" else left) - used

    async def _draw(
        self, job: _Job, prompt: Any, text: str, paths: Sequence[tuple[int, ...]], most: int
    ) -> tuple[list[Piece], Usage]:
        """A sample for each path, in one request where the server gives several at a time."""
        steps = job.request.until == "step"
        stop = ((self._decoding.step_delimiter,) if steps else ()) + job.problem.stop
        asks = [Ask(prompt, text, 1, most, job.temperature, stop, self._seed(job, path)) for path in paths]
        # How long a step is must be known, sample by sample.
        countable = not steps or self._served.count_tokens is not None
        pieces: list[Piece] = []
        cost = Usage()
        if len(asks) > 1 and self._native_n and countable:
            try:
                answer = await self._ask(job, replace(asks[0], n=len(asks)))
            except RefusedError:
                answer = await self._ask(job, asks[0])  # refused as well, unless it was their number
            pieces += [self._counted(piece) for piece in answer.pieces[: len(asks)]]
            cost += self._cost(asks[0], answer)
            if len(pieces) < len(asks):
                self._native_n = False
        answers = await asyncio.gather(*(self._ask(job, ask) for ask in asks[len(pieces) :]))
        for ask, answer in zip(asks[len(pieces) :], answers, strict=True):
            pieces.append(self._counted(answer.pieces[0]))
            cost += self._cost(ask, answer)
        return pieces, cost

    async def _ask(self, job: _Job, ask: Ask) -> Answer:
        return await self._replicas.post(self._served.payload(ask), read_answer, home=job.ticket, weight=ask.n)

    def _seed(self, job: _Job, path: tuple[int, ...]) -> int | None:
        # 31 bits: servers read it as a signed 32-bit number
        return keyed_int(self._decoding.seed, job.problem.uid, path, bits=32) >> 1 if self._served.seeds else None

    def _counted(self, piece: Piece) -> Piece:
        if piece.tokens is None and self._served.count_tokens is not None:
            return replace(piece, tokens=self._served.count_tokens(piece.text))
        return piece

    def _cost(self, ask: Ask, answer: Answer) -> Usage:
        """What an answer cost, by the server's count, else by the tokenizer's."""
        count, read, written = self._served.count_tokens, answer.read, answer.written
        if count is not None and read is None:
            read = count(ask.prompt) + count(ask.text)
        if count is not None and written is None:
            written = sum(count(piece.text) for piece in answer.pieces)
        # Of several samples it says what the last had found in the cache: of a fresh prompt, what the first had read.
        cached = answer.cached if len(answer.pieces) == 1 or ask.text else 0
        prefill = None if read is None else read - cached
        # Its count has the prompt once, and all samples share that.
        reused = None if read is None else cached + (len(answer.pieces) - 1) * read
        return Usage(prefill_tokens=prefill, decode_tokens=written, reused_tokens=reused)

    async def _finished(
        self, job: _Job, prompt: Any, prefix: Prefix, path: tuple[int, ...], piece: Piece
    ) -> tuple[Prefix, Usage]:
        """The extension that a sample makes, and what more had to be asked for."""
        if job.request.until == "end":
            return self._whole(job, prefix, path, piece), Usage()
        text, used, cost, finish = "", 0, Usage(), None
        for blanks in range(_BLANK_ROUNDS + 1):
            left = self._limit(job, prefix, used)
            if blanks:  # a delimiter before anything else is no step
                (piece,), more = await self._draw(job, prompt, prefix.text + text, [(*path, -blanks)], left)
                cost += more
            last = left >= job.problem.max_tokens - (prefix.token_count or 0) - used
            written, finish, more = await self._ending(job, prompt, prefix.text + text, piece, None if last else left)
            text, used, cost = text + written, used + (piece.tokens or 0), cost + more
            if finish is not None or text.strip() or piece.cut or used >= self._limit(job, prefix):
                break
        else:
            if self._served.turns:
                raise TtsEvalError(
                    f"problem {job.problem.uid}: after a step the server writes nothing but the step's delimiter "
                    "again: its chat template strips the end of a partial answer; use base=local-completions with "
                    "--apply_chat_template"
                )
        solution = cut_at(prefix.text + text, job.problem.stop)
        if len(solution) < len(prefix.text) + len(text):
            finish = "stop"
        count = None if piece.tokens is None or prefix.token_count is None else prefix.token_count + used
        if finish is None and count is not None and count >= job.problem.max_tokens:
            finish = "length"
        steps = add_step(prefix.steps, solution[len(prefix.text) :])
        return Prefix(path=path, steps=steps, token_count=count, logprob=None, finish=finish), cost

    async def _ending(
        self, job: _Job, prompt: Any, before: str, piece: Piece, limit: int | None
    ) -> tuple[str, Finish | None, Usage]:
        """What a sample adds to the text before it, why the solution ends, and what finding out cost.

        `limit` is that of the step, None where the solution has no room for more.
        """
        delimiter = self._decoding.step_delimiter
        step, found, _ = piece.text.partition(delimiter)
        if found:  # the server leaves stop strings in, or doesn't heed them
            return step + delimiter, None, Usage()
        if piece.cut:
            # Cut short of the step's limit, the context is full; without a tokenizer the count is the server's own.
            full = limit is None or (self._served.count_tokens is None and (piece.tokens or limit) < limit)
            return piece.text, "length" if full else None, Usage()
        stop, cost = piece.stop, Usage()
        if not piece.told:
            stop, cost = await self._peek(job, prompt, before + piece.text)
        if stop == delimiter:
            return piece.text + delimiter, None, cost
        return piece.text, self._why(stop), cost

    async def _peek(self, job: _Job, prompt: Any, text: str) -> tuple[str | None, Usage]:
        """The stop string that most probably comes next, None if it is the end; for servers that don't tell."""
        ask = Ask(prompt, text, 1, _PEEK, 0.0, (), self._seed(job, ()))
        answer = await self._ask(job, ask)
        piece = answer.pieces[0]
        delimiter = self._decoding.step_delimiter
        stop = first_of(piece.text, (delimiter, *job.problem.stop))
        if stop is None and (piece.cut or piece.text.strip()):
            stop = delimiter  # it would go on otherwise, so this sample did go on
        return stop, self._cost(ask, answer)

    def _why(self, stop: str | None) -> Finish:
        return "eos" if stop is None or stop == self._served.end_string else "stop"

    def _whole(self, job: _Job, prefix: Prefix, path: tuple[int, ...], piece: Piece) -> Prefix:
        """The solution that a sample ends."""
        text = piece.text
        if self._served.thoughts_end is not None:
            text = text.rpartition(self._served.thoughts_end)[2].lstrip()
        text = prefix.text + text
        solution = cut_at(text, job.problem.stop)
        finish: Finish = "length" if piece.cut else self._why(piece.stop)
        count = None if piece.tokens is None or prefix.token_count is None else prefix.token_count + piece.tokens
        return Prefix(
            path=path,
            steps=split_steps(solution, self._decoding.step_delimiter),
            token_count=count,
            logprob=None,
            finish="stop" if len(solution) < len(text) else finish,
        )
