"""Memory of the rows: zeros that cost nothing until they are used, and freed memory that is used again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from tts_eval.engines.memory import zeros


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_zeros_are_those_of_torch(dtype: torch.dtype) -> None:
    found = zeros(torch.ones(1, dtype=dtype), (3, 5, 7))
    assert found.dtype == dtype
    assert torch.equal(found, torch.zeros(3, 5, 7, dtype=dtype))
    assert found.data_ptr() % 64 == 0
    found[1, 2] = 4
    assert float(found.sum()) == 28


UNTOUCHED = """
import psutil, torch
from tts_eval.engines.memory import zeros
before = psutil.Process().memory_info().rss
found = zeros(torch.ones(1), (2**28,))
found[: 2**18] = 1
assert found.nbytes == 2**30
print(psutil.Process().memory_info().rss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere untouched memory may count")
def test_untouched_zeros_take_no_memory() -> None:
    """In a process of its own: one that keeps freed memory, as after an engine, may fill that with zeros instead."""
    assert int(subprocess.run([sys.executable, "-c", UNTOUCHED], capture_output=True, check=True).stdout) < 2**24


REPEATED = """
import resource
import numpy as np
from tts_eval.engines.memory import keep_freed_memory
{}
np.ones(2**22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again() -> None:
    """By the pages that the system had to provide: anew for each array unless the process keeps them."""
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", REPEATED.format(call)], capture_output=True, check=True).stdout)
        for call in ("", "keep_freed_memory()")
    )
    assert kept < given_back / 4
