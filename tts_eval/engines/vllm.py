"""A policy under vLLM, in this process: token ids in and out, each request sent as soon as it arises.

vLLM batches whatever is under way, and its prefix cache keeps what a search goes on from. Text is decoded and cut here,
as for `HFEngine`, so both give the same steps for the same tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Any

from vllm import SamplingParams, TokensPrompt
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.exceptions import EngineDeadError

from tts_eval.engines.batch import Job
from tts_eval.engines.ending import extended
from tts_eval.engines.keys import keyed_int
from tts_eval.engines.stops import Decode
from tts_eval.engines.text import require_room
from tts_eval.types import Decoding, Finish, Prefix, Problem, Sample, TtsEvalError, Usage


_POLL_SECONDS = 1.0
_PROMPTS = 4096  # whose tokens are remembered: a step-wise search names its prompt again and again

_names = count()
"""Names of requests, of all engines in this process: late answers to a search that was given up belong to nobody."""


@dataclass(slots=True, eq=False)
class _Row:
    """One extension while it grows, and where in the job's reply it goes: greedy ones of a prefix are all the same."""

    job: Job
    prefix: Prefix
    ids: list[int]  # prompt and prefix
    places: range
    path: tuple[int, ...]
    limit: int
    tokens: tuple[int, ...] = ()
    logprob: float = 0.0
    since: float = 0.0  # the engine's clock when it was last sent


class VLLMEngine:
    """Samples from a model that vLLM runs.

    Args:
        engine: vLLM's `LLMEngine`.
        encode: Prompt text to token ids, special tokens as the model wants them.
        decode: Token ids to text, special tokens left out.
        special_tokens: Ids of the tokens that `decode` leaves out, which a problem may name as stop strings.
        context: Longest sequence, in tokens, that the model takes.
        decoding: Temperature, seed, step delimiter and step length of the run.
        lora: vLLM's request for an adapter, if the model has one.

    Raises:
        TtsEvalError: If vLLM is set up in a way that it doesn't survive.
    """

    def __init__(
        self,
        engine: Any,
        *,
        encode: Callable[[str], list[int]],
        decode: Decode,
        special_tokens: Mapping[str, int],
        context: int,
        decoding: Decoding,
        lora: Any = None,
    ):
        if current_platform.is_cpu() and engine.vllm_config.scheduler_config.enable_chunked_prefill:
            raise TtsEvalError(
                "on a CPU vLLM dies when it reads the prompt of a seeded request in pieces: give "
                "enable_chunked_prefill=False in --model_args"
            )
        self._engine = engine
        self._encode = lru_cache(maxsize=_PROMPTS)(encode)
        self._decode = decode
        self._special_tokens = special_tokens
        self._context = context
        self._decoding = decoding
        self._lora = lora
        self._rows: dict[str, _Row] = {}
        self._answered: list[Job] = []
        self._written = 0
        self._clock = 0.0  # seconds at work, each shared out among the rows that were under way

    @property
    def tokens_written(self) -> int:
        """Tokens decoded so far."""
        return self._written

    def check(self, problem: Problem) -> None:
        """See `Engine.check`."""
        require_room(problem, len(self._encoded(problem, problem.prompt)), self._context)

    def _encoded(self, problem: Problem, prompt: str) -> list[int]:
        """Tokens of a prompt, refused if a solution can't follow them."""
        ids = self._encode(prompt)
        if not 0 < len(ids) < self._context:
            raise TtsEvalError(
                f"a prompt of problem {problem.uid} has {len(ids)} tokens: it takes at least one, and fewer than the "
                f"{self._context} of the context (use fewer few-shot examples with --num_fewshot, leave the problem "
                "out with --samples, or raise max_model_len= in --model_args if the model allows it)"
            )
        return ids

    def submit(self, ticket: int, problem: Problem, request: Sample) -> None:
        """See `Engine.submit`."""
        if request.until == "step" and not self._engine.vllm_config.cache_config.enable_prefix_caching:
            raise TtsEvalError(
                "vLLM's prefix cache is off, so each step would read all that comes before it again: give "
                "enable_prefix_caching=True in --model_args"
            )
        temperature = self._decoding.temperature if request.temperature is None else request.temperature
        total = sum(request.counts)
        job = Job(ticket, problem, request, temperature, [None] * total, missing=total)
        prompts = request.prompts or (problem.prompt,) * len(request.prefixes)
        at = 0
        for prompt, prefix, number in zip(prompts, request.prefixes, request.counts, strict=True):
            ids = [*self._encoded(problem, prompt), *prefix.tokens]
            together = number if temperature == 0 else 1
            for child in range(0, number, together):
                places = range(at + child, at + child + together)
                path = (*prefix.path, request.first + child)
                self._send(_Row(job, prefix, ids, places, path, self._limit(job, prefix, ids)))
            at += number

    def release(self, ticket: int) -> None:
        """See `Engine.release`: vLLM forgets what was not used for the longest by itself."""

    def poll(self) -> list[tuple[int, tuple[Prefix, ...], Usage]]:
        """See `Engine.poll`."""
        deadline = time.monotonic() + _POLL_SECONDS
        while self._rows and not self._answered and time.monotonic() < deadline:
            started = time.monotonic()
            try:
                outputs = self._engine.step()
            except EngineDeadError as error:
                raise TtsEvalError(
                    "vLLM's engine has died (its own words are above; out of memory is the usual reason: lower "
                    "gpu_memory_utilization=, max_num_seqs= or max_model_len= in --model_args); what is done is kept, "
                    "so the same command goes on"
                ) from error
            self._clock += (time.monotonic() - started) / len(self._rows)
            for output in outputs:
                row = self._rows.pop(output.request_id, None)
                if row is not None:
                    self._receive(row, output)
        answered, self._answered = self._answered, []
        return [(job.ticket, tuple(reply for reply in job.replies if reply), job.cost) for job in answered]

    def _limit(self, job: Job, prefix: Prefix, ids: list[int]) -> int:
        """How many tokens an extension may have."""
        left = min(job.problem.max_tokens - len(prefix.tokens), self._context - len(ids))
        return min(left, self._decoding.max_step_tokens) if job.request.until == "step" else left

    def _send(self, row: _Row) -> None:
        job, written = row.job, len(row.tokens)
        seed = keyed_int(self._decoding.seed, job.problem.uid, row.path)
        parameters = SamplingParams(
            temperature=job.temperature,
            # 63 bits are what it takes. A row that is sent again needs other random numbers than before.
            seed=(seed >> 1) ^ written if job.temperature > 0 else None,
            max_tokens=row.limit - written,
            stop=self._stop_strings(row),
            stop_token_ids=self._stop_tokens(job.problem),
            logprobs=0,  # that of the token itself, at temperature 1
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        name = f"tts-eval-{next(_names)}"
        self._rows[name] = row
        row.since = self._clock
        prompt = TokensPrompt(prompt_token_ids=[*row.ids, *row.tokens])
        self._engine.add_request(name, prompt, parameters, lora_request=self._lora)

    def _stop_strings(self, row: _Row) -> list[str]:
        """What ends a request: vLLM looks at new text alone, so for a string that began before it, the rest of that."""
        before = self._decode((*row.prefix.tokens, *row.tokens))
        strings = row.job.problem.stop
        rests = [text[at:] for text in strings for at in range(1, len(text)) if before.endswith(text[:at])]
        delimiters = [self._decoding.step_delimiter] if row.job.request.until == "step" else []
        return [*strings, *rests, *delimiters]

    def _stop_tokens(self, problem: Problem) -> list[int]:
        return [self._special_tokens[string] for string in problem.stop if string in self._special_tokens]

    def _receive(self, row: _Row, output: Any) -> None:
        """Takes what vLLM has written for a row; sends it again where that is no end after all."""
        (completion,) = output.outputs
        job = row.job
        if completion.finish_reason not in ("stop", "length"):
            raise TtsEvalError(
                f"vLLM gave up a request of problem {job.problem.uid} ({completion.finish_reason}): its own words are "
                "above; what is done is kept, so the same command goes on"
            )
        self._charge(row, output.num_cached_tokens, len(completion.token_ids))
        row.tokens += tuple(completion.token_ids)
        row.logprob += completion.cumulative_logprob
        reply = extended(
            row.prefix,
            row.path,
            (*row.prefix.tokens, *row.tokens),
            row.logprob,
            problem=job.problem,
            until=job.request.until,
            delimiter=self._decoding.step_delimiter,
            decode=self._decode,
            ended=self._ended(job.problem, completion),
            full=len(row.tokens) >= row.limit,
            whole=len(row.ids) + len(row.tokens) >= self._context,
        )
        if reply is None:
            self._send(row)
            return
        for child, place in enumerate(row.places):
            job.replies[place] = replace(reply, path=(*row.path[:-1], row.path[-1] + child))
        job.missing -= len(row.places)
        if job.missing == 0:
            self._answered.append(job)

    def _ended(self, problem: Problem, completion: Any) -> Finish | None:
        """Why the last token ends the solution by itself, if it does: vLLM names all reasons but the end token."""
        reason = completion.stop_reason
        if completion.finish_reason == "length" or isinstance(reason, str):
            return None
        return "stop" if reason in self._stop_tokens(problem) else "eos"

    def _charge(self, row: _Row, cached: int, written: int) -> None:
        read = len(row.ids) + len(row.tokens)
        self._written += written
        row.job.usage += Usage(prefill_tokens=read - cached, reused_tokens=cached + (len(row.places) - 1) * read)
        row.job.decoded += written
        row.job.seconds += self._clock - row.since
