"""its_hub's beam search on a server."""

from __future__ import annotations

import asyncio
import logging
import warnings

from its_hub.api import AbstractProcessRewardModel
from its_hub.core.algorithms.beam_search import BeamSearch
from its_hub.core.lms.openai_lm import OpenAICompatibleLanguageModel
from its_hub.core.lms.step_generation import StepGeneration
from served import NAME, TEMPERATURE, ServedJob, contend, score


class RewardModel(AbstractProcessRewardModel):
    """Solutions come whole."""

    async def ascore(self, prompt_or_messages: str, steps: list[str]) -> list[float]:
        return [score(solution) for solution in steps]

    def score(self, prompt_or_messages: str, steps: list[str]) -> list[float]:
        return asyncio.run(self.ascore(prompt_or_messages, steps))


def search(job: ServedJob) -> None:
    """Its `beam_width` is how many beams are kept; it starts from M of them rather than N."""
    # A solution stops with the step after `max_steps`.
    generation = StepGeneration(job.steps - 1, tokens_per_step=job.tokens, temperature=TEMPERATURE)
    algorithm = BeamSearch(generation, RewardModel(), beam_width=job.budget // job.width)
    model = OpenAICompatibleLanguageModel(f"{job.url}/v1", "none", NAME)

    async def search_all() -> None:
        searches = (algorithm.ainfer(model, question, job.budget) for question in job.questions)
        if job.together:
            await asyncio.gather(*searches)
        else:
            for one in searches:
                await one

    asyncio.run(search_all())


logging.disable()
warnings.simplefilter("ignore")
contend(search)
