"""The processes of a run: a launcher starts several, and lm-eval deals the problems out to them.

lm-eval 0.4.13 knows its ranks only where a process sees several GPUs; on CPUs, and where each sees one GPU, each would
do all the work. So the ranks are ours: they come from the launcher, for every base model.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lm_eval.api.model import LM

from tts_eval.types import TtsEvalError


_SPREAD_BASES = ("vllm", "vllm-vlm", "sglang")
"""Bases that start processes of their own, for one model on several devices."""

_PATIENCE = timedelta(weeks=52)
"""As lm-eval's own: the first rank to finish waits for the last, however long that takes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run.

    Attributes:
        rank: Its number, from 0; rank 0 writes the results.
        world_size: How many there are.
        group: torch's process group of all of them; None for a process by itself.
    """

    rank: int = 0
    world_size: int = 1
    group: Any = None

    def gather(self, value: Any, dst: int = 0) -> list[Any] | None:
        """Collects what each rank has, anything that can be pickled.

        Returns:
            On rank `dst` the values in the order of ranks, None on the others.

        Raises:
            TtsEvalError: If a rank is gone.
        """
        if self.group is None:
            return [value]
        import torch.distributed

        found = [None] * self.world_size if self.rank == dst else None
        with _all_there():
            torch.distributed.gather_object(value, found, dst=dst, group=self.group)
        return found

    def all_gather(self, value: Any) -> list[Any]:
        """Gives every rank what each rank has, in the order of ranks.

        Raises:
            TtsEvalError: If a rank is gone.
        """
        if self.group is None:
            return [value]
        import torch.distributed

        found = [None] * self.world_size
        with _all_there():
            torch.distributed.all_gather_object(found, value, group=self.group)
        return found


def join_ranks(name: str, base: LM, arguments: Mapping[str, Any]) -> Ranks:
    """Meets the other processes that the launcher started; they all must call this.

    Args:
        name: The base's name.
        base: The base model; from here on it works for this process alone.
        arguments: The base's arguments.

    Raises:
        TtsEvalError: If the base spreads one model over processes, which is not for a launcher of ours to do.
    """
    # `accelerate` and `torchrun` set it; for mpirun, `accelerate` does so when the base is made.
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        if os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ:
            log.warning(
                "tts-eval: accelerate launch --cpu starts one process whatever --num_processes says; for several use "
                "torchrun --nproc_per_node N -m lm_eval ..."
            )
        return Ranks()
    if name in _SPREAD_BASES or "tp_plan" in arguments:
        raise TtsEvalError(
            f"base={name} spreads one model over several devices here, so problems can't be dealt out to processes: "
            "start lm_eval without accelerate or torchrun (tensor_parallel_size= of vllm, parallelize=True of hf)"
        )
    import torch.distributed

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
    # Of its own, because what we exchange lies in main memory, and a process may have no GPU to itself.
    group = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
    # Ranks ask their bases at different times; one that gathers over ranks would wait for a call that never comes.
    base._world_size = 1
    return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size(), group)


@contextmanager
def _all_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise TtsEvalError(
            "another process of this run has ended; its own message says why. What is done is kept: run the same "
            "command again to go on"
        ) from error
