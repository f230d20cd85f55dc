"""Faults that happen to real runs: nothing is lost or doubled, and the user gets one line that says what to do."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Zygote
from kills import kill_until_done, time_of
from models import with_nan
from page import FaultsPage
from runs import arguments, content, journals, problems, require_equal

from tts_eval.journal import read_journal


def test_kills_lose_and_double_nothing(zygote: Zygote, whole: Path, tmp_path: Path) -> None:
    """A handful; `kills.py --kills 100` does many."""
    seconds = time_of(zygote, arguments(tmp_path / "again"))
    killed = tmp_path / "killed"
    tally = kill_until_done(zygote, arguments(killed, "--batch_size", "4"), killed, seconds, random.Random(4), most=3)
    assert tally.kills > 0
    require_equal(killed, whole)


def killed_halfway(zygote: Zygote, output: Path) -> list[str]:
    given = arguments(output, "--batch_size", "4")
    run = zygote.start(given)
    run.until(lambda: problems(output) >= 2)
    run.send(signal.SIGKILL)
    run.wait()
    assert 2 <= problems(output) < 6
    return given


def test_a_killed_run_goes_on(zygote: Zygote, whole: Path, page: FaultsPage, tmp_path: Path) -> None:
    given = killed_halfway(zygote, tmp_path)
    (journal,) = journals(tmp_path)
    before = read_journal(journal)[1]
    with journal.open("ab") as file:
        file.write(b'{"schema": 1, "uid": "half a li')
    again = zygote.done(given)
    require_equal(tmp_path, whole)
    assert [content(tmp_path)[record.uid] for record in before] == before
    resumed = next(line for line in again.err.splitlines() if "are in" in line)
    page.tell("killed", given, f"Killed\n$ (the same command)\n{resumed[resumed.index('tts-eval') :]}", tmp_path)


def test_ctrl_c_keeps_what_is_done(zygote: Zygote, whole: Path, page: FaultsPage, tmp_path: Path) -> None:
    given = arguments(tmp_path, "--batch_size", "4")
    run = zygote.start(given)
    run.until(lambda: problems(tmp_path) >= 2)
    run.send(signal.SIGINT)
    assert run.wait() == 130
    assert f"{problems(tmp_path)} problems are safe" in run.line
    page.tell("interrupted", given, f"^C\n{run.line}", tmp_path)
    zygote.done(given)
    require_equal(tmp_path, whole)


def test_ctrl_c_before_anything_is_done(zygote: Zygote, tmp_path: Path) -> None:
    run = zygote.start(arguments(tmp_path))
    run.until(lambda: "Setting random seed" in run.err)
    run.send(signal.SIGINT)
    assert run.wait() == 130 and run.line.startswith("tts-eval: interrupted")


LATER = """
import atexit, time
from tts_eval import cli
def clean_up():
    print("cleaning up", flush=True)
    time.sleep(60)
def interrupted(*_):
    raise KeyboardInterrupt
atexit.register(clean_up)
cli._call = interrupted
raise SystemExit(cli.main(["models"]))
"""


def test_a_second_ctrl_c_leaves_at_once() -> None:
    process = subprocess.Popen([sys.executable, "-c", LATER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "cleaning up\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert err == "tts-eval: interrupted; what was written is kept\n"


def test_ctrl_c_of_the_plain_lm_eval_command_is_one_line() -> None:
    code = "from tts_eval.plugin import install_excepthook; install_excepthook(); raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT  # 130 in a shell
    assert done.stderr == "tts-eval: interrupted; what was written is kept\n"


def test_a_full_disk(zygote: Zygote, whole: Path, page: FaultsPage, tmp_path: Path) -> None:
    given = arguments(tmp_path)
    size = journals(whole)[0].stat().st_size
    run = zygote.run(given, file_bytes=size * 2 // 3)
    assert run.status == 1 and 0 < problems(tmp_path) < 6
    assert f"{problems(tmp_path)} problems are safe" in run.line
    page.tell("disk", given, run.line, tmp_path)
    zygote.done(given)
    require_equal(tmp_path, whole)


def test_a_corrupt_line(zygote: Zygote, whole: Path, page: FaultsPage, tmp_path: Path) -> None:
    given = killed_halfway(zygote, tmp_path)
    (journal,) = journals(tmp_path)
    lines = journal.read_bytes().splitlines(keepends=True)
    broken = b"".join([lines[0], lines[1][:200] + b"\x00" + lines[1][201:], *lines[2:]])
    journal.write_bytes(broken)
    run = zygote.run(given)
    assert run.status == 1 and f"{journal}:2:" in run.line
    assert journal.read_bytes() == broken
    page.tell("corrupt", given, run.line, tmp_path)
    journal.write_bytes(b"".join([lines[0], *lines[2:]]))
    zygote.done(given)
    require_equal(tmp_path, whole)


def test_a_second_process_is_refused(zygote: Zygote, whole: Path, page: FaultsPage, tmp_path: Path) -> None:
    given = arguments(tmp_path, "--batch_size", "4")
    first = zygote.start(given)
    first.until(lambda: problems(tmp_path) >= 1)
    first.send(signal.SIGSTOP)
    second = zygote.run(given)
    assert second.status == 1
    page.tell("two", given, second.line, tmp_path)
    first.send(signal.SIGCONT)
    assert first.wait() == 0
    require_equal(tmp_path, whole)


def test_a_clock_that_goes_backwards(zygote: Zygote, whole: Path, page: FaultsPage, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to build a clock with")
    given = killed_halfway(zygote, tmp_path)
    (journal,) = journals(tmp_path)
    run = zygote.done(given, clock_jumps=3600)
    assert journals(tmp_path) == [journal]
    require_equal(tmp_path, whole)
    (results,) = tmp_path.rglob("results_*.json")
    assert results.name.removeprefix("results_") < journal.name.removeprefix("candidates_tts_micromath_")
    for record in content(tmp_path).values():
        seconds = record.usage.seconds, record.usage.engine_seconds
        assert all(value is not None and 0 <= value < 60 for value in seconds)
    resumed = next(line for line in run.err.splitlines() if "are in" in line)
    page.tell("clock", given, resumed[resumed.index("tts-eval") :], tmp_path)


@pytest.mark.parametrize(
    ("fault", "argument", "model", "weight"),
    [
        ("nan-policy", "pretrained", "base", "model.norm.weight"),
        ("nan-verifier", "verifier", "prm", "score.weight"),
    ],
)
def test_a_model_that_computes_nan(
    fault: str, argument: str, model: str, weight: str, zygote: Zygote, page: FaultsPage, tmp_path: Path
) -> None:
    given = arguments(tmp_path, **{argument: with_nan(model, tmp_path / "broken", weight)})
    run = zygote.run(given)
    assert run.status == 1 and "no numbers" in run.line and problems(tmp_path) == 0
    page.tell(fault, given, run.line, tmp_path)


MEGABYTE = 1 << 20


def test_memory_that_runs_out_in_a_batch(zygote: Zygote, page: FaultsPage, tmp_path: Path) -> None:
    """The limit is real, of the address space: the batch has begun, and its cache can't grow any more."""
    options = {"pretrained": "micromath/large", "budget": 256, "limit": 1}
    zygote.done(arguments(tmp_path / "whole", **options))
    given = arguments(tmp_path / "small", **options)
    run = zygote.start(given)
    run.until(lambda: re.search(r"[1-9][\d,]* tokens", run.err) is not None)
    run.limit_memory(MEGABYTE)
    assert run.wait() == 0, run.err[-4000:]
    require_equal(tmp_path / "small", tmp_path / "whole", twice=True)
    written = [
        sum(record.usage.decode_tokens or 0 for record in content(tmp_path / name).values())
        for name in ("whole", "small")
    ]
    assert written[1] > written[0], "nothing had to start again: memory never ran out"
    row = next(line for line in run.out.splitlines() if "|accuracy" in line)
    page.tell("memory", given, row, tmp_path)
