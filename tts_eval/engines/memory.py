"""How much memory a row takes, and how much there is."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch


_ALIGNMENT = 64  # bytes, as torch aligns its own
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_KEPT_BYTES = 2**30


def row_bytes(model: Any, width: int) -> int:
    """Memory that one row of a batch takes: keys and values, and the logits while a token is drawn.

    Args:
        model: A transformers causal language model.
        width: Tokens of the row, prompt included.

    Returns:
        Bytes.
    """
    config = model.config.get_text_config()
    # Both are optional in transformers' configs, with these meanings when they are absent.
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kv = 2 * config.num_hidden_layers * heads * dim * width * model.dtype.itemsize
    return int(kv + 4 * config.vocab_size * torch.float64.itemsize)


def free_bytes(device: torch.device) -> int:
    """Memory that can still be taken on `device`, in bytes."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + cached)
    return min([int(psutil.virtual_memory().available), *_cgroup_bytes()])


def _cgroup_bytes() -> list[int]:
    """What the control group of a container leaves, unlike the machine's own figures; empty without a limit."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return []
    return [] if limit == "max" else [int(limit) - int(used)]


def keep_freed_memory() -> None:
    """Lets this process keep up to 1 GiB of the memory that it frees, where its C library is glibc.

    By default the memory of each large tensor goes back at once, and the next one gets fresh pages, which takes several
    times as long as filling them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)


def zeros(like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Zeros of the type and on the device of `like`; on a CPU what isn't touched of them takes neither memory nor time.

    torch writes its zeros; numpy gets pages that the system has yet to fill.
    """
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    size = math.prod(shape) * like.itemsize
    memory = np.zeros(size + _ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return torch.from_numpy(memory[start : start + size]).view(like.dtype).view(*shape)
