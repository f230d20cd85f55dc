"""Our beam search as `tts-beam` runs it, with a clock on the models."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import torch
from job import TEMPERATURE, Cost, Job, contend
from transformers import AutoModelForCausalLM, AutoTokenizer

from tts_eval.engines import hf
from tts_eval.engines.tokens import decoder
from tts_eval.scheduler import Scheduler
from tts_eval.search import beam
from tts_eval.types import Decoding, Prefix, Problem, Sample, Score
from tts_eval.verifiers import load_verifier


NEVER = "\x00never\x00"
"""A step delimiter that no model writes."""

Seen = set[tuple[Problem, tuple[str, ...]]]
"""What the verifier was asked to score."""


def prepare(job: Job) -> Callable[[Job], Cost]:
    """Loads the models."""
    tokenizer = AutoTokenizer.from_pretrained(job.policy)
    model = AutoModelForCausalLM.from_pretrained(job.policy, dtype=torch.float32).eval()
    verifier: Any = load_verifier(job.prm, dtype="float32", device="cpu")
    parts: dict[str, float] = {}
    model.forward = _clocked(model.forward, "policy", parts)
    verifier._reader._outputs = _clocked(verifier._reader._outputs, "verifier", parts)
    hf.draw = _clocked(hf.draw, "drawing", parts)
    engine = hf.HFEngine(
        model,
        encode=tokenizer.encode,
        decode=decoder(tokenizer),
        end_tokens=[],
        special_tokens={},
        context=model.config.max_position_embeddings,
        decoding=Decoding(TEMPERATURE, step_delimiter=NEVER, max_step_tokens=job.tokens),
    )

    def search(job: Job) -> Cost:
        problems = [Problem(str(i), text, (), job.steps * job.tokens) for i, text in enumerate(job.prompts)]
        searches = [(problem, beam(job.budget, job.width)) for problem in problems]
        seen: Seen = set()

        def watch(problem: Problem, request: Sample | Score, reply: Any) -> None:
            if isinstance(request, Score):
                seen.update((problem, prefix.steps) for prefix in request.prefixes)

        parts.clear()
        cost = Cost(parts=parts)
        started = time.thread_time()
        with cost.clock():
            done = list(filter(None, Scheduler(engine, verifier, watcher=watch).run(searches)))
        parts["other"] = time.thread_time() - started - sum(parts.values())
        total: Any = reduce(add, (usage for _, _, usage in done))
        cost.prefill, cost.decode, cost.verifier = total.prefill_tokens, total.decode_tokens, total.verifier_tokens
        assert cost.verifier <= _new_tokens(verifier, seen), "the verifier has read something twice"
        return cost

    return search


def _new_tokens(verifier: Any, seen: Seen) -> int:
    """Tokens of every prompt and of the last step of everything that was scored, each read once."""
    prompts = {}
    steps = 0
    for problem, texts in seen:
        rendered = verifier._render(problem, Prefix(steps=texts))
        prompts[problem.uid] = rendered.start
        first = rendered.positions[-2] + 1 if len(texts) > 1 else rendered.start
        steps += len(rendered.ids) - first + verifier._reader.lookback  # one with likelihood needs the token before
    return steps + sum(prompts.values())


def _clocked(function: Callable[..., Any], part: str, parts: dict[str, float]) -> Callable[..., Any]:
    """The same function, the main thread's processor time in it added to a part."""

    def clocked(*args: Any, **kwargs: Any) -> Any:
        started = time.thread_time()
        result = function(*args, **kwargs)
        parts[part] = parts.get(part, 0.0) + time.thread_time() - started
        return result

    return clocked


contend(prepare)
