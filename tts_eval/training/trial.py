"""How well a model revises its own attempts: short chains on held-out questions (Snell et al. 2024, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from tts_eval.answers import default_grader, extract_answer
from tts_eval.engines.exact import most_rotated
from tts_eval.engines.hf import HFEngine
from tts_eval.engines.tokens import decoder, encode, special_tokens
from tts_eval.revision import revision_prompt
from tts_eval.scheduler import Scheduler
from tts_eval.search.revise import Revision, revise
from tts_eval.training.backbone import Backbone
from tts_eval.training.revision_data import RevisionQuestion, RevisionRun
from tts_eval.types import Decoding, Engine, Problem, TtsEvalError


TEMPERATURE = 1.0
"""Of the chains; the paper doesn't state its own."""


@dataclass(frozen=True)
class Trial:
    """The chains on which models are compared; all get the same random numbers.

    Attributes:
        questions: With their gold answers.
        run: How the attempts were made that the model was trained on; these are made likewise.
        chains: Chains a question.
        length: Attempts a chain, at least two.
        window: How many of the latest attempts the next one sees.
        separator: What follows each of them.
        seed: Keys the randomness.
    """

    questions: Sequence[RevisionQuestion]
    run: RevisionRun
    chains: int
    length: int
    window: int
    separator: str
    seed: int

    def require_room(self, backbone: Backbone) -> None:
        """Refuses a backbone into whose context the last attempts of a chain might not fit.

        Raises:
            TtsEvalError: With the numbers.
        """
        tokenizer, context = backbone.tokenizer, _context(backbone)
        between = len(tokenizer(self.separator, add_special_tokens=False)["input_ids"])
        for question in self.questions:
            prompt, most = len(encode(tokenizer, question.problem.prompt)), question.problem.max_tokens
            needed = prompt + self.window * (most + between) + most
            if needed > context:
                raise TtsEvalError(
                    f"problem {question.problem.uid} may need {needed} tokens (a prompt of {prompt}, {self.window} "
                    f"attempts of {most} with a separator of {between}, a next one of {most}), but the backbone's "
                    f"context is {context}: raise it with --context, or lower --window"
                )

    def accuracies(self, engine: Engine) -> tuple[float, ...]:
        """Share of correct attempts over all chains, by their place in the chain."""
        # Not by uid: that is unique within a file.
        gold = {question.problem: question.gold for question in self.questions}
        searches = (
            (problem, revise(self.chains, self.length, self._prompt(problem), window=self.window, scored=False))
            for problem in (question.problem for question in self.questions)
        )
        answers: list[list[tuple[str, str | None]]] = [[] for _ in range(self.length)]
        for finished in Scheduler(engine).run(searches):
            if finished is not None:
                problem, outcome, _ = finished
                for index, final in enumerate(outcome.finals):
                    answer = extract_answer(final.text, fallback=self.run.answer_fallback)
                    answers[index % self.length].append((gold[problem], answer))
        return tuple(fmean(default_grader().grade(pairs)) for pairs in answers)

    def _prompt(self, problem: Problem) -> Revision:
        return lambda attempts: revision_prompt(problem.prompt, attempts, self.separator)

    def engine(self, backbone: Backbone) -> HFEngine:
        """Samples from a model as lm-eval's `hf` would.

        Raises:
            TtsEvalError: If the model can't be batched.
        """
        model, tokenizer = backbone
        ends = model.generation_config.eos_token_id
        return HFEngine(
            model,
            encode=partial(encode, tokenizer),
            decode=decoder(tokenizer),
            end_tokens={tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None},
            special_tokens=special_tokens(tokenizer),
            context=_context(backbone),
            decoding=Decoding(TEMPERATURE, self.seed, self.run.step_delimiter),
        )


def _context(backbone: Backbone) -> int:
    """Longest sequence that the engine samples."""
    return min(backbone.context, most_rotated(backbone.model))
