"""`tts-eval exchange` from the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tts_eval_command: Run) -> Run:
    return partial(tts_eval_command, "exchange", "--times", 14.2)


def test_budget(run: Run) -> None:
    status, out, err = run("--R", 22)
    assert (status, err) == (0, "")
    assert out == (
        "K = 16.0 generations a question cost as much as one of a model 14.2 times larger,\n"
        "pretraining of both counted (R = 22, v1 accounting).\n"
    )
    assert run("--R", 11, "--accounting", "iclr")[1].startswith("K = 16.0 generations ")
    assert run("--R", 0.795, "--accounting", "v1")[1].startswith("K = 64.0 generations ")


def test_ratio(run: Run) -> None:
    status, out, err = run("--budget", 64)
    assert (status, err) == (0, "") and out.startswith("R = 0.795: there 64 generations a question cost as much")
    assert out.endswith("At a smaller R the generations are cheaper, at a larger one\nthe larger model is.\n")
    assert run("--budget", 256, "--accounting", "iclr")[1].startswith("R = 0.0819: ")


def test_no_ratio(run: Run) -> None:
    status, out, err = run("--budget", 14)
    assert (status, err) == (0, "") and out.startswith("No R matches: 14 generations a question cost less than one")


def test_numbers_out_of_range(run: Run, tts_eval_command: Run) -> None:
    assert run("--R", 0) == (
        1,
        "",
        "tts-eval: R=0 is no ratio of inference to pretraining tokens: give a number above 0\n",
    )
    status, out, err = tts_eval_command("exchange", "--times", 0.07, "--budget", 64)
    assert (status, out) == (1, "") and err.endswith("give that, a number above 1\n")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "one of the arguments --R --budget is required"),
        (("--R", 22, "--budget", 64), "argument --budget: not allowed with argument --R"),
    ],
)
def test_one_question_at_a_time(run: Run, capsys: pytest.CaptureFixture[str], given: tuple[object], said: str) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*given)
    assert stop.value.code == 2 and said in capsys.readouterr().err
