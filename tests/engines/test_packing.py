"""Weights laid out for a number of rows: the same numbers, for the engine's own steps and nothing else."""

from __future__ import annotations

import pytest
import torch

from tts_eval.engines import packing
from tts_eval.engines.packing import Packing
from tts_eval.engines.summation import fix_order


fix_order()

needs_mkl = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch is built without MKL")


@pytest.fixture
def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(320, 640), torch.nn.SiLU(), torch.nn.Linear(640, 320, bias=False), torch.nn.Linear(320, 8)
    )


def steps(of: Packing, model: torch.nn.Module, rows: int, count: int) -> list[bool]:
    """Whether the large matrices were laid out, step by step; the numbers are checked in each."""
    packed = []
    x = torch.randn(rows, 1, 320)
    with torch.inference_mode():
        expected = model(x)
        for _ in range(count):
            with of.used(rows):
                assert torch.equal(model(x), expected)
                packed.append("forward" in vars(model[0]))  # type: ignore[index]
    return packed


@needs_mkl
def test_a_number_of_rows_that_stays_gets_a_layout_with_the_same_numbers(model: torch.nn.Sequential) -> None:
    of = Packing(model)
    assert steps(of, model, 24, packing._STEADY + 2) == [False] * (packing._STEADY - 1) + [True] * 3
    assert [linear for linear, _ in of._forwards] == [model[0], model[2]], "the small matrix isn't worth it"
    assert steps(of, model, 7, 3) == [False] * 3
    assert steps(of, model, 24, 1) == [True], "what was laid out stays"
    assert steps(of, model, 7, packing._STEADY)[-1] and steps(of, model, 24, 1) == [False]


@needs_mkl
def test_outside_of_a_step_the_model_is_as_it_was(model: torch.nn.Sequential) -> None:
    of = Packing(model)
    steps(of, model, 24, packing._STEADY)
    assert all("forward" not in vars(module) for module in model)
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(model[0](torch.randn(24, 320)), model[0].bias.expand(24, -1))
    model(torch.randn(24, 320)).sum().backward()
    with pytest.raises(RuntimeError, match="stop"), of.used(24):
        raise RuntimeError("stop")
    assert all("forward" not in vars(module) for module in model)


@pytest.mark.parametrize("reason", ["memory", "type", "numbers"])
def test_without_room_or_in_another_precision_or_with_other_numbers_nothing_changes(
    reason: str, model: torch.nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "memory":
        monkeypatch.setattr(packing, "free_bytes", lambda device: 1000)
    elif reason == "type":
        model = model.double()
    else:
        monkeypatch.setattr(packing, "_linear", lambda layout, weight, bias, rows, x: x @ weight.T + 1)
    of = Packing(model)
    x = torch.randn(24, 320, dtype=model[0].weight.dtype)
    with torch.inference_mode():
        for _ in range(packing._STEADY + 2):
            with of.used(24):
                assert "forward" not in vars(model[0])
                model(x)
