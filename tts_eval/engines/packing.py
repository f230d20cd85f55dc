"""Weights laid out for the number of rows that a batch has, so that a CPU's kernels needn't do that at every step.

A product of few rows with a large matrix spends a third of its time on laying the matrix out. MKL can keep the result
for one number of rows; a batch that is kept full has one for long. The numbers stay the same, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from tts_eval.engines.memory import free_bytes


_STEADY = 16  # steps with as many rows, after which that number is worth a layout, which takes about one step
_LEAST = 2**16  # numbers in a matrix that is worth it: smaller ones stay in the processor's own memory
_SHARE = 0.125  # of the free memory, at most, for all layouts together


class Packing:
    """The layouts of one model's matrices, for one number of rows at a time.

    Args:
        model: Its weights must not change any more.
    """

    def __init__(self, model: torch.nn.Module):
        self._linears = [module for module in model.modules() if _worth_it(module)]
        self._forwards: list[tuple[torch.nn.Linear, Callable[[torch.Tensor], torch.Tensor]]] = []
        self._packed_rows = 0
        self._rows = self._steps = 0

    @contextmanager
    def used(self, rows: int) -> Iterator[None]:
        """Makes the model's forward pass, and no other, use what is laid out for so many rows, if anything is."""
        self._steps = self._steps + 1 if rows == self._rows else 1
        self._rows = rows
        if self._steps == _STEADY and rows != self._packed_rows:
            self._pack(rows)
        forwards = self._forwards if rows == self._packed_rows else []
        for linear, forward in forwards:
            linear.forward = forward
        try:
            yield
        finally:
            for linear, _ in forwards:
                del linear.forward

    @torch.inference_mode()
    def _pack(self, rows: int) -> None:
        self._forwards, self._packed_rows = [], rows
        needed = sum(linear.weight.nbytes for linear in self._linears)
        if needed > _SHARE * free_bytes(torch.device("cpu")):
            return
        for linear in self._linears:
            layout = torch.ops.mkl._mkl_reorder_linear_weight(linear.weight, rows)
            forward = partial(_linear, layout, linear.weight, linear.bias, rows)
            probe = torch.randn(rows, linear.in_features, generator=torch.Generator().manual_seed(0))
            if torch.equal(forward(probe), linear(probe)):  # else a row would depend on how many there are
                self._forwards.append((linear, forward))


def _linear(
    layout: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, rows: int, x: torch.Tensor
) -> torch.Tensor:
    """What `torch.nn.Linear` computes; with another number of rows it falls back to the weight as it is."""
    result: torch.Tensor = torch.ops.mkl._mkl_linear(x, layout, weight, bias, rows)
    return result


def _worth_it(module: torch.nn.Module) -> bool:
    return (
        type(module) is torch.nn.Linear
        and "forward" not in vars(module)  # somebody else's
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
        and module.weight.numel() >= _LEAST
        and torch.backends.mkl.is_available()
    )
