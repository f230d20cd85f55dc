"""A policy that only maps text to text: the fallback that drives any lm-eval model, for best-of-N."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tts_eval.engines.copies import CopyGuard, Reply
from tts_eval.engines.keys import keyed_int
from tts_eval.engines.stops import split_steps, whole_characters
from tts_eval.types import Decoding, Prefix, Problem, Sample, TtsEvalError, Usage


Generate = Callable[[list[tuple[str, dict[str, Any]]]], Sequence[str]]
"""Maps (prompt, lm-eval generation arguments) pairs to texts."""


class TextEngine:
    """Samples whole solutions from a text-to-text function.

    Args:
        generate: The function; one call gets `batch` pairs or less, but all samples of a problem.
        decoding: Temperature, seed and step delimiter of the run.
        count_tokens: Tokens in a text, or None where there is no tokenizer; the ledger's token counts are None then.
        takes_seed: Whether every pair's arguments carry a `seed` of its own.
        context: Most tokens, of prompt and solution together, that the function takes without cutting; None if unknown.
        constant: Whether equal samples are to be expected (lm-eval's dummy model says the same to everything).
        refusal: Why a base that could go on from a partial solution can't here; None for bases that never can.
        batch: Samples asked for in one call; what one call made is lost if the run is killed.
    """

    def __init__(
        self,
        generate: Generate,
        *,
        decoding: Decoding,
        count_tokens: Callable[[str], int] | None,
        takes_seed: bool,
        context: int | None = None,
        constant: bool = False,
        refusal: str | None = None,
        batch: int = 64,
    ):
        self._generate = generate
        self._decoding = decoding
        self._count_tokens = count_tokens
        self._takes_seed = takes_seed
        self._context = context
        self._guard = CopyGuard(decoding.temperature, constant=constant)
        self._refusal = refusal
        self._batch = batch
        self._queue: deque[tuple[int, Problem, Sample]] = deque()
        self._written: int | None = 0 if count_tokens else None

    @property
    def tokens_written(self) -> int | None:
        """Tokens decoded so far, None without a tokenizer."""
        return self._written

    def check(self, problem: Problem) -> None:
        """See `Engine.check`; where context or tokenizer are unknown it is left to the model behind."""
        if self._count_tokens is not None and self._context is not None:
            require_room(problem, self._count_tokens(problem.prompt), self._context)

    def submit(self, ticket: int, problem: Problem, request: Sample) -> None:
        """See `Engine.submit`."""
        if request.until == "step" or any(prefix.steps for prefix in request.prefixes):
            why = self._refusal or "this base model only maps a prompt to a whole text"
            raise TtsEvalError(
                f"a search can't go on from a partial solution here ({why}): use --model tts-best-of-n with it, or "
                "base=hf with a model that it can batch"
            )
        self._queue.append((ticket, problem, request))

    def poll(self) -> list[Reply]:
        """See `Engine.poll`: one call of the model, for as many waiting requests as make up a batch."""
        if not self._queue:  # some models fail when they are asked for nothing
            return []
        taken: list[tuple[int, Problem, Sample]] = []
        size = 0
        while self._queue and (not taken or size + sum(self._queue[0][2].counts) <= self._batch):
            taken.append(self._queue.popleft())
            size += sum(taken[-1][2].counts)
        pairs = [
            (prompt, self._arguments(problem, request, path))
            for _, problem, request in taken
            for prompt, path in places_of(problem, request)
        ]
        started = time.monotonic()
        texts = map(whole_characters, self._generate(pairs))
        share = (time.monotonic() - started) / max(1, len(pairs))
        grouped = [[next(texts) for _ in range(sum(request.counts))] for *_, request in taken]
        replies = [
            (ticket, *self._reply(problem, request, solutions, share))
            for (ticket, problem, request), solutions in zip(taken, grouped, strict=True)
        ]
        sampled = any(sum(request.counts) > 1 and self._temperature(request) > 0 for *_, request in taken)
        return self._guard.admit(replies, grouped, sampled=sampled, waiting=bool(self._queue))

    def release(self, ticket: int) -> None:
        """See `Engine.release`: nothing is kept."""

    def _temperature(self, request: Sample) -> float:
        return self._decoding.temperature if request.temperature is None else request.temperature

    def _arguments(self, problem: Problem, request: Sample, path: tuple[int, ...]) -> dict[str, Any]:
        temperature = self._temperature(request)
        arguments: dict[str, Any] = {
            "until": list(problem.stop),
            "max_gen_toks": problem.max_tokens,
            "do_sample": temperature > 0,
            "temperature": temperature,
        }
        if self._takes_seed:
            # 31 bits: servers read it as a signed 32-bit number
            arguments["seed"] = keyed_int(self._decoding.seed, problem.uid, path, bits=32) >> 1
        return arguments

    def _reply(
        self, problem: Problem, request: Sample, texts: list[str], share: float
    ) -> tuple[tuple[Prefix, ...], Usage]:
        samples = places_of(problem, request)
        counts = [self._count_tokens(text) if self._count_tokens else None for text in texts]
        prefixes = tuple(
            # The interface doesn't tell why a text ended; one that fills the limit was cut by it.
            Prefix(
                path=path,
                steps=split_steps(text, self._decoding.step_delimiter),
                token_count=count,
                logprob=None,
                finish="length" if count is not None and count >= problem.max_tokens else "eos",
            )
            for (_, path), text, count in zip(samples, texts, counts, strict=True)
        )
        cost = Usage(prefill_tokens=None, decode_tokens=None, reused_tokens=None, seconds=share * len(texts))
        if self._count_tokens:
            decoded = sum(count for count in counts if count is not None)
            read = sum(map(self._count_tokens, (prompt for prompt, _ in samples)))
            cost = Usage(prefill_tokens=read, decode_tokens=decoded, seconds=share * len(texts))
            self._written = (self._written or 0) + decoded
        return prefixes, cost


def places_of(problem: Problem, request: Sample) -> list[tuple[str, tuple[int, ...]]]:
    """For each extension that a request wants, what the model reads and the extension's path."""
    prompts = request.prompts or (problem.prompt,) * len(request.prefixes)
    return [
        (prompt, (*prefix.path, child))
        for prompt, prefix, count in zip(prompts, request.prefixes, request.counts, strict=True)
        for child in range(request.first, request.first + count)
    ]


def require_room(problem: Problem, length: int, context: int) -> None:
    """Refuses a problem whose prompt and longest solution don't fit.

    Args:
        problem: The problem.
        length: Tokens of its prompt.
        context: Most tokens of both.

    Raises:
        TtsEvalError: If they don't.
    """
    if length + problem.max_tokens > context:
        raise TtsEvalError(
            f"the prompt of problem {problem.uid} has {length} tokens and its solution may have "
            f"{problem.max_tokens}, but the base takes {context} and would cut the prompt: raise max_length= "
            "in --model_args if the model allows it, or lower max_gen_toks in --gen_kwargs"
        )
