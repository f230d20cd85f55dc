"""What `tts-eval doctor` finds out about a machine: packages, devices, the `lm_eval` command, grading and the disk."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tts_eval.answers import Grader


OPTIONAL_EXTRAS = {"hf": "base=hf and verifiers", "api": "servers", "train": "tts-eval train", "report": "figures"}
"""Extra -> what needs it. That of vLLM has a check of its own."""

_KNOWS_US = "import lm_eval.models as m, lm_eval.api.registry as r; print('tts-beam' in r.model_registry)"

_LEAST_FREE = 1e9
"""Bytes; a run over MATH-500 with 64 candidates a problem writes about half of that."""


@dataclass(frozen=True)
class Finding:
    """One row of the table.

    Attributes:
        check: What was looked at.
        state: What was found.
        mend: A command that mends it; empty where nothing is to be done.
        level: `ok`; `absent`, which only matters to who wants it; `FAIL`.
    """

    check: str
    state: str
    mend: str = ""
    level: Literal["ok", "absent", "FAIL"] = "ok"


def check_packages() -> Iterator[Finding]:
    """Holds what is installed against the ranges of this package's own metadata."""
    metadata = importlib.metadata.metadata("tts-eval")
    wanted, python = SpecifierSet(metadata["Requires-Python"]), platform.python_version()
    if wanted.contains(python, prereleases=True):
        yield Finding("Python", f"{python}, {sys.executable}")
    else:
        yield Finding("Python", f"{python}, needs {wanted}", f"uv venv --python '{wanted}'", "FAIL")
    missing = unmet(Requirement("tts-eval"))
    version = importlib.metadata.version("tts-eval")
    mend = f"pip install {' '.join(repr(one) for one in missing)}"
    if missing:
        yield Finding("packages", f"tts-eval {version} lacks {', '.join(missing)}", mend, "FAIL")
    else:
        yield Finding("packages", f"tts-eval {version}, lm-eval {importlib.metadata.version('lm-eval')}")
    for extra, use in OPTIONAL_EXTRAS.items():
        lacking = [one for one in unmet(Requirement(f"tts-eval[{extra}]")) if one not in missing]
        if lacking:
            state = f"lacks {', '.join(lacking)}, for {use}"
            yield Finding(f"extra {extra}", state, f"pip install 'tts-eval[{extra}]'", "absent")
        else:
            yield Finding(f"extra {extra}", f"for {use}: {', '.join(_of_extra(extra))}")


def _of_extra(extra: str) -> Iterator[str]:
    for line in importlib.metadata.requires("tts-eval") or ():
        needed = Requirement(line)
        if needed.marker is not None and needed.marker.evaluate({"extra": extra}):
            yield f"{needed.name} {importlib.metadata.version(needed.name)}"


def unmet(requirement: Requirement) -> list[str]:
    """What an installed package asks for and doesn't find, itself aside; of extras only the ones that are named.

    Args:
        requirement: The package, with extras.

    Returns:
        `name<range>` of each, with the version that is there instead.
    """
    found = []
    for line in importlib.metadata.requires(requirement.name) or ():
        needed = Requirement(line)
        extras = requirement.extras or {""}
        if needed.marker is not None and not any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        try:
            version = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{needed.name}{needed.specifier}")
            continue
        if not needed.specifier.contains(version, prereleases=True):
            found.append(f"{needed.name}{needed.specifier}")
        elif needed.extras:
            found += unmet(needed)
    return found


def check_devices() -> Iterator[Finding]:
    """Says what torch computes on."""
    import psutil
    import torch

    memory, threads = psutil.virtual_memory(), torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    state = f"{cores} cores, torch uses {threads}; {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    if threads > cores:
        yield Finding("CPU", state, f"export OMP_NUM_THREADS={cores}", "FAIL")
    else:
        yield Finding("CPU", state)
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Finding(f"GPU {index}", f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    if torch.cuda.device_count() == 0:
        yield _no_gpu(torch.__version__)


def _no_gpu(version: str) -> Finding:
    if torch_mps():
        return Finding("GPU", "Apple's, as device=mps")
    if shutil.which("nvidia-smi") is None:
        return Finding("GPU", "none; models run on the CPU")
    state = f"there is a driver (nvidia-smi), but torch {version} sees no GPU"
    return Finding("GPU", state, "python -m torch.utils.collect_env", "FAIL")


def torch_mps() -> bool:
    """Whether torch can use an Apple GPU."""
    import torch

    return bool(torch.backends.mps.is_available())


def check_command() -> Iterator[Finding]:
    """Asks a fresh interpreter whether the plain `lm_eval` command finds our models."""
    scripts = Path(sysconfig.get_path("scripts"))
    there = shutil.which("lm_eval")
    mend = f"export PATH={scripts}:$PATH"
    if there is None:
        yield Finding("lm_eval on the PATH", "no; its full path works", mend, "absent")
    elif Path(there).parent.resolve() != scripts.resolve():
        yield Finding("lm_eval on the PATH", f"{there}, which is not of this environment", mend, "FAIL")
    done = subprocess.run([sys.executable, "-c", _KNOWS_US], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        yield Finding("lm_eval", f"can't be imported: {last}", "pip install --force-reinstall lm-eval", "FAIL")
    elif done.stdout.split()[-1:] == ["True"]:
        yield Finding("lm_eval", "finds our models and tasks by name")
    else:
        state = "doesn't find our models by name; tts-eval run does"
        yield Finding("lm_eval", state, "tts-eval enable", "absent")


def check_grading() -> Iterator[Finding]:
    """Grades pairs whose verdicts are known, one of them by sympy in a worker process."""
    antlr = importlib.metadata.version("antlr4-python3-runtime")
    pairs = {(r"\frac{1}{2}", "0.5"): True, (r"\sqrt{8}+\sqrt{2}", r"3\sqrt{2}"): True, ("x+1", "x-1"): False}
    with Grader() as grader:
        verdicts = grader.grade(list(pairs))
        slow = grader.counts.slow
    wrong = [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict != pairs[pair]]
    if wrong or not slow:
        what = f"wrong on {' and '.join(wrong[0])}" if wrong else "no worker process decided anything"
        mend = "pip install --force-reinstall 'antlr4-python3-runtime==4.11.0' math-verify sympy"
        yield Finding("grading", f"{what} (antlr {antlr})", mend, "FAIL")
    else:
        yield Finding("grading", f"{len(pairs)} known verdicts are right; worker processes run; antlr {antlr}")


def check_folder(folder: Path) -> Iterator[Finding]:
    """Writes, syncs and locks a file where journals would go, and deletes it.

    Args:
        folder: The results folder; if there is none yet, the nearest folder above.
    """
    elsewhere = "tts-eval doctor --folder ANOTHER"
    while not folder.exists():
        folder = folder.parent
    name = f"folder {folder.resolve()}"
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file, open(file.name, "rb") as again:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
            locks = _locks(file.fileno(), again.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding(name, f"can't be written: {error.strerror}", elsewhere, "FAIL")
        return
    if not locks:
        yield Finding(name, "its file system has no locks, so two runs could write one journal", elsewhere, "FAIL")
    elif free < _LEAST_FREE:
        yield Finding(name, f"{free / 1e9:.2f} GB free", f"du -sh {folder.resolve()}/*", "FAIL")
    else:
        yield Finding(name, f"can be written and locked; {free / 1e9:.0f} GB free")


def _locks(first: int, second: int) -> bool:
    """Whether a lock on a file keeps a second opener out."""
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    try:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
