"""Our beam search on a server, as `tts-beam` with base=local-completions runs it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from served import NAME, TEMPERATURE, ServedJob, contend, score

from tts_eval.model_adapters.engines import build_base, build_engine
from tts_eval.scheduler import Scheduler
from tts_eval.search import beam
from tts_eval.types import Decoding, Prefix, Problem, Usage


NEVER = "\x00never\x00"
"""A step delimiter that no model writes."""


class Scorer:
    """The verifier of all contenders."""

    kind, aggregation, history = "process", "last", False

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> list[tuple[tuple[float, ...], Usage]]:
        return [((score(prefix.text),) * len(prefix.steps), Usage()) for _, prefix in items]

    def forget(self) -> None: ...


def search(job: ServedJob) -> None:
    """All problems at once, as an adapter gets them."""
    beams = len(job.questions) * job.budget
    arguments = {"model": NAME, "base_url": f"{job.url}/v1/completions", "tokenizer": job.tokenizer}
    arguments |= {"num_concurrent": str(beams)}  # as the peer, which asks for all that it has at once
    base = build_base("local-completions", arguments, {})
    decoding = Decoding(TEMPERATURE, step_delimiter=NEVER, max_step_tokens=job.tokens)
    engine = build_engine("local-completions", base, decoding, None, given=arguments)
    chats = [base.apply_chat_template([{"role": "user", "content": question}]) for question in job.questions]
    # The steps alone are to end a solution.
    problems = [Problem(str(i), chat, (), 2 * job.steps * job.tokens) for i, chat in enumerate(chats)]
    searches = ((problem, beam(job.budget, job.width, rounds=job.steps)) for problem in problems)
    done = list(filter(None, Scheduler(engine, Scorer()).run(searches)))
    for _, outcome, _ in done:
        assert len(outcome.finals) == job.budget and all(prefix.finish is None for prefix in outcome.finals)


logging.disable()
contend(search)
