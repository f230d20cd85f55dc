"""From files of labelled steps to training examples: our label files, and the rows that others publish.

docs/training.md describes the formats; which one a file has is read off its first row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tts_eval.jsonl import cut_torn_tail
from tts_eval.labels import LabelFile
from tts_eval.training.published import RatedStep, math_shepherd_steps, prm800k_steps, prm800k_table, rated_paths
from tts_eval.types import TtsEvalError


PROMPT = """\
Solve the following math problem step by step. Leave a blank line between steps and write the final answer in \\boxed{}.

Problem: {{problem}}

Solution:"""
"""What our tasks ask a policy: the prompt of published rows, which come without one."""


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A solution with labels.

    Attributes:
        question: What the split goes by: the bare question, or the prompt where there is none apart.
        prompt: What the policy read.
        steps: The solution's steps.
        labels: For each step a value in [0, 1], or None where it has none.
        outcome: 1 or 0: whether the solution ends right; None where the data don't say.
        source: Where it comes from, as `file:line`.
    """

    question: str
    prompt: str
    steps: tuple[str, ...]
    labels: tuple[float | None, ...]
    outcome: float | None
    source: str


@dataclass(frozen=True)
class TrainingData:
    """What several files hold.

    Attributes:
        examples: All solutions, in file order.
        headers: How labels were made, by label file; files without a header are absent.
        notes: What the user should know, a line each.
    """

    examples: Sequence[TrainingExample]
    headers: Mapping[Path, Mapping[str, Any]]
    notes: Sequence[str]


def read_training_data(paths: Sequence[Path], *, prompt: str = PROMPT, neutral: float = 1.0) -> TrainingData:
    """Reads label files, PRM800K (.jsonl as published, or .parquet) and Math-Shepherd (.jsonl).

    A last line that a crash cut short is left out, and a note says so.

    Args:
        paths: The files.
        prompt: The prompt of published rows; `{{problem}}` in it stands for the question.
        neutral: The label of a step that a human rated neutral. 1 is PRM800K's authors' reading; good steps get 1 and
            bad ones 0.

    Raises:
        TtsEvalError: Names file, line and what is wrong there.
    """
    examples: list[TrainingExample] = []
    headers: dict[Path, Mapping[str, Any]] = {}
    notes: list[str] = []
    for path in paths:
        if path.suffix == ".parquet":
            examples += _published(prm800k_table(path), prompt, neutral)
            continue
        content = _whole_lines(path, notes)
        parse = _rows_of(path, content)
        if parse is not None:
            examples += _published(_rated(path, content, parse), prompt, neutral)
            continue
        header, problems = LabelFile.parse(content, path)
        if header is not None:
            headers[path] = header.run
        for line, problem in enumerate(problems, start=1 if header is None else 2):
            examples += [
                TrainingExample(
                    question=" ".join((problem.question or problem.prompt).split()),
                    prompt=problem.prompt,
                    steps=solution.steps,
                    labels=solution.labels,
                    outcome=float(solution.correct),
                    source=f"{path}:{line}",
                )
                for solution in problem.solutions
            ]
    return TrainingData(examples, headers, notes)


def split_by_question(
    examples: Sequence[TrainingExample], share: float
) -> tuple[list[TrainingExample], list[TrainingExample]]:
    """Holds out a share of the questions, at least one: those whose hashes are lowest.

    So the split depends on no seed, no order and no solution, and new questions move few old ones across.

    Args:
        examples: At least one.
        share: Of the questions, between 0 and 1.

    Returns:
        The examples to train on, and those to validate on.

    Raises:
        TtsEvalError: If nothing is left to train on.
    """
    questions = sorted({example.question for example in examples}, key=lambda q: hashlib.sha256(q.encode()).digest())
    held_out = set(questions[: max(1, round(share * len(questions)))])
    if len(held_out) == len(questions):
        raise TtsEvalError(
            f"the data have {len(questions)} question(s), too few to train on some and to validate on others: give more"
        )
    return (
        [example for example in examples if example.question not in held_out],
        [example for example in examples if example.question in held_out],
    )


def _whole_lines(path: Path, notes: list[str]) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TtsEvalError(f"{path}: {error.strerror}; check --data") from error
    whole = cut_torn_tail(content)
    if len(whole) < len(content):
        notes.append(f"{path}: its last line is cut short and left out")
    if not whole.strip():
        raise TtsEvalError(f"{path}: holds no whole line; check --data")
    return whole


def _rows_of(path: Path, content: bytes) -> Callable[[Any], Iterator[RatedStep]] | None:
    """What reads a row of a published file; None for a label file."""
    row = _load(path, 1, content.splitlines()[0])
    if isinstance(row, dict):
        if "run" in row or "solutions" in row:
            return None
        if isinstance(row.get("input"), str):
            return math_shepherd_steps
        if "question" in row and "label" in row:
            return prm800k_steps
    raise TtsEvalError(
        f"{path}:1: neither a label file (tts-eval label) nor rows of PRM800K or Math-Shepherd; docs/training.md has "
        "the formats"
    )


def _rated(path: Path, content: bytes, parse: Callable[[Any], Iterator[RatedStep]]) -> Iterator[tuple[str, RatedStep]]:
    for number, line in enumerate(content.splitlines(), start=1):
        row = _load(path, number, line)
        try:
            steps = list(parse(row))
        except TtsEvalError as error:
            raise TtsEvalError(f"{path}:{number}: {error}; mend or delete the line") from error
        for step in steps:
            yield f"{path}:{number}", step


def _load(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise TtsEvalError(f"{path}:{number}: not JSON: {error}; mend or delete the line") from error


def _published(rated: Iterator[tuple[str, RatedStep]], prompt: str, neutral: float) -> Iterator[TrainingExample]:
    for path in rated_paths(rated, neutral):
        rendered = prompt.replace("{{problem}}", path.question)
        # A policy goes on from "Solution:" with a space.
        first = path.steps[0] if rendered[-1:].isspace() else f" {path.steps[0]}"
        yield TrainingExample(
            question=" ".join(path.question.split()),
            prompt=rendered,
            steps=(first, *path.steps[1:]),
            labels=path.labels,
            outcome=path.outcome,
            source=path.source,
        )
