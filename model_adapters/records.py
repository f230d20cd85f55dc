"""From lm-eval's requests to our questions, from outcomes to the journal's records, from records to answers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.defaults import DEFAULT_MAX_GEN_TOKS
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import hash_string, warning_once

from tts_eval.answers import FIND_ANSWERS, default_grader, extract_answer
from tts_eval.journal import Record
from tts_eval.model_adapters.answer import Answer
from tts_eval.selection import WITHOUT_SCORES, Floats, as_classes, candidate_scores, select_chain
from tts_eval.types import Candidate, Outcome, Problem, TtsEvalError, Usage


_QUESTION_FIELDS = ("problem", "question")  # as MATH and GSM8K call it
_OTHER_PARTS = {"body", "options", "choices", "passage", "context"}  # without these such a field is half a question
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")

_PLAIN = (8, 256)  # problems and solutions without a single answer, after which one needn't wait for more to say so

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """A problem that lm-eval asks, once or several times.

    Attributes:
        task: lm-eval's task name.
        problem: All that the search may know.
        prompt_hash: lm-eval's `prompt_hash`.
        arguments: The arguments of the requests, which key lm-eval's cache.
    """

    task: str
    problem: Problem
    prompt_hash: str
    arguments: tuple[Any, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the question within a call."""
        return self.task, self.problem.uid


def default_limit(base: LM) -> int:
    """Longest solution, in tokens, where a task sets none: what the base model would take, `max_gen_toks=` of its own.

    lm-eval's clients of servers keep it to themselves, and its dummy has none.
    """
    return int(getattr(base, "max_gen_toks", getattr(base, "_max_gen_toks", DEFAULT_MAX_GEN_TOKS)))


def question_of(request: Instance, with_question: bool = False, limit: int = DEFAULT_MAX_GEN_TOKS) -> Question:
    """Reads a request: prompt, generation arguments, and of the document nothing but its `unique_id`.

    Args:
        request: What lm-eval asks.
        with_question: Whether a verifier wants the bare question: then the document's `problem` or `question` is read,
            unless other fields hold the rest of what is asked.
        limit: Longest solution, in tokens, where the request doesn't say.

    Raises:
        TtsEvalError: If the task asks for repeats.
    """
    if (request.repeats or 1) > 1:
        raise TtsEvalError(
            f"task {request.task_name} sets repeats: {request.repeats}, which would only copy the answer: set "
            "repeats: 1 in its YAML; budget= takes its place"
        )
    prompt, generation = request.args
    prompt_hash = hash_string(prompt)
    given = request.doc.get("unique_id") if isinstance(request.doc, Mapping) else None
    limits = normalize_gen_kwargs(generation, limit)
    ignored = [name for name in _SAMPLING if limits.get(name)]
    if ignored:
        names = ", ".join(ignored)
        warning_once(log, f"tts-eval: {names} of task or --gen_kwargs not used: only temperature= in --model_args is")
    problem = Problem(
        uid=str(given) if given is not None else prompt_hash,
        prompt=prompt,
        stop=tuple(str(string) for string in limits["until"] if string not in (None, "")),  # lm-eval casts `until=1`
        max_tokens=int(limits["max_gen_toks"]),
        question=_bare_question(request.doc) if with_question else None,
    )
    return Question(str(request.task_name), problem, prompt_hash, request.args)


def require_steps(questions: Iterable[Question], delimiter: str) -> None:
    """Refuses a task whose solutions end before a step delimiter can be written.

    Args:
        questions: What is asked.
        delimiter: What ends a step.

    Raises:
        TtsEvalError: If a stop string is part of the delimiter.
    """
    for question in questions:
        for stop in question.problem.stop:
            if stop in delimiter:
                raise TtsEvalError(
                    f"task {question.task} ends a solution at {stop!r}, which is part of step_delimiter={delimiter!r}, "
                    "so no step would ever end with it: choose another step_delimiter= in --model_args, or other stop "
                    "strings by --gen_kwargs until="
                )


def _bare_question(doc: Any) -> str | None:
    """The document's question; None where it has none, or another field is part of what is asked."""
    if not isinstance(doc, Mapping) or any(doc[name] for name in doc if str(name).lower() in _OTHER_PARTS):
        return None
    return next((text for name in _QUESTION_FIELDS if isinstance(text := doc.get(name), str)), None)


def questions_of(
    requests: Sequence[Instance], with_question: bool = False, limit: int = DEFAULT_MAX_GEN_TOKS
) -> dict[tuple[str, str], Question]:
    """Reads requests, each question once: on several ranks lm-eval pads with copies.

    Args:
        requests: What lm-eval asks.
        with_question: See `question_of`.
        limit: See `question_of`.

    Raises:
        TtsEvalError: If two problems of a task share a `unique_id`.
    """
    questions: dict[tuple[str, str], Question] = {}
    for question in (question_of(request, with_question, limit) for request in requests):
        first = questions.setdefault(question.key, question)
        if first.problem != question.problem:
            raise TtsEvalError(
                f"task {question.task} has two problems with unique_id {question.problem.uid}: give each its own"
            )
    return questions


def record_of(
    question: Question,
    outcome: Outcome,
    usage: Usage,
    identity: Mapping[str, Any],
    kind: Literal["process", "outcome"] | None = None,
) -> Record:
    """Makes the journal's record of a finished search.

    Args:
        question: What was asked.
        outcome: What the search returned.
        usage: What it cost.
        identity: The run's identity, with `strategy`, `budget` and `seed`.
        kind: Of the verifier, if there was one.
    """
    fallback = identity["strategy"].get("answer_fallback")
    scores = outcome.step_scores or [None] * len(outcome.finals)
    candidates = tuple(
        Candidate(
            text=final.text,
            answer=extract_answer(final.text, fallback),
            steps=final.steps,
            step_scores=None if kind == "outcome" else step_scores,
            outcome_score=step_scores[0] if kind == "outcome" and step_scores else None,
            logprob=final.logprob,
            tokens=final.token_count,
            finish=final.finish or "length",
            chain=index // outcome.length,
            attempt=index % outcome.length,
        )
        for index, (final, step_scores) in enumerate(zip(outcome.finals, scores, strict=True))
    )
    return Record(
        uid=question.problem.uid,
        task=question.task,
        strategy=identity["strategy"],
        budget=identity["budget"],
        seed=identity["seed"],
        candidates=candidates,
        usage=usage,
        prompt_hash=question.prompt_hash,
    )


class Unanswered:
    """Warns, once a task, where no solution at all states an answer: votes count nothing then, and all is wrong."""

    def __init__(self) -> None:
        self._problems: Counter[str] = Counter()  # without an answer, by task
        self._solutions: Counter[str] = Counter()
        self._settled: set[str] = set()

    def see(self, record: Record) -> None:
        """Takes note of a problem's candidates."""
        if record.task in self._settled:
            return
        if any(candidate.answer is not None for candidate in record.candidates):
            self._settled.add(record.task)
            return
        self._problems[record.task] += 1
        self._solutions[record.task] += len(record.candidates)
        problems, solutions = _PLAIN
        if self._problems[record.task] >= problems and self._solutions[record.task] >= solutions:
            self._warn(record.task)

    def close(self) -> None:
        """Says it of the tasks that were too small to have it said on the way."""
        for task in self._problems:
            if task not in self._settled:
                self._warn(task)

    def _warn(self, task: str) -> None:
        self._settled.add(task)
        log.warning(
            "tts-eval: none of %d solutions of task %s states an answer, so there is nothing to vote on, and tts-eval "
            "select will find them wrong: %s",
            self._solutions[task],
            task,
            FIND_ANSWERS,
        )


def answer_of(record: Record, selection: str, aggregation: str) -> Answer:
    """Selects among a record's candidates, late.

    Where none has an answer, its text is that of the highest score if the selection looks at scores, else the first.

    Args:
        record: A problem's candidates.
        selection: How the answer is chosen.
        aggregation: How step scores become one score.

    Raises:
        TtsEvalError: If the selection needs scores that the record doesn't hold.
    """
    classes = as_classes(default_grader().group([candidate.answer for candidate in record.candidates]))
    chains = np.array([candidate.chain for candidate in record.candidates])
    scores = candidate_scores(record.candidates, aggregation)
    chosen = select_chain(classes, scores, chains, selection)
    # Without any answer there is nothing to vote on, but a text must be returned: code and prose have no answers.
    returned = chosen if chosen is not None else 0 if selection in WITHOUT_SCORES else _highest(scores)
    text = record.candidates[returned].text
    candidates = [{"answer": candidate.answer, "tokens": candidate.tokens} for candidate in record.candidates]
    meta = {"uid": record.uid, "budget": record.budget, "selected": chosen, "candidates": candidates}
    return Answer(text, {**meta, "usage": asdict(record.usage)})


def _highest(scores: Floats | None) -> int:
    """The first candidate with the highest score; the first of all where none has one."""
    return 0 if scores is None or np.isnan(scores).all() else int(np.nanargmax(scores))
