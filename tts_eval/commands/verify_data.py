"""What `tts-eval verify` reads: ProcessBench, label files, published step labels, and journals with scores."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tts_eval.analysis import PoolSet, load_pools
from tts_eval.analysis.calibration import JudgedSolution
from tts_eval.analysis.processbench import NO_ERROR, AnnotatedSolution, draw_questions, read_processbench
from tts_eval.answers import default_grader
from tts_eval.types import Prefix, Problem, TtsEvalError


@dataclass(frozen=True)
class LabelledSteps:
    """A solution to be scored, and what is known of it.

    Attributes:
        question: What groups the solutions of one problem.
        problem: What was asked.
        prefix: The solution.
        labels: For each step what its score should be, or None.
        correct: Whether it ends right, or None.
        first_error: In ProcessBench the index of the first wrong step, or `NO_ERROR`; None elsewhere.
    """

    question: str
    problem: Problem
    prefix: Prefix
    labels: tuple[float | None, ...]
    correct: bool | None
    first_error: int | None = None


def is_journal(path: Path) -> bool:
    """Tells a journal, or a folder that may hold some, from files of labelled steps.

    Raises:
        TtsEvalError: If the file can't be read.
    """
    return path.is_dir() or _holds(path, b"candidates")


def _holds(path: Path, field: bytes) -> bool:
    """Whether rows have a field, by the first two lines: one may be a header."""
    try:
        with path.open("rb") as file:
            return any(b'"%b":' % field in line for line in islice(file, 2))
    except OSError as error:
        raise TtsEvalError(f"{path}: {error.strerror}; check --data") from error


def read_labelled(path: Path, limit: int | None, seed: int, history: bool) -> list[LabelledSteps]:
    """Reads ProcessBench (a JSON array), or whatever `tts-eval train` reads.

    Args:
        path: The file; its content says what it is.
        limit: Only that many questions, drawn by the seed: the published files are sorted by label.
        seed: Of the draw.
        history: Whether the verifier was trained to see the attempts before one: those of a chain file have some.

    Raises:
        TtsEvalError: Names the file, the place in it and what is wrong there.
    """
    with path.open("rb") as file:
        processbench = file.read(64).lstrip().startswith(b"[")
    solutions = list(map(_annotated, read_processbench(path))) if processbench else _examples(path, history)
    if not solutions:
        raise TtsEvalError(f"{path}: holds no labelled solutions; check --data")
    if limit is None:
        return solutions
    chosen = draw_questions((solution.question for solution in solutions), limit, seed)
    return [solution for solution in solutions if solution.question in chosen]


def _annotated(solution: AnnotatedSolution) -> LabelledSteps:
    """Nobody said anything of the steps after the first error, so they have no label."""
    from tts_eval.training.data import PROMPT

    known: list[float | None] = [1.0] * len(solution.steps)
    if solution.label != NO_ERROR:
        known[solution.label :] = [0.0, *[None] * (len(solution.steps) - solution.label - 1)]
    return LabelledSteps(
        question=solution.problem,
        problem=_problem(solution.id, PROMPT.replace("{{problem}}", solution.problem), solution.problem),
        prefix=Prefix(steps=(f" {solution.steps[0]}", *solution.steps[1:])),  # as a policy goes on from the prompt
        labels=tuple(known),
        correct=solution.final_answer_correct,
        first_error=solution.label,
    )


def _examples(path: Path, history: bool) -> list[LabelledSteps]:
    from tts_eval.training.data import read_training_data

    data = read_training_data([path], history=history and _holds(path, b"chains"))
    for note in data.notes:
        print(f"tts-eval verify: {note}", file=sys.stderr)
    return [
        LabelledSteps(
            question=example.question,
            problem=_problem(example.source.removeprefix(f"{path.parent}/"), example.prompt, example.question),
            prefix=Prefix(steps=example.steps),
            labels=example.labels,
            correct=None if example.outcome is None else bool(example.outcome),
        )
        for example in data.examples
    ]


def _problem(uid: str, prompt: str, question: str) -> Problem:
    return Problem(uid, prompt, (), 1, question)


def read_judged(paths: Sequence[Path], limit: int | None, seed: int) -> list[tuple[PoolSet, list[JudgedSolution]]]:
    """Reads journals: the solutions with the scores they got during the run.

    Args:
        paths: Journals, or folders that hold some.
        limit: Only that many problems of each set, drawn by the seed.
        seed: Of the draw.

    Raises:
        TtsEvalError: If there is no gold answer, a line is malformed, or no solution has scores.
    """
    judged = []
    for pools in load_pools(paths, default_grader())[0]:
        uids = {pool.uid for pool in pools.pools}
        chosen = draw_questions(uids, len(uids) if limit is None else limit, seed)
        solutions = [
            # No search says what its steps are worth, but an outcome verifier's score should be what came out.
            JudgedSolution(pool.uid, scores, (None,) * len(scores) if candidate.step_scores else (float(right),), right)
            for pool in pools.pools
            if pool.uid in chosen
            for candidate, right in zip(pool.candidates, pool.correct.tolist(), strict=True)
            if (scores := candidate.step_scores or _outcome(candidate.outcome_score))
        ]
        if not solutions:
            raise TtsEvalError(
                f"{pools.task}, {pools.strategy}: no candidate has a score; run lm_eval with verifier= in --model_args"
            )
        judged.append((pools, solutions))
    return judged


def _outcome(score: float | None) -> tuple[float, ...]:
    return () if score is None else (score,)
