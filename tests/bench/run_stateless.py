"""The same beam search with stateless calls: `generate` on the whole text for each step, whole prefixes scored anew."""

from __future__ import annotations

from collections.abc import Callable

from job import Cost, Job, contend
from plain import Plain


def prepare(job: Job) -> Callable[[Job], Cost]:
    """Loads the models; the search takes problem after problem, all beams of a round in one call."""
    models = Plain(job)

    def search(job: Job) -> Cost:
        models.cost = Cost()
        with models.cost.clock():
            for prompt in job.prompts:
                texts = [prompt] * job.budget
                for _ in range(job.steps):
                    texts = [text + step for text, step in zip(texts, models.extend(texts, job.tokens), strict=True)]
                    ranked = sorted(zip(models.score(texts), texts, strict=True), reverse=True)
                    texts = [text for _, text in ranked[: job.budget // job.width] for _ in range(job.width)]
        return models.cost

    return search


contend(prepare)
