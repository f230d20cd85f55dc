"""Servers that die, stall or talk nonsense: the run goes on if any can answer, and stops with one line if none can."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from forked import Run, Zygote
from page import FaultsPage
from runs import problems, require_equal, served
from stub_server import Stub


SLOTS = {"slots": 4, "seconds": 0.15}


@pytest.fixture(scope="module")
def whole(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the run that nothing happens to."""
    folder = tmp_path_factory.mktemp("served")
    with Stub(**SLOTS) as stub:
        zygote.done(served(folder, stub.completions))
    return folder


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub(**SLOTS) as started:
        yield started


def accuracy(run: Run) -> str:
    """The first row of lm-eval's table."""
    return next(line for line in run.out.splitlines() if "|accuracy" in line)


def test_a_server_that_comes_back(zygote: Zygote, whole: Path, stub: Stub, tmp_path: Path) -> None:
    run = zygote.start(served(tmp_path, stub.completions))
    run.until(lambda: problems(tmp_path) >= 1)
    stub.kill()
    assert run.status is None and problems(tmp_path) < 6
    stub.start()
    assert run.wait() == 0, run.err[-3000:]
    require_equal(tmp_path, whole)


def test_a_server_that_stays_away(zygote: Zygote, whole: Path, stub: Stub, page: FaultsPage, tmp_path: Path) -> None:
    given = served(tmp_path, stub.completions, max_retries=3)
    run = zygote.start(given)
    run.until(lambda: problems(tmp_path) >= 1)
    stub.kill()
    assert run.wait() == 1 and problems(tmp_path) >= 1
    said = run.line
    stub.start()
    zygote.done(given)
    require_equal(tmp_path, whole)
    page.tell("server", given, said, tmp_path)


def test_ctrl_c_while_it_waits(zygote: Zygote, whole: Path, stub: Stub, tmp_path: Path) -> None:
    run = zygote.start(served(tmp_path, stub.completions))
    run.until(lambda: problems(tmp_path) >= 1)
    run.send(signal.SIGINT)
    assert run.wait() == 130 and f"{problems(tmp_path)} problems are safe" in run.line
    zygote.done(served(tmp_path, stub.completions))
    require_equal(tmp_path, whole)


def test_one_replica_of_three_dies(zygote: Zygote, whole: Path, page: FaultsPage, tmp_path: Path) -> None:
    with ExitStack() as stack:
        stubs = [stack.enter_context(Stub(**SLOTS)) for _ in range(3)]
        given = served(tmp_path, "|".join(stub.completions for stub in stubs))
        run = zygote.start(given)
        run.until(lambda: all(stub.stats()["requests"] for stub in stubs))
        stubs[1].kill()
        assert run.wait() == 0, run.err[-3000:]
    require_equal(tmp_path, whole)
    page.tell("replica", given, accuracy(run), tmp_path)


def test_a_slow_server(zygote: Zygote, whole: Path, stub: Stub, page: FaultsPage, tmp_path: Path) -> None:
    stub.set(next=["slow", "", "slow"], slow_seconds=20.0)
    zygote.done(served(tmp_path / "some", stub.completions, timeout=5))
    require_equal(tmp_path / "some", whole)
    stub.set(share={"slow": 1.0})
    given = served(tmp_path / "all", stub.completions, timeout=2, max_retries=2)
    run = zygote.run(given)
    assert run.status == 1 and "within 2 s" in run.line
    page.tell("slow", given, run.line, tmp_path)


def test_replies_that_are_none(zygote: Zygote, whole: Path, stub: Stub, page: FaultsPage, tmp_path: Path) -> None:
    stub.set(next=["truncated", "malformed", "empty", "null", "no_text", "drop", "500", "429"])
    zygote.done(served(tmp_path / "some", stub.completions))
    assert stub.stats()["faults"] == 8
    require_equal(tmp_path / "some", whole)
    stub.set(share={"truncated": 1.0})
    given = served(tmp_path / "all", stub.completions, max_retries=2)
    run = zygote.run(given)
    assert run.status == 1 and "can't be read" in run.line
    page.tell("nonsense", given, run.line, tmp_path)
