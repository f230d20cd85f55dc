"""A language model as a verifier: asked whether a solution is correct so far, its inclination to say yes is the score.

With the model at hand that is read off the distribution of its next token, P(yes) / (P(yes) + P(no)); over any other
engine it is the share of yes among sampled verdicts, which may come after some reasoning. The score of a step is the
verdict on the solution up to it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from tts_eval.types import Engine, Prefix, Problem, Sample, Usage
from tts_eval.verifiers import heads
from tts_eval.verifiers.formats import Format, Label
from tts_eval.verifiers.hf import HFVerifier
from tts_eval.verifiers.rendering import Rendered, bare, question_of


_QUESTION = """\
Here is a math problem and a solution to it, which may not be finished yet.

Problem:
{problem}

Solution:
{solution}

Is the solution correct so far? Answer Yes or No."""

_FIRST_VERDICT = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
_VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


def verdict_question(problem: Problem, steps: Sequence[str]) -> str:
    """What the model is asked: problem and steps, a blank line between them, and whether they are correct."""
    return _QUESTION.format(problem=question_of(problem).strip(), solution="\n\n".join(map(bare, steps)))


def plain_prompt(question: str) -> str:
    """Makes a model without a chat template answer."""
    return f"{question}\nAnswer:"


def verdict_of(text: str) -> bool | None:
    """The verdict in an answer: the yes or no it begins with, else (after some reasoning) the last; None if none."""
    first = _FIRST_VERDICT.match(text)
    words = [first[1]] if first else _VERDICT.findall(text)
    return words[-1].lower() == "yes" if words else None


class LogitGenerativeVerifier:
    """Reads verdicts off the distribution of a transformers model's next token: `load_verifier(path, "generative")`.

    Solutions are read step by step, all of a call at once: so each step is read once though every verdict is on all
    steps before it too, and only the question behind them is read again.

    Args:
        verdicts: Reads one verdict, in the format `VERDICT`.
    """

    kind: Literal["process"] = "process"
    aggregation = "last"
    history = False
    label: Label = "value"
    step_delimiter = None

    def __init__(self, verdicts: HFVerifier):
        self._verdicts = verdicts

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> list[tuple[tuple[float, ...], Usage]]:
        """See `Verifier.score`."""
        replies: list[tuple[tuple[float, ...], Usage]] = [((), Usage())] * len(items)
        for count in range(1, 1 + max((len(prefix.steps) for _, prefix in items), default=0)):
            reaching = [index for index, (_, prefix) in enumerate(items) if len(prefix.steps) >= count]
            prefixes = [(items[index][0], Prefix(steps=items[index][1].steps[:count])) for index in reaching]
            for index, (verdict, cost) in zip(reaching, self._verdicts.score(prefixes), strict=True):
                scores, usage = replies[index]
                replies[index] = (*scores, *verdict), usage + cost
        return replies

    def forget(self) -> None:
        """See `Verifier.forget`."""
        self._verdicts.forget()

    @property
    def context(self) -> int | None:
        """See `LoadedVerifier`."""
        return self._verdicts.context

    def length(self, problem: Problem, prefix: Prefix) -> int:
        """See `LoadedVerifier`: that of the last verdict, the longest."""
        return self._verdicts.length(problem, prefix)


class SampledGenerativeVerifier:
    """Asks an engine several times; a verdict counts half where an answer holds none.

    Args:
        engine: Answers the questions, and nobody else's meanwhile. A `TextEngine` needs `constant=True`: that verdicts
            are equal is no sign of a broken server.
        chat: From the question to the prompt, such as the base's chat template.
        n: Answers to each question.
        max_tokens: Longest answer: long enough for the reasoning, if the model reasons.
    """

    kind: Literal["process"] = "process"
    aggregation = "last"
    history = False
    label: Label = "value"

    def __init__(
        self, engine: Engine, *, chat: Callable[[str], str] = plain_prompt, n: int = 8, max_tokens: int = 1024
    ):
        self._engine = engine
        self._chat = chat
        self._n = n
        self._max_tokens = max_tokens

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> list[tuple[tuple[float, ...], Usage]]:
        """See `Verifier.score`. Equal prefixes are asked about once, at the first one's cost."""
        prompts = [
            [self._chat(verdict_question(problem, prefix.steps[: i + 1])) for i in range(len(prefix.steps))]
            for problem, prefix in items
        ]
        answers = self._ask(list(dict.fromkeys(prompt for of_item in prompts for prompt in of_item)))
        replies = []
        for of_item in prompts:
            usage = Usage()
            for prompt in of_item:
                usage += answers[prompt][1]
                answers[prompt] = answers[prompt][0], Usage()
            replies.append((tuple(answers[prompt][0] for prompt in of_item), usage))
        return replies

    def forget(self) -> None:
        """See `Verifier.forget`: nothing is kept."""

    def _ask(self, prompts: Sequence[str]) -> dict[str, tuple[float, Usage]]:
        """The share of yes and the cost, by prompt."""
        request = Sample((Prefix(),), self._n, "end")
        for ticket, prompt in enumerate(prompts):
            # The prompt keys the randomness, so a prefix has the same verdict in whatever solution it occurs.
            problem = Problem(hashlib.sha256(prompt.encode()).hexdigest(), prompt, (), self._max_tokens)
            self._engine.check(problem)
            self._engine.submit(ticket, problem, request)
        answers: dict[str, tuple[float, Usage]] = {}
        while len(answers) < len(prompts):
            for ticket, reply, cost in self._engine.poll():
                verdicts = [verdict_of(answer.text) for answer in reply]
                share = sum(0.5 if verdict is None else verdict for verdict in verdicts) / len(verdicts)
                read = Usage(verifier_tokens=cost.prefill_tokens, reused_tokens=cost.reused_tokens)
                written = Usage(verifier_tokens=cost.decode_tokens, seconds=cost.seconds)
                answers[prompts[ticket]] = share, read + written
        return answers


def _render_verdict(tokenizer: Any, problem: Problem, steps: Sequence[str]) -> Rendered:
    """Question and steps as the model is asked about them; read at the last token."""
    question = verdict_question(problem, steps)
    if tokenizer.chat_template is None:
        ids = tokenizer.encode(plain_prompt(question))
    else:
        chat = [{"role": "user", "content": question}]
        # Templates of reasoning models would have them reason first; the others ignore the option.
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        ids = tokenizer.encode(text, add_special_tokens=False)
    return Rendered(tuple(ids), (len(ids) - 1,))


def _share_of_yes(outputs: torch.Tensor, rendered: Rendered) -> torch.Tensor:
    return outputs[list(rendered.positions)].softmax(-1)[:, : outputs.shape[1] // 2].sum(-1)


VERDICT = Format("generative", "outcome", "last", heads.yes_no, _render_verdict, _share_of_yes)
"""How a single verdict is read: to the scoring loop it is that of an outcome verifier."""
