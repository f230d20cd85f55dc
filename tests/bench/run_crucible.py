"""crucible-ttc's beam search over the plain models."""

from __future__ import annotations

from collections.abc import Callable

from crucible.config import PolicyConfig, RunConfig
from crucible.domain.types import Problem, Step
from crucible.search import beam
from job import TEMPERATURE, Cost, Job, contend
from plain import Plain


class Models:
    """Its ports for policy and process verifier: one prefix is extended or scored at a time."""

    name = "plain"

    def __init__(self, models: Plain):
        self._models = models

    def sample_step(
        self, problem: Problem, prefix: list[Step], *, n: int, temperature: float, max_tokens: int
    ) -> list[Step]:
        texts = [_text(problem, prefix)] * n
        return [Step(text, max_tokens) for text in self._models.extend(texts, max_tokens)]

    def score_steps(self, problem: Problem, prefix: list[Step]) -> list[float]:
        return self._models.score([_text(problem, prefix)])


def _text(problem: Problem, steps: list[Step]) -> str:
    return problem.prompt + "".join(step.text for step in steps)


def prepare(job: Job) -> Callable[[Job], Cost]:
    """Loads the models. Its search starts from one beam, so its first round has M samples rather than N."""
    beam._is_terminal = lambda trace: False  # of forced shape: what looks like an answer ends nothing
    models = Plain(job)

    def search(job: Job) -> Cost:
        models.cost = Cost()
        config = RunConfig(
            policy=PolicyConfig(temperature=TEMPERATURE, max_tokens=job.tokens),
            prm_aggregate="last",
            beam_width=job.budget // job.width,
            beam_expansions=job.width,
            max_steps=job.steps,
        )
        ports = Models(models)
        with models.cost.clock():
            for index, prompt in enumerate(job.prompts):
                beam.BeamStrategy().search(Problem(str(index), prompt), ports, ports, ports, config)
        return models.cost

    return search


contend(prepare)
