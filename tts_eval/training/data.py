"""From files to training examples of a verifier: our label files and chain files, and the rows that others publish.

docs/training.md describes the formats; which one a file has is read off its first row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tts_eval.jsonl import cut_torn_tail
from tts_eval.labels import LabelFile, LabelledProblem
from tts_eval.revision import revision_prompt
from tts_eval.revisions import ChainFile
from tts_eval.schema import from_json
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


def read_training_data(
    paths: Sequence[Path], *, prompt: str = PROMPT, neutral: float = 1.0, history: bool = False
) -> TrainingData:
    """Reads label files, chain files, PRM800K (.jsonl as published, or .parquet) and Math-Shepherd (.jsonl).

    A last line that a crash cut short is left out, and a note says so.

    Args:
        paths: The files.
        prompt: The prompt of published rows; `{{problem}}` in it stands for the question.
        neutral: The label of a step that a human rated neutral. 1 is PRM800K's authors' reading; good steps get 1 and
            bad ones 0.
        history: Whether the prompt of an attempt in a chain holds those before it, as the policy's did; then all files
            must be chain files.

    Raises:
        TtsEvalError: Names file, line and what is wrong there.
    """
    examples: list[TrainingExample] = []
    headers: dict[Path, Mapping[str, Any]] = {}
    notes: list[str] = []
    for path in paths:
        content = b"" if path.suffix == ".parquet" else _whole_lines(path, notes)
        if _holds_chains(path, content):
            headers[path], found = _chain_examples(content, path, history)
            examples += found
        elif history:
            raise TtsEvalError(
                f"{path}: has no chains, so nothing has a history: --history takes files of tts-eval revisions chains"
            )
        elif not content:
            examples += _published(prm800k_table(path), prompt, neutral)
        elif (parse := _rows_of(path, content)) is not None:
            examples += _published(_rated(path, content, parse), prompt, neutral)
        else:
            header, problems = LabelFile.parse(content, path)
            if header is not None:
                headers[path] = header.run
            for line, problem in enumerate(problems, start=1 if header is None else 2):
                examples += _labelled(problem, f"{path}:{line}")
    return TrainingData(examples, headers, notes)


def _labelled(problem: LabelledProblem, source: str) -> list[TrainingExample]:
    question = question_of(problem.question, problem.prompt)
    return [
        TrainingExample(question, problem.prompt, one.steps, one.labels, float(one.correct), source)
        for one in problem.solutions
    ]


@dataclass(frozen=True)
class _Shown:
    """What a policy saw before each attempt, from a chain file's header."""

    window: int
    separator: str


def _holds_chains(path: Path, content: bytes) -> bool:
    rows = [_load(path, number, line) for number, line in enumerate(content.splitlines()[:2], start=1)]
    return any(isinstance(row, dict) and isinstance(row.get("chains"), list) for row in rows)


def _chain_examples(content: bytes, path: Path, history: bool) -> tuple[Mapping[str, Any], list[TrainingExample]]:
    """A chain file's header, and all attempts with an answer; nothing is known of their steps.

    One without an answer can't win, whatever its score; but it is in the history of those after it.
    """
    header, problems = ChainFile.parse(content, path)
    if header is None:
        raise TtsEvalError(f"{path}: has no header, which says what each attempt saw; check --data")
    shown: _Shown = from_json(_Shown, dict(header.run), f"{path}:1: run")
    examples = []
    for line, problem in enumerate(problems, start=2):
        question = question_of(problem.question, problem.prompt)
        for chain in problem.chains:
            for index, attempt in enumerate(chain):
                if attempt.answer is None:
                    continue
                before = [one.text for one in chain[max(0, index - shown.window) : index]] if history else ()
                prompt = revision_prompt(problem.prompt, before, shown.separator)
                labels, source = (None,) * len(attempt.steps), f"{path}:{line}"
                examples.append(
                    TrainingExample(question, prompt, attempt.steps, labels, float(attempt.correct), source)
                )
    return header.run, examples


def question_of(question: str | None, prompt: str) -> str:
    """What the split goes by: the bare question, or the prompt where there is none apart."""
    return " ".join((question or prompt).split())


class _OfQuestion(Protocol):
    @property
    def question(self) -> str: ...


_Example = TypeVar("_Example", bound=_OfQuestion)


def split_by_question(examples: Sequence[_Example], share: float) -> tuple[list[_Example], list[_Example]]:
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
    questions = sorted({example.question for example in examples}, key=hash_of)
    held_out = set(questions[: max(1, round(share * len(questions)))])
    if len(held_out) == len(questions):
        raise TtsEvalError(
            f"the data have {len(questions)} question(s), too few to train on some and to validate on others: give more"
        )
    return (
        [example for example in examples if example.question not in held_out],
        [example for example in examples if example.question in held_out],
    )


def hash_of(question: str) -> bytes:
    """An order of questions that has nothing to do with what they ask."""
    return hashlib.sha256(question.encode()).digest()


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
        f"{path}:1: neither a label file (tts-eval label), a chain file (tts-eval revisions chains) nor rows of "
        "PRM800K or Math-Shepherd; docs/training.md has the formats"
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
            question=question_of(path.question, rendered),
            prompt=rendered,
            steps=(first, *path.steps[1:]),
            labels=path.labels,
            outcome=path.outcome,
            source=path.source,
        )
