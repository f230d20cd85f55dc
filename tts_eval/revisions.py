"""What revision models and their verifiers are trained on: pairs made from parallel samples, and graded chains.

A pair has incorrect attempts in its context and a correct solution as its target (Snell et al. 2024, section 4). Both
are made from finished searches, gold answer in hand. docs/revisions.md has the formats.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from rapidfuzz.distance import Levenshtein

from tts_eval.jsonl import SCHEMA, RecordFile
from tts_eval.schema import from_json
from tts_eval.types import Finish, Outcome, Problem, Usage


MOST_IN_CONTEXT = 4
"""The paper's: incorrect attempts in a context, at most."""

Extract = Callable[[str], str | None]
"""Finds the final answer in a text."""

Grade = Callable[[Sequence[tuple[str, str | None]]], Iterable[bool]]
"""Says of (gold, answer) pairs whether they are equal, where no answer is wrong."""


@dataclass(frozen=True)
class Pair:
    """One training example.

    Attributes:
        context: Incorrect attempts, the oldest first; the nearest to the target is the last.
        target: A correct solution.
        distance: Character edit distance of the last of `context` to `target`; None without context.
    """

    context: tuple[str, ...]
    target: str
    distance: int | None = None


@dataclass(frozen=True, kw_only=True)
class PairedProblem:
    """One problem line of a pair file.

    Attributes:
        uid: The problem's identifier, unique within a file.
        prompt: The rendered prompt, without any attempt.
        question: The bare question, or None where the task has none apart.
        gold: The gold answer.
        pairs: In the order of their targets' sample index; none without a correct sample.
        correct: How many samples were correct.
        incorrect: How many had another answer.
        dropped: How many had none.
        usage: What the samples cost.
    """

    uid: str
    prompt: str
    question: str | None = None
    gold: str
    pairs: tuple[Pair, ...]
    correct: int
    incorrect: int
    dropped: int
    usage: Usage

    def to_json(self) -> dict[str, Any]:
        """Returns the line as JSON values."""
        return {"schema": SCHEMA, **asdict(self)}


@dataclass(frozen=True)
class Attempt:
    """One solution of a chain.

    Attributes:
        steps: The solution cut at the step delimiter; joined they give its text.
        answer: Its extracted final answer, or None where it has none.
        correct: Whether that equals the gold answer.
        finish: Why it ended.
        tokens: Its length in tokens of the policy, or None where the engine can't tell.
    """

    steps: tuple[str, ...]
    answer: str | None
    correct: bool
    finish: Finish
    tokens: int | None

    @property
    def text(self) -> str:
        """The whole solution."""
        return "".join(self.steps)


@dataclass(frozen=True, kw_only=True)
class ChainedProblem:
    """One problem line of a chain file.

    Attributes:
        uid: The problem's identifier, unique within a file.
        prompt: The rendered prompt, without any attempt.
        question: The bare question, or None where the task has none apart.
        gold: The gold answer.
        chains: Attempts of a revision model, the first first; all chains have the same length.
        usage: What they cost.
    """

    uid: str
    prompt: str
    question: str | None = None
    gold: str
    chains: tuple[tuple[Attempt, ...], ...]
    usage: Usage

    def to_json(self) -> dict[str, Any]:
        """Returns the line as JSON values."""
        return {"schema": SCHEMA, **asdict(self)}


@final
class PairFile(RecordFile[PairedProblem]):
    """The one writer of a pair file. A context manager; open it with `PairFile.open`.

    Its header's run holds `policy`, `tokenizer` (`tts_eval.engines.tokens.vocabulary_hash`), `task`, `split`,
    `samples`, `most_pairs`, `temperature`, `seed`, `step_delimiter`, `max_tokens` and whatever else decides the pairs.
    """

    KIND = "revision pair file"
    ELSEWHERE = "name another --output"

    @classmethod
    def record_from_json(cls, row: Any) -> PairedProblem:
        """Reads what `PairedProblem.to_json` wrote; unknown keys are ignored.

        Raises:
            TtsEvalError: Names the key that is missing or wrong.
        """
        problem: PairedProblem = from_json(PairedProblem, row)
        return problem


@final
class ChainFile(RecordFile[ChainedProblem]):
    """The one writer of a chain file. A context manager; open it with `ChainFile.open`.

    Its header's run holds what that of a `PairFile` holds, with `chains`, `length`, `window` and `separator` instead of
    `samples` and `most_pairs`.
    """

    KIND = "revision chain file"
    ELSEWHERE = "name another --output"

    @classmethod
    def record_from_json(cls, row: Any) -> ChainedProblem:
        """Reads what `ChainedProblem.to_json` wrote; unknown keys are ignored.

        Raises:
            TtsEvalError: Names the key that is missing or wrong.
        """
        problem: ChainedProblem = from_json(ChainedProblem, row)
        return problem


def make_pairs(correct: Sequence[str], incorrect: Sequence[str], rng: random.Random) -> tuple[Pair, ...]:
    """Pairs each correct solution with incorrect ones, as the paper does (section 4).

    The context has n ~ Uniform{0..4} attempts, fewer where there are no more incorrect ones. The last is the nearest of
    all incorrect ones (the first of them, if several are), the others are drawn without replacement from the rest.

    Args:
        correct: Correct solutions of one problem; equal ones are paired one by one.
        incorrect: Incorrect solutions of it.
        rng: Decides n and the draws.

    Returns:
        One pair for each correct solution, in their order.
    """
    return tuple(_pair(target, incorrect, rng) for target in correct)


def _pair(target: str, incorrect: Sequence[str], rng: random.Random) -> Pair:
    size = min(rng.randint(0, MOST_IN_CONTEXT), len(incorrect))
    if not size:
        return Pair((), target)
    distances = [Levenshtein.distance(attempt, target) for attempt in incorrect]
    nearest = distances.index(min(distances))
    others = rng.sample([*incorrect[:nearest], *incorrect[nearest + 1 :]], size - 1)
    return Pair((*others, incorrect[nearest]), target, distances[nearest])


def pair_problem(
    problem: Problem,
    gold: str,
    outcome: Outcome,
    usage: Usage,
    *,
    seed: int,
    most_pairs: int | None = None,
    extract: Extract,
    grade: Grade,
) -> PairedProblem:
    """Turns the samples of a finished search into pairs.

    Args:
        problem: What was asked.
        gold: Its gold answer.
        outcome: Parallel samples.
        usage: What they cost.
        seed: With the problem's uid it decides the pairs, so those depend on no other problem.
        most_pairs: Keep so many pairs, drawn at random; None keeps all.
        extract: See `Extract`.
        grade: See `Grade`.
    """
    texts = [final.text for final in outcome.finals]
    answers = [extract(text) for text in texts]
    verdicts = list(grade([(gold, answer) for answer in answers]))
    correct = [text for text, right in zip(texts, verdicts, strict=True) if right]
    parsed = [(text, right) for text, answer, right in zip(texts, answers, verdicts, strict=True) if answer is not None]
    incorrect = [text for text, right in parsed if not right]
    rng = random.Random(f"{seed} {problem.uid}")
    pairs = make_pairs(correct, incorrect, rng)
    if most_pairs is not None and len(pairs) > most_pairs:
        pairs = tuple(pairs[index] for index in sorted(rng.sample(range(len(pairs)), most_pairs)))
    return PairedProblem(
        uid=problem.uid,
        prompt=problem.prompt,
        question=problem.question,
        gold=gold,
        pairs=pairs,
        correct=len(correct),
        incorrect=len(incorrect),
        dropped=len(texts) - len(parsed),
        usage=usage,
    )


def chain_problem(
    problem: Problem, gold: str, outcome: Outcome, usage: Usage, *, extract: Extract, grade: Grade
) -> ChainedProblem:
    """Grades the chains of a finished search (`tts_eval.search.revise`).

    Args:
        problem: What was asked.
        gold: Its gold answer.
        outcome: Chains of revisions.
        usage: What they cost.
        extract: See `Extract`.
        grade: See `Grade`.
    """
    answers = [extract(final.text) for final in outcome.finals]
    verdicts = grade([(gold, answer) for answer in answers])
    attempts = [
        Attempt(final.steps, answer, right, final.finish or "length", final.token_count)
        for final, answer, right in zip(outcome.finals, answers, verdicts, strict=True)
    ]
    starts = range(0, len(attempts), outcome.length)
    return ChainedProblem(
        uid=problem.uid,
        prompt=problem.prompt,
        question=problem.question,
        gold=gold,
        chains=tuple(tuple(attempts[start : start + outcome.length]) for start in starts),
        usage=usage,
    )


def rest_em_pairs(problem: ChainedProblem) -> tuple[Pair, ...]:
    """The pairs of the ReST-EM variant, which the paper found to hurt (section 4).

    Of each chain the first five attempts count, up to the first correct one: that is the target, and all before it are
    its context, those without an answer included, since the model saw them. A chain without a correct one gives none.

    Args:
        problem: Chains of the model that is trained on.

    Returns:
        At most one pair a chain, in the order of the chains.
    """
    pairs = []
    for chain in problem.chains:
        graded = chain[: MOST_IN_CONTEXT + 1]
        first = next((index for index, attempt in enumerate(graded) if attempt.correct), None)
        if first is not None:
            context = tuple(attempt.text for attempt in graded[:first])
            target = graded[first].text
            pairs.append(Pair(context, target, Levenshtein.distance(context[-1], target) if context else None))
    return tuple(pairs)
