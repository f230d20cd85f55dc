"""A few hundred inputs a target; `make fuzz` tries as many as it is given time for."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from targets import TARGETS


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "grading"])
def test_nothing_crashes(name: str) -> None:
    target = TARGETS[name]
    settings(max_examples=200, suppress_health_check=list(HealthCheck))(given(target.inputs)(target.check))()


def test_grading_accepts_no_other_number() -> None:
    target = TARGETS["grading"]
    settings(max_examples=40, suppress_health_check=list(HealthCheck))(given(target.inputs)(target.check))()
