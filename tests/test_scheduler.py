"""The scheduler and the searches on scripted engines and verifiers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tts_eval.scheduler import Scheduler
from tts_eval.search import best_of_n
from tts_eval.types import Outcome, Prefix, Problem, Sample, Score, Search, TtsEvalError, Usage


class ScriptedEngine:
    """Writes each solution's own address, and answers in a random order, a few requests at a time."""

    tokens_written = None

    def __init__(self, seed: int = 0):
        self.random = random.Random(seed)
        self.queue: list[tuple[int, Problem, Sample]] = []
        self.most_waiting = 0

    def check(self, problem: Problem) -> None: ...
    def release(self, ticket: int) -> None: ...

    def submit(self, ticket: int, problem: Problem, request: Sample) -> None:
        self.queue.append((ticket, problem, request))
        self.most_waiting = max(self.most_waiting, len(self.queue))

    def poll(self) -> list[tuple[int, tuple[Prefix, ...], Usage]]:
        self.random.shuffle(self.queue)
        taken, self.queue = self.queue[:3], self.queue[3:]
        return [(ticket, self.extend(p, request), Usage(decode_tokens=request.n)) for ticket, p, request in taken]

    @staticmethod
    def extend(problem: Problem, request: Sample) -> tuple[Prefix, ...]:
        finish = "eos" if request.until == "end" else None
        return tuple(
            Prefix((*parent.path, child), (*parent.steps, f"{problem.uid}.{child} "), finish=finish)
            for parent in request.prefixes
            for child in range(request.n)
        )


class ScriptedVerifier:
    """Scores a step by the last digit in it."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> list[tuple[tuple[float, ...], Usage]]:
        self.batches.append(len(items))
        return [
            (tuple(int(step.strip()[-1]) / 10 for step in prefix.steps), Usage(verifier_tokens=len(prefix.steps)))
            for _, prefix in items
        ]


PROBLEMS = [Problem(f"p{index}", f"prompt {index}", (), 10) for index in range(40)]


def two_steps() -> Search:
    """Extends the better of two first steps."""
    first = yield Sample((Prefix(),), 2, "step")
    scores = yield Score(first)
    best = max(zip(scores, first, strict=True))[1]
    finals = yield Sample((best,), 3, "end")
    return Outcome(finals, (yield Score(finals)), generations=3)


def results(in_flight: int, seed: int) -> dict[str, tuple[Outcome, Usage]]:
    scheduler = Scheduler(ScriptedEngine(seed), ScriptedVerifier(), in_flight=in_flight)
    done = (item for item in scheduler.run((problem, two_steps()) for problem in PROBLEMS) if item is not None)
    return {problem.uid: (outcome, replace(usage, seconds=0.0)) for problem, outcome, usage in done}


@pytest.mark.parametrize("in_flight", [1, 7, 64])
def test_outcomes_do_not_depend_on_what_else_runs(in_flight: int) -> None:
    found = results(in_flight, seed=in_flight)
    assert sorted(found) == sorted(problem.uid for problem in PROBLEMS)
    for uid, (outcome, usage) in found.items():
        assert [final.text for final in outcome.finals] == [f"{uid}.1 {uid}.{child} " for child in range(3)]
        assert outcome.step_scores == ((0.1, 0.0), (0.1, 0.1), (0.1, 0.2))
        assert usage == Usage(generations=3, decode_tokens=5, verifier_tokens=8)


def test_in_flight_bounds_what_waits_in_the_engine() -> None:
    engine = ScriptedEngine()
    list(Scheduler(engine, in_flight=4).run((problem, best_of_n(2, scored=False)) for problem in PROBLEMS))
    assert engine.most_waiting == 4


def test_requests_of_several_searches_are_scored_together_once_they_are_worth_a_pass() -> None:
    verifier = ScriptedVerifier()
    list(Scheduler(ScriptedEngine(), verifier).run((problem, best_of_n(4, scored=True)) for problem in PROBLEMS))
    assert verifier.batches == [
        72,
        72,
        16,
    ]  # the engine answers three requests at a time; the last had nothing to wait for


def test_best_of_n_asks_for_n_whole_solutions_and_scores_each() -> None:
    search = best_of_n(3, scored=True)
    assert next(search) == Sample((Prefix(),), 3, "end")
    finals = ScriptedEngine.extend(PROBLEMS[0], Sample((Prefix(),), 3, "end"))
    assert search.send(finals) == Score(finals)
    with pytest.raises(StopIteration) as done:
        search.send(((0.1,), (0.2,), (0.3,)))
    assert done.value.value == Outcome(finals, ((0.1,), (0.2,), (0.3,)), generations=3)


def test_a_score_without_a_verifier_says_what_is_missing() -> None:
    with pytest.raises(TtsEvalError, match="verifier="):
        list(Scheduler(ScriptedEngine()).run([(PROBLEMS[0], best_of_n(2, scored=True))]))


def test_what_is_done_is_yielded_before_a_later_error() -> None:
    class Failing(ScriptedEngine):
        def poll(self) -> list[tuple[int, tuple[Prefix, ...], Usage]]:
            if len(self.queue) < 35:
                raise TtsEvalError("the engine gave up")
            return super().poll()

    done = []
    with pytest.raises(TtsEvalError, match="gave up"):
        for item in Scheduler(Failing()).run((problem, best_of_n(2, scored=False)) for problem in PROBLEMS):
            done += [item] if item else []
    assert len(done) == 6
