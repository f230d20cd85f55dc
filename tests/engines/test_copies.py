"""When answers may go: what is held back, what goes with a warning, and what ends a run."""

from __future__ import annotations

import pytest

from tts_eval.engines.copies import CopyGuard, Reply
from tts_eval.types import TtsEvalError, Usage


LONG = "Because all roads lead there, " * 4


def reply(ticket: int) -> Reply:
    return ticket, (), Usage()


def test_what_is_held_back_goes_once_steps_have_differed() -> None:
    """A step search asks for no whole solutions any more."""
    guard = CopyGuard(0.8, constant=False)
    assert guard.admit([reply(1)], [[LONG, LONG]], sampled=True, waiting=True) == []
    guard.see_brief(["a", "b"])
    assert guard.admit([], [], sampled=True, waiting=True) == [reply(1)]


def test_what_is_held_back_goes_with_a_warning_when_nothing_else_comes(caplog: pytest.LogCaptureFixture) -> None:
    guard = CopyGuard(0.8, constant=False)
    assert guard.admit([reply(1)], [[LONG, LONG]], sampled=True, waiting=True) == []
    guard.see_brief(["a", "a"])
    assert guard.admit([], [], sampled=True, waiting=False) == [reply(1)]
    assert "came back equal, for each of 1 problems" in caplog.text


def test_short_answers_go_at_once_with_one_warning_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    guard = CopyGuard(0.8, constant=False)
    for ticket in range(5):
        assert guard.admit([reply(ticket)], [["7", "7"]], sampled=True, waiting=ticket < 3) == [reply(ticket)]
        assert len(caplog.messages) == (ticket >= 3)
    assert "may be equal by chance" in caplog.text


def test_single_samples_say_nothing() -> None:
    guard = CopyGuard(0.8, constant=False)
    for ticket in range(49):
        guard.admit([reply(ticket), reply(-ticket)], [["7", "7"], ["7"]], sampled=True, waiting=True)
    with pytest.raises(TtsEvalError, match=r"50 times in a row.*the journal may hold some"):
        guard.admit([reply(50)], [["7", "7"]], sampled=True, waiting=True)
