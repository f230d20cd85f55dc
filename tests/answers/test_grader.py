"""The grader's machinery: caching, threads, workers that die, ending with the process; classes of equal answers."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tts_eval.answers import Grader, default_grader
from tts_eval.answers.process import WorkerProcess
from tts_eval.types import TtsEvalError


HANGS = "9^{9^{9^9}}"


def test_what_the_text_decides_starts_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Grader() as grader:
        pairs = [("1/2", "0.5"), ("1", "2"), (r"\frac{x}{2}", r"\dfrac{x}{2}"), ("5", None), ("east", "west")]
        assert grader.grade(pairs) == [True, False, True, False, False]
        tuples = [("(1,2)", "(1, 2)"), ("(1,2)", "(2,1)"), ("(1,2)", "(1,2,3)"), ("(1/2,3)", "(2/4,3)")]
        assert grader.grade(tuples) == [True, False, False, True]
        assert grader.group(["1", "2", "1.0", None] * 64) == [0, 1, 0, None] * 64


def test_a_worker_that_cannot_start_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Grader() as grader, pytest.raises(TtsEvalError, match="grading worker can't start"):
        grader.grade([("x+1", "1+x")])


def test_each_distinct_pair_is_decided_once() -> None:
    with Grader(workers=2) as grader:
        pairs = [("x+1", "1+x"), ("x+1", "2+x"), ("3", "3.0")]
        assert grader.grade(pairs * 50) == [True, False, True] * 50
        run_in_threads([lambda: grader.grade([*pairs, ("y+1", "1+y")])] * 8)
        assert (grader.counts.slow, grader.counts.fast) == (3, 1)


def test_threads_share_a_grader_while_one_pair_hangs() -> None:
    ended: dict[str, float] = {}
    verdicts: dict[str, list[bool]] = {}
    with Grader(workers=2, timeout=8) as grader:
        run_in_threads([partial(grader.grade, [(f"w+{k}", f"{k}+w")]) for k in range(2)])  # both workers are up

        def work(name: str, pairs: list[tuple[str, str | None]]) -> None:
            verdicts[name] = grader.grade(pairs)
            ended[name] = time.perf_counter()

        jobs: list[Callable[[], object]] = [partial(work, "hangs", [("42", HANGS)])]
        for k in range(7):
            pairs: list[tuple[str, str | None]] = [(f"x+{k}", f"{k + n % 2}+x") for n in range(10)]
            jobs.append(partial(work, f"t{k}", pairs))
        run_in_threads(jobs)
        assert grader.counts.undecided == 1
    assert verdicts.pop("hangs") == [False]
    assert list(verdicts.values()) == [[True, False] * 5] * 7
    last = ended.pop("hangs")
    assert max(ended.values()) < last


def test_a_long_queue_keeps_going_past_hanging_pairs() -> None:
    pairs: list[tuple[str, str | None]] = []
    for k in range(2, 5):
        pairs += [("42", f"{k}^{{{HANGS}}}"), *((f"y+{k}+{n}", f"{n}+y+{k}") for n in range(5))]
    with Grader(workers=1, timeout=1) as grader:
        assert grader.grade(pairs) == [False, *[True] * 5] * 3


def test_a_worker_killed_while_idle_or_by_a_pair_comes_back() -> None:
    worker = WorkerProcess(timeout=5)
    assert worker.ask("x+1", "1+x") is True
    assert worker._process is not None
    os.kill(worker._process.pid, signal.SIGKILL)
    assert worker.ask("x+2", "2+x") is True
    threading.Timer(0.5, os.kill, (worker._process.pid, signal.SIGKILL)).start()
    assert worker.ask("42", HANGS) is None
    assert worker.ask("x+3", "4+x") is False
    worker.close()


def test_a_product_of_infinities_is_no_number() -> None:
    """Of the difference sympy made 0 for one number in a hundred, by the random numbers that it drew."""
    products = [(str(number), "\\infty\\infty") for number in range(100, 400)]
    with Grader() as grader:
        assert not any(grader.grade(products))
        assert grader.grade([("\\infty", "\\infty\\infty"), ("-\\infty", "\\infty\\infty")]) == [True, False]


def test_group_numbers_classes_by_first_appearance() -> None:
    with Grader(workers=1) as grader:
        answers = [None, r"\frac12", "x+1", "0.5", None, "1+x", "y", "1/2", ""]
        assert grader.group(answers) == [None, 0, 1, 0, None, 1, 2, 0, 3]
        assert grader.group([]) == []


def test_group_does_not_depend_on_order() -> None:
    answers = ["x+1", "1+x", r"\sqrt{2}", "1.414214", "2^{1/2}", "(1,2)", "1,2", "2,1", r"\{1,2\}", "x=3", "3", "y=3"]
    with Grader(workers=1) as grader:
        partitions = set()
        for seed in range(6):
            shuffled = random.Random(seed).sample(answers, len(answers))
            classes = dict(zip(shuffled, grader.group(shuffled), strict=True))
            members = [frozenset(a for a in answers if classes[a] == number) for number in set(classes.values())]
            partitions.add(frozenset(members))
    assert len(partitions) == 1
    assert frozenset({"x+1", "1+x"}) in next(iter(partitions))


def test_a_script_without_a_main_guard_can_grade_and_ends() -> None:
    ended = run_script("from tts_eval.answers import default_grader\nprint(default_grader().grade([('x+1', '1+x')]))")
    assert ended.stdout.split("\n")[0] == "[True]"
    assert ended.returncode == 0, ended.stderr


def test_workers_die_with_a_killed_parent_idle_or_busy() -> None:
    script = f"""
import os, signal, threading, time
from tts_eval.answers.process import WorkerProcess
idle, busy = WorkerProcess(1), WorkerProcess(1)
for worker in (idle, busy):
    worker.ask("x+1", "1+x")
    print(worker._process.pid, flush=True)
threading.Thread(target=busy.ask, args=("42", {HANGS!r}), daemon=True).start()
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""
    pids = [int(pid) for pid in run_script(script).stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 15
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(is_running(pid) for pid in pids)


def test_ctrl_c_does_not_work_off_the_queue() -> None:
    pairs = [("42", f"{n}^{{{HANGS}}}") for n in range(2, 60)]
    script = f"""
import os, signal, threading
from tts_eval.answers import Grader
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had us ignore it
grader = Grader(workers=1, timeout=1)
grader.grade([("x+1", "1+x")])
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
grader.grade({pairs!r})
"""
    start = time.monotonic()
    ended = run_script(script)
    assert "KeyboardInterrupt" in ended.stderr and "Exception ignored" not in ended.stderr
    assert time.monotonic() - start < 30


def test_a_forked_child_gets_a_grader_of_its_own() -> None:
    mine = default_grader()
    assert default_grader() is mine
    child = os.fork()
    if child == 0:
        theirs = default_grader()
        os._exit(0 if theirs is not mine and theirs.grade([("1", "1.0")]) == [True] else 1)
    assert os.waitpid(child, 0)[1] == 0


def run_in_threads(jobs: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_script(text: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, env=environment)


def is_running(pid: int) -> bool:
    """A zombie nobody waits for (a container without init) has ended, too."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
