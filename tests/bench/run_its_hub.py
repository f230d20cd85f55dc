"""its_hub's beam search over the plain models."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from its_hub.api import AbstractLanguageModel, AbstractProcessRewardModel, ChatMessage
from its_hub.core.algorithms.beam_search import BeamSearch
from its_hub.core.lms.step_generation import StepGeneration
from job import TEMPERATURE, Cost, Job, contend
from plain import Plain


class LanguageModel(AbstractLanguageModel):
    """Prompt and solution so far come as a chat of one turn each; what the policy reads is the two joined."""

    def __init__(self, models: Plain):
        self._models = models

    async def agenerate(
        self, messages: list[list[ChatMessage]], stop: str | None = None, **options: Any
    ) -> list[dict[str, str]]:
        texts = ["".join(message.extract_text_content() for message in chat) for chat in messages]
        steps = self._models.extend(texts, options["max_completion_tokens"])
        return [{"role": "assistant", "content": step} for step in steps]


class RewardModel(AbstractProcessRewardModel):
    """Solutions come whole."""

    def __init__(self, models: Plain):
        self._models = models

    async def ascore(self, prompt_or_messages: str, steps: list[str]) -> list[float]:
        return self._models.score([prompt_or_messages + solution for solution in steps])

    def score(self, prompt_or_messages: str, steps: list[str]) -> list[float]:
        return asyncio.run(self.ascore(prompt_or_messages, steps))


def prepare(job: Job) -> Callable[[Job], Cost]:
    """Loads the models. Its `beam_width` is how many beams are kept; it starts from M of them rather than N."""
    logging.disable()
    models = Plain(job)

    def search(job: Job) -> Cost:
        models.cost = Cost()
        # A solution stops with the step after `max_steps`.
        generation = StepGeneration(job.steps - 1, tokens_per_step=job.tokens, temperature=TEMPERATURE)
        algorithm = BeamSearch(generation, RewardModel(models), beam_width=job.budget // job.width)
        with models.cost.clock():
            for prompt in job.prompts:
                asyncio.run(algorithm.ainfer(LanguageModel(models), prompt, job.budget))
        return models.cost

    return search


contend(prepare)
