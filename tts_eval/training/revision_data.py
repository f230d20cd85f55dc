"""From files of pairs or chains to what a model learns to revise from (section 4)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tts_eval.engines.tokens import encode
from tts_eval.jsonl import Header
from tts_eval.revision import revision_prompt
from tts_eval.revisions import ChainedProblem, ChainFile, Pair, PairedProblem, PairFile, rest_em_pairs
from tts_eval.schema import from_json
from tts_eval.training.batches import Encoded
from tts_eval.training.data import question_of
from tts_eval.types import Problem, TtsEvalError


Recipe = Literal["pairs", "rest-em"]
"""What a model learns to revise from."""

Keep = float | Literal["on_policy"]
"""Which attempts in contexts are correct: a share, or as many as were among the policy's own at the question."""


@dataclass(frozen=True, slots=True)
class RevisionQuestion:
    """A question with its pairs.

    Attributes:
        question: What the split goes by, see `TrainingExample`.
        problem: What the policy is asked.
        gold: The gold answer.
        pairs: Attempts before a correct solution, and that solution; none where no sample was correct.
        solved: Share of the policy's samples, those without an answer left out, that were correct.
    """

    question: str
    problem: Problem
    gold: str
    pairs: tuple[Pair, ...]
    solved: float


@dataclass(frozen=True, slots=True)
class RevisionRun:
    """How attempts were made, from a file's header; all files of a training have it in common.

    Attributes:
        tokenizer: The policy's, see `vocabulary_hash`.
        step_delimiter: What ends a step.
        stop: Strings that end a solution.
        max_tokens: Longest solution.
        answer_fallback: How to find an answer that isn't boxed, see `extract_answer`.
        separator: What follows each attempt in a prompt; None in a pair file.
        window: How many of the latest attempts the next one saw; None in a pair file.
    """

    tokenizer: str
    step_delimiter: str
    stop: tuple[str, ...]
    max_tokens: int
    answer_fallback: str | None = None
    separator: str | None = None
    window: int | None = None


@dataclass(frozen=True)
class RevisionData:
    """What several files hold.

    Attributes:
        questions: All, in file order.
        run: How their attempts were made.
    """

    questions: Sequence[RevisionQuestion]
    run: RevisionRun


def read_revision_data(paths: Sequence[Path], recipe: Recipe) -> RevisionData:
    """Reads pair files (`tts-eval revisions build`), or for ReST-EM chain files (`tts-eval revisions chains`).

    A last line that a crash cut short is left out.

    Args:
        paths: The files.
        recipe: Which of the two.

    Raises:
        TtsEvalError: If a file is of another kind, a line is malformed, or the files were made in different ways.
    """
    questions: list[RevisionQuestion] = []
    runs: list[RevisionRun] = []
    for path in paths:
        header, problems = _read(path, recipe)
        if header is None:
            raise TtsEvalError(f"{path}: has no header, which says how its attempts were made; check --data")
        runs.append(from_json(RevisionRun, dict(header.run), f"{path}:1: run"))
        if runs[-1] != runs[0]:
            raise TtsEvalError(
                f"--data: {path} was made in another way than {paths[0]} ({runs[-1]}, {runs[0]}): train on either"
            )
        questions += [_question(problem, runs[-1]) for problem in problems]
    return RevisionData(questions, runs[0])


def _read(path: Path, recipe: Recipe) -> tuple[Header | None, Sequence[PairedProblem] | Sequence[ChainedProblem]]:
    kind: type[PairFile] | type[ChainFile] = PairFile if recipe == "pairs" else ChainFile
    try:
        return kind.read(path)
    except TtsEvalError as error:
        raise TtsEvalError(f"{error} (--recipe {recipe} takes a {kind.KIND})") from error


def _question(problem: PairedProblem | ChainedProblem, run: RevisionRun) -> RevisionQuestion:
    if isinstance(problem, PairedProblem):
        correct, answered = problem.correct, problem.correct + problem.incorrect
    else:
        attempts = [attempt for chain in problem.chains for attempt in chain if attempt.answer is not None]
        correct, answered = sum(attempt.correct for attempt in attempts), len(attempts)
    return RevisionQuestion(
        question=question_of(problem.question, problem.prompt),
        problem=Problem(problem.uid, problem.prompt, run.stop, run.max_tokens, problem.question),
        gold=problem.gold,
        pairs=problem.pairs if isinstance(problem, PairedProblem) else rest_em_pairs(problem),
        solved=correct / max(1, answered),
    )


def keep_some(questions: Sequence[RevisionQuestion], keep: Keep, seed: int) -> list[RevisionQuestion]:
    """Puts the target into the place of some attempts, so that a model also learns to keep what is right.

    Not in the paper, whose contexts hold incorrect attempts only: there a model that sees a correct attempt has only
    ever learnt to write something else, and turned 38 % of them into incorrect ones.

    Args:
        questions: With their pairs.
        keep: Probability that an attempt is replaced. With `on_policy` a model learns to keep easy answers and to
            change hard ones, since the share of the policy's attempts that are correct is the question's own.
        seed: With the question it decides which.
    """
    kept = []
    for question in questions:
        rng = random.Random(f"{seed} {question.question}")
        share = question.solved if keep == "on_policy" else keep
        pairs = []
        for pair in question.pairs:
            context = tuple(pair.target if rng.random() < share else attempt for attempt in pair.context)
            pairs.append(Pair(context, pair.target, 0 if context[-1:] == (pair.target,) else pair.distance))
        kept.append(replace(question, pairs=tuple(pairs)))
    return kept


def encode_pairs(
    questions: Sequence[RevisionQuestion], tokenizer: Any, *, separator: str, window: int
) -> list[Encoded]:
    """Tokenises pairs: the prompt as an engine does it, then the target by itself, and the end token.

    The labels are at the target's tokens and the end token, nowhere else. Pairs whose target the tokenizer can't write
    are left out: a policy may put tokens together to a text that it would itself read otherwise.

    Args:
        questions: With their pairs.
        tokenizer: The model's; it has an end token.
        separator: What follows each attempt.
        window: How many of the latest attempts a prompt holds at most.
    """
    encoded = []
    for question in questions:
        for pair in question.pairs:
            prompt = revision_prompt(question.problem.prompt, pair.context[-window:], separator)
            before = encode(tokenizer, prompt)
            target = tokenizer(pair.target, add_special_tokens=False)["input_ids"]
            if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in target:
                continue
            ids = np.array([*before, *target, tokenizer.eos_token_id], dtype=np.int32)
            ends = np.arange(len(before), len(ids), dtype=np.int32)
            encoded.append(Encoded(ids, len(before), ends, np.ones(len(ends), np.float32), question.question))
    return encoded
