"""Monte-Carlo labels of solution steps, and the file that keeps them: what process verifiers are trained on.

A step's label is the share of the policy's rollouts from there that end correct (Snell et al. 2024, section 2). Labels
are made from finished searches (`tts_eval.search.monte_carlo`), gold answer in hand. docs/labels.md has the format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, final

from tts_eval.jsonl import SCHEMA, RecordFile
from tts_eval.schema import from_json
from tts_eval.search import Rollouts, step_prefixes
from tts_eval.types import Finish, Problem, TtsEvalError, Usage


@dataclass(frozen=True)
class LabelledSolution:
    """A solution with one label a step.

    Attributes:
        steps: The solution cut at the step delimiter; joined they give its text.
        labels: For each step the share of rollouts from its end that end correct, in [0, 1]; after the last step
            nothing is left to roll out, so there it is 1 or 0.
        answer: Its extracted final answer.
        correct: Whether that equals the gold answer.
        finish: Why it ended.
        tokens: Its length in tokens of the policy.
    """

    steps: tuple[str, ...]
    labels: tuple[float, ...]
    answer: str | None
    correct: bool
    finish: Finish
    tokens: int


@dataclass(frozen=True)
class Saving:
    """What labelling a problem would have cost without sharing, beside what was shared; see `unshared`.

    Attributes:
        steps: Step prefixes that need rollouts, counted in every solution that has them.
        prefixes: How many of them are distinct: only those were rolled out.
        rollouts: Rollouts that were made.
        decode_tokens: Tokens that would have been written, had each step of each solution had rollouts of its own.
        prefill_tokens: Prompt and prefix tokens that would have been read, had each sample and rollout read its own.
    """

    steps: int = 0
    prefixes: int = 0
    rollouts: int = 0
    decode_tokens: int = 0
    prefill_tokens: int = 0

    def __add__(self, other: Saving) -> Saving:
        """Adds up two problems."""
        return Saving(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True, kw_only=True)
class LabelledProblem:
    """One problem line.

    Attributes:
        uid: The problem's identifier, unique within a file.
        prompt: The rendered prompt: what the policy read, and what a verifier will.
        question: The bare question, or None where the task has none apart.
        gold: The gold answer.
        solutions: Those with a parsable answer, in the order of their sample index.
        dropped: How many solutions had none.
        usage: What samples and rollouts cost.
        saving: What they would have cost without sharing; None in a file that others made.
    """

    uid: str
    prompt: str
    question: str | None = None
    gold: str
    solutions: tuple[LabelledSolution, ...]
    dropped: int
    usage: Usage
    saving: Saving | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the line as JSON values."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, row: Any) -> LabelledProblem:
        """Reads what `to_json` wrote; unknown keys are ignored.

        Raises:
            TtsEvalError: Names the key that is missing or wrong.
        """
        problem: LabelledProblem = from_json(cls, row)
        for i, solution in enumerate(problem.solutions):
            if len(solution.labels) != len(solution.steps):
                raise TtsEvalError(f"solutions[{i}] has {len(solution.steps)} steps but {len(solution.labels)} labels")
            if not all(0 <= label <= 1 for label in solution.labels):
                raise TtsEvalError(f"solutions[{i}].labels must be between 0 and 1, not {list(solution.labels)}")
        return problem


@final
class LabelFile(RecordFile[LabelledProblem]):
    """The one writer of a label file. A context manager; open it with `LabelFile.open`.

    Its header's run holds `policy`, `tokenizer` (`tts_eval.engines.tokens.vocabulary_hash`), `task`, `samples`,
    `rollouts`, `temperature`, `seed`, `step_delimiter`, `max_tokens` and whatever else decides the labels.
    """

    KIND = "label file"
    ELSEWHERE = "name another --output"

    @classmethod
    def record_from_json(cls, row: Any) -> LabelledProblem:
        """See `LabelledProblem.from_json`."""
        return LabelledProblem.from_json(row)


def read_labels(path: Path) -> tuple[dict[str, Any] | None, list[LabelledProblem]]:
    """Reads a label file, finished or not; a torn last line is left out.

    Returns:
        The header's `run`, what the labels were made with (None in a file without header); and the problems in file
        order.

    Raises:
        TtsEvalError: Names the file, the line and what is wrong in it.
    """
    header, problems = LabelFile.read(path)
    return (None if header is None else dict(header.run)), problems


def label_problem(
    problem: Problem,
    gold: str,
    outcome: Rollouts,
    usage: Usage,
    *,
    prompt_tokens: int,
    extract: Callable[[str], str | None],
    grade: Callable[[Sequence[tuple[str, str | None]]], Iterable[bool]],
) -> LabelledProblem:
    """Turns a finished search into labels.

    Args:
        problem: What was asked.
        gold: Its gold answer.
        outcome: Solutions and rollouts.
        usage: What they cost.
        prompt_tokens: Length of the prompt in tokens of the policy.
        extract: Finds the final answer in a text.
        grade: Says of (gold, answer) pairs whether they are equal, where no answer is wrong.
    """
    answers = [extract(solution.text) for solution in outcome.kept]
    ends = [extract(end.text) for group in outcome.rollouts.values() for end in group]
    verdicts = iter(grade([(gold, answer) for answer in (*answers, *ends)]))
    correct = [next(verdicts) for _ in answers]
    values = {tokens: sum(next(verdicts) for _ in group) / len(group) for tokens, group in outcome.rollouts.items()}
    solutions = tuple(
        LabelledSolution(
            steps=solution.steps,
            labels=(*(values[prefix.tokens] for prefix in step_prefixes(solution)), float(right)),
            answer=answer,
            correct=right,
            finish=solution.finish or "length",
            tokens=len(solution.tokens),
        )
        for solution, answer, right in zip(outcome.kept, answers, correct, strict=True)
    )
    return LabelledProblem(
        uid=problem.uid,
        prompt=problem.prompt,
        question=problem.question,
        gold=gold,
        solutions=solutions,
        dropped=len(outcome.solutions) - len(outcome.kept),
        usage=usage,
        saving=unshared(outcome, prompt_tokens),
    )


def unshared(outcome: Rollouts, prompt_tokens: int) -> Saving:
    """Counts what the plain way of labelling would have cost: nothing shared, nothing read from a cache.

    There every step of every solution has rollouts of its own, though other solutions begin with the same steps, and
    every sample and rollout reads its prompt and prefix. Rollouts that weren't made are taken to be as long as those of
    the equal prefix that were.

    Args:
        outcome: Solutions and rollouts.
        prompt_tokens: Length of the prompt in tokens of the policy.
    """
    decoded = sum(len(solution.tokens) for solution in outcome.solutions)
    read = len(outcome.solutions) * prompt_tokens
    steps = [prefix.tokens for solution in outcome.kept for prefix in step_prefixes(solution)]
    for prefix in steps:
        group = outcome.rollouts[prefix]
        decoded += sum(len(end.tokens) - len(prefix) for end in group)
        read += len(group) * (prompt_tokens + len(prefix))
    made = sum(map(len, outcome.rollouts.values()))
    return Saving(len(steps), len(outcome.rollouts), made, decoded, read)
