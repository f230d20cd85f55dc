"""Decides whether answers are equal: by text where that is enough, else by sympy in processes that can be killed."""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from tts_eval.answers.fast import decide
from tts_eval.answers.keys import Key, compatible
from tts_eval.answers.normalize import clean, for_sympy
from tts_eval.answers.process import WorkerProcess


_Question = TypeVar("_Question")
_Reply = TypeVar("_Reply")
_Keys = dict[str, Future[Key | None]]


@dataclass(frozen=True, slots=True)
class GradingCounts:
    """How many distinct pairs were decided in which way, without those that `group` rules out.

    Attributes:
        fast: By their text.
        slow: By sympy.
        undecided: Not: sympy took too long or ran out of memory. Graded as unequal.
        too_long: Not: an answer was longer than the limit, and not the same text. Graded as unequal.
    """

    fast: int = 0
    slow: int = 0
    undecided: int = 0
    too_long: int = 0


class Grader:
    """Grades answers against gold answers. Thread-safe; a context manager that ends its workers.

    Each distinct pair (after clean-up of layout and units) is decided once and remembered for the life of the grader.

    Args:
        workers: Processes that may run sympy at once. Each is started when first needed; two, so that a hostile answer
            doesn't hold up the others.
        timeout: Seconds that sympy may take for one pair; beyond it the pair is unequal.
        max_length: Longest answer, in characters, that is compared other than as a string.
    """

    def __init__(self, workers: int = 2, timeout: float = 5.0, max_length: int = 1000) -> None:
        self.max_length = max_length
        self._idle = deque(WorkerProcess(timeout) for _ in range(workers))
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="grader")
        self._lock = threading.Lock()
        # Verdicts that are known share these: a future of its own for each pair would be most of the memory.
        self._known = {verdict: _done(verdict) for verdict in (True, False, None)}
        self._verdicts: dict[tuple[str, str], Future[bool | None]] = {}
        self._keys: _Keys = {}
        self._counts = {"fast": 0, "slow": 0, "undecided": 0, "too_long": 0}

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drops what is still queued and ends the worker processes. The grader can't be used afterwards."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._idle:
            worker.close()

    @property
    def counts(self) -> GradingCounts:
        """How the pairs so far were decided."""
        with self._lock:
            return GradingCounts(**self._counts)

    def grade(self, pairs: Iterable[tuple[str, str | None]]) -> list[bool]:
        """Grades answers.

        Args:
            pairs: (gold, answer); an answer of None is wrong.

        Returns:
            One verdict for each pair, in order. A pair that can't be decided within the limits is False.

        Raises:
            TtsEvalError: If the worker processes can't be started.
        """
        futures = [None if answer is None else self._submit(gold, answer) for gold, answer in pairs]
        try:
            return [future is not None and future.result() is True for future in futures]
        except BaseException:  # Ctrl-C above all: the queue would have to be worked off before Python ends
            self._cancel(futures)
            raise

    def group(self, answers: Sequence[str | None]) -> list[int | None]:
        """Sorts answers into classes of equal ones, for majority votes.

        Equality here is neither transitive nor quite symmetric, so an answer is compared with one representative of
        each class only: the shortest, then alphabetically first of its strings. The classes depend on the set of
        answers, not on their order or number.

        sympy describes each answer once, and compares only those whose descriptions allow that they are equal.

        Args:
            answers: One an element, None where a solution has none.

        Returns:
            For each answer the number of its class, counted from 0 in order of first appearance; None for None.

        Raises:
            TtsEvalError: If the worker processes can't be started.
        """
        keys = [None if answer is None else self._clean(answer) for answer in answers]
        leader = self._leaders(sorted({key for key in keys if key is not None}, key=lambda key: (len(key), key)))
        number: dict[str, int] = {}
        return [None if key is None else number.setdefault(leader[key], len(number)) for key in keys]

    def _leaders(self, ordered: list[str]) -> dict[str, str]:
        """For each answer the representative of its class."""
        leader: dict[str, str] = {}
        leaders: list[str] = []
        # At the first pair that the text doesn't decide, but then for all answers, to keep all workers busy.
        keys = cache(lambda: {answer: self._submit_key(answer) for answer in ordered})
        try:
            for answer in ordered:
                leader[answer] = self._find_leader(answer, leaders, keys) or answer
                # An answer that sympy can't handle is alone, and must not cost the others a time-out each.
                if leader[answer] == answer and not self._hangs(answer, known_only=True):
                    leaders.append(answer)
        except BaseException:
            self._cancel(keys().values() if keys.cache_info().currsize else ())
            raise
        return leader

    def _find_leader(self, answer: str, leaders: list[str], keys: Callable[[], _Keys]) -> str | None:
        verdicts = {other: decide(other, answer) for other in leaders}
        same = next((other for other, verdict in verdicts.items() if verdict), None)
        if same is not None:
            return same
        for other in (other for other, verdict in verdicts.items() if verdict is None):
            theirs, mine = keys()[other].result(), keys()[answer].result()
            if theirs is None and self._hangs(other):
                leaders.remove(other)
                continue
            if mine is None and self._hangs(answer):
                return None
            if theirs is not None and mine is not None and not compatible(theirs, mine):
                continue
            verdict = self._submit_clean(other, answer).result()
            if verdict:
                return other
            if verdict is None and self._hangs(other):
                leaders.remove(other)
            elif verdict is None and self._hangs(answer):
                return None
        return None

    def _hangs(self, key: str, known_only: bool = False) -> bool:
        """Whether sympy can't even tell this answer from 0; `known_only` doesn't ask it."""
        if known_only and ("0", key) not in self._verdicts:
            return False
        return self._submit_clean("0", key).result() is None

    def _clean(self, answer: str) -> str:
        return answer.strip() if len(answer) > self.max_length else clean(answer)

    def _submit(self, gold: str, answer: str) -> Future[bool | None]:
        return self._submit_clean(self._clean(gold), self._clean(answer))

    def _submit_clean(self, gold: str, answer: str) -> Future[bool | None]:
        with self._lock:
            future = self._verdicts.get((gold, answer))
            if future is None:
                future = self._verdicts[gold, answer] = self._begin(gold, answer)
            return future

    def _submit_key(self, answer: str) -> Future[Key | None]:
        with self._lock:
            future = self._keys.get(answer)
            if future is None:
                too_long = len(answer) > self.max_length
                future = _done(None) if too_long else self._threads.submit(self._describe, answer)
                self._keys[answer] = future
            return future

    def _begin(self, gold: str, answer: str) -> Future[bool | None]:
        """Decides a new pair by its text, or queues it. Called under the lock."""
        too_long = max(len(gold), len(answer)) > self.max_length
        verdict = gold == answer if too_long else decide(gold, answer)
        if verdict is None:
            return self._threads.submit(self._ask, gold, answer)
        self._counts["too_long" if too_long and not verdict else "fast"] += 1
        return self._known[None if too_long and not verdict else verdict]

    def _ask(self, gold: str, answer: str) -> bool | None:
        verdict = self._with_worker(lambda worker: worker.ask(for_sympy(gold), for_sympy(answer)))
        with self._lock:
            self._counts["undecided" if verdict is None else "slow"] += 1
            self._verdicts[gold, answer] = self._known[verdict]
        return verdict

    def _describe(self, answer: str) -> Key | None:
        return self._with_worker(lambda worker: worker.describe(for_sympy(answer)))

    def _with_worker(self, question: Callable[[WorkerProcess], _Reply]) -> _Reply:
        """Runs in one of as many threads as there are workers, so that one is always idle."""
        worker = self._idle.pop()
        try:
            return question(worker)
        finally:
            self._idle.append(worker)

    def _cancel(self, futures: Iterable[Future[Any] | None]) -> None:
        """Drops what is still queued, and forgets what failed so that it may be tried again."""
        for future in futures:
            if future is not None:
                future.cancel()
        with self._lock:
            self._verdicts = _without_failures(self._verdicts)
            self._keys = _without_failures(self._keys)


def _done(result: _Reply) -> Future[_Reply]:
    future: Future[_Reply] = Future()
    future.set_result(result)
    return future


def _without_failures(futures: dict[_Question, Future[_Reply]]) -> dict[_Question, Future[_Reply]]:
    return {
        question: future
        for question, future in futures.items()
        if not future.cancelled() and not (future.done() and future.exception())
    }


_default: Grader | None = None
_default_lock = threading.Lock()


def default_grader() -> Grader:
    """Returns the grader that the whole process shares. It starts on first use and ends with the process."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Grader()
            atexit.register(_default.close)
        return _default


def _forget_default() -> None:
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()


# A forked child has neither the grader's threads nor its workers to itself: it makes its own.
os.register_at_fork(after_in_child=_forget_default)
