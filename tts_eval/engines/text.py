"""A policy that only maps text to text: the fallback that drives any lm-eval model, for best-of-N."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tts_eval.engines.sampling import keyed_int
from tts_eval.engines.stops import split_steps
from tts_eval.types import Decoding, Prefix, Problem, Sample, TtsEvalError, Usage


Generate = Callable[[list[tuple[str, dict[str, Any]]]], Sequence[str]]
"""Maps (prompt, lm-eval generation arguments) pairs to texts."""


class TextEngine:
    """Samples whole solutions from a text-to-text function.

    Args:
        generate: The function, called with at most `batch` pairs at a time.
        decoding: Temperature, seed and step delimiter of the run.
        count_tokens: Tokens in a text, or None where there is no tokenizer; the ledger's token counts are None then.
        takes_seed: Whether every pair's arguments carry a `seed` of its own.
        constant: Whether equal samples are to be expected (lm-eval's dummy model says the same to everything).
        batch: Samples asked for in one call; what one call made is lost if the run is killed.
    """

    def __init__(
        self,
        generate: Generate,
        *,
        decoding: Decoding,
        count_tokens: Callable[[str], int] | None,
        takes_seed: bool,
        constant: bool = False,
        batch: int = 64,
    ):
        self._generate = generate
        self._decoding = decoding
        self._count_tokens = count_tokens
        self._takes_seed = takes_seed
        self._proven = constant
        self._batch = batch
        self._queue: deque[tuple[int, Problem, Sample]] = deque()
        self._written: int | None = 0 if count_tokens else None

    @property
    def tokens_written(self) -> int | None:
        """Tokens decoded so far, None without a tokenizer."""
        return self._written

    def check(self, problem: Problem) -> None:
        """See `Engine.check`; a text-only engine leaves it to the model behind it."""

    def submit(self, ticket: int, problem: Problem, request: Sample) -> None:
        """See `Engine.submit`."""
        if request.until == "step" or request.prefixes != (Prefix(),):
            raise TtsEvalError(
                "this base model only maps a prompt to a whole text, so a search can't go on from a partial solution: "
                "use --model tts-best-of-n with it, or base=hf for step-wise search"
            )
        self._queue.append((ticket, problem, request))

    def poll(self) -> list[tuple[int, tuple[Prefix, ...], Usage]]:
        """See `Engine.poll`: one call of the model, for as many waiting requests as make up a batch."""
        taken: list[tuple[int, Problem, Sample]] = []
        while self._queue and (not taken or sum(r.n for *_, r in taken) + self._queue[0][2].n <= self._batch):
            taken.append(self._queue.popleft())
        pairs = [
            (problem.prompt, self._arguments(problem, request, child))
            for _, problem, request in taken
            for child in range(request.n)
        ]
        started = time.monotonic()
        texts = iter(self._generate(pairs))
        share = (time.monotonic() - started) / max(1, len(pairs))
        grouped = [[next(texts) for _ in range(request.n)] for *_, request in taken]
        self._refuse_equal(taken, grouped)
        return [
            (ticket, *self._reply(problem, request, solutions, share))
            for (ticket, problem, request), solutions in zip(taken, grouped, strict=True)
        ]

    def _temperature(self, request: Sample) -> float:
        return self._decoding.temperature if request.temperature is None else request.temperature

    def _arguments(self, problem: Problem, request: Sample, child: int) -> dict[str, Any]:
        temperature = self._temperature(request)
        arguments: dict[str, Any] = {
            "until": list(problem.stop),
            "max_gen_toks": problem.max_tokens,
            "do_sample": temperature > 0,
            "temperature": temperature,
        }
        if self._takes_seed:
            # 31 bits: servers read it as a signed 32-bit number
            arguments["seed"] = keyed_int(self._decoding.seed, problem.uid, (child,), bits=32) >> 1
        return arguments

    def _refuse_equal(self, taken: list[tuple[int, Problem, Sample]], grouped: list[list[str]]) -> None:
        """Stops a run whose samples are copies of each other: a pool of copies would measure nothing.

        A single problem may well have equal samples (a short answer, a low temperature). So the batch is refused only
        if every one of its problems has, and no problem before it had distinct ones.
        """
        sampled = [
            set(texts)
            for (_, _, request), texts in zip(taken, grouped, strict=True)
            if request.n > 1 and self._temperature(request) > 0
        ]
        self._proven = self._proven or any(len(texts) > 1 for texts in sampled)
        if sampled and not self._proven:
            raise TtsEvalError(
                f"all samples of a problem came back equal, for each of the {len(sampled)} problems of this batch, at "
                f"temperature {self._decoding.temperature:g}: the server or model ignores the temperature, or uses one "
                "seed for all. Let it sample (and honour a request's own seed), or ask for temperature=0,budget=1"
            )

    def _reply(
        self, problem: Problem, request: Sample, texts: list[str], share: float
    ) -> tuple[tuple[Prefix, ...], Usage]:
        counts = [self._count_tokens(text) if self._count_tokens else None for text in texts]
        prefixes = tuple(
            # The interface doesn't tell why a text ended; one that fills the limit was cut by it.
            Prefix(
                path=(child,),
                steps=split_steps(text, self._decoding.step_delimiter),
                token_count=count,
                logprob=None,
                finish="length" if count is not None and count >= problem.max_tokens else "eos",
            )
            for child, (text, count) in enumerate(zip(texts, counts, strict=True))
        )
        cost = Usage(prefill_tokens=None, decode_tokens=None, reused_tokens=None, seconds=share * request.n)
        if self._count_tokens:
            decoded = sum(count for count in counts if count is not None)
            read = self._count_tokens(problem.prompt) * request.n
            cost = Usage(prefill_tokens=read, decode_tokens=decoded, seconds=share * request.n)
            self._written = (self._written or 0) + decoded
        return prefixes, cost
