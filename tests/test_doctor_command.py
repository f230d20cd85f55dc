"""`tts-eval doctor`: every check on this machine, and each of its faults made to happen."""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from stub_server import Stub

from tts_eval.answers import Grader
from tts_eval.commands import doctor, doctor_checks, doctor_models
from tts_eval.commands.doctor_checks import Finding
from tts_eval.micro import members
from tts_eval.types import TtsEvalError


Command = Callable[..., tuple[int, str, str]]


def by_check(findings: Any) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


@pytest.mark.timeout(600)
def test_all_checks_of_this_machine(
    tts_eval_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", sysconfig.get_path("scripts"), prepend=":")
    status, out, _ = tts_eval_command("doctor", "--folder", tmp_path / "not" / "yet", "--json")
    found = {row["check"]: row for row in json.loads(out)}
    faults = [row for row in found.values() if row["level"] == "FAIL"]
    assert status == 0 and faults == []
    for check in ("Python", "packages", "CPU", "grading", f"folder {tmp_path}", "engine hf", "self-test"):
        assert found[check]["level"] == "ok" and not found[check]["mend"]
    assert found["self-test"]["state"].startswith("beam search of 4 with microMATH gives the known answer")
    assert "skywork" in found["public verifiers"]["state"]
    assert all(row["mend"] for row in found.values() if row["level"] != "ok")


def test_the_table_shows_a_fault_its_mend_and_the_rest(
    tts_eval_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> Any:
        raise RuntimeError("no such luck")

    fine = [lambda *_: iter([Finding("something", "is fine")])] * 8
    names = ("packages", "devices", "command", "folder", "engines", "verifiers", "search", "grading")
    for name, check in zip(names, fine, strict=True):
        monkeypatch.setattr(doctor, f"check_{name}", check)
    assert tts_eval_command("doctor")[0] == 0
    fails.__name__ = "check_grading"
    monkeypatch.setattr(doctor, "check_grading", fails)
    status, out, _ = tts_eval_command("doctor")
    assert status == 1
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["check", "state", "mend"]
    assert sum(line[:2] == ["something", "ok"] for line in lines) == 7
    assert any(line[:3] == ["grading", "FAIL", "RuntimeError:"] for line in lines)


@pytest.mark.parametrize("given", [["--base_url", "http://127.0.0.1:9/v1"], ["--model", "m"]])
def test_a_server_needs_a_model(tts_eval_command: Command, given: list[str]) -> None:
    status, _, err = tts_eval_command("doctor", *given)
    assert status == 1 and "go together: tts-eval doctor --base_url URL --model NAME" in err


# ---------------------------------------------------------------- packages


def test_packages_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version
    old = {"lm-eval": "0.4.12", "torch": "2.4.1", "aiohttp": None}

    def of(name: str) -> str:
        if name in old and old[name] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return old.get(name) or version(name)

    monkeypatch.setattr(importlib.metadata, "version", of)
    monkeypatch.setattr(doctor_checks.platform, "python_version", lambda: "3.9.1")
    found = by_check(doctor_checks.check_packages())
    assert found["Python"].level == "FAIL" and "3.9.1, needs >=3.10" in found["Python"].state
    assert found["packages"].level == "FAIL"
    (unmet,) = doctor_checks.unmet(Requirement("tts-eval"))
    assert unmet.startswith("lm-eval") and found["packages"].mend == f"pip install '{unmet}'"
    # The same torch is new enough for one extra and too old for the other; a server's client is two packages away.
    assert found["extra hf"].level == "ok" and "torch 2.4.1" in found["extra hf"].state
    assert found["extra train"].level == "absent" and "torch>=2.9" in found["extra train"].state
    assert "aiohttp" in found["extra api"].state and found["extra api"].mend == "pip install 'tts-eval[api]'"


# ---------------------------------------------------------------- devices


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4096)
    found = by_check(doctor_checks.check_devices())["CPU"]
    assert found.level == "FAIL" and found.mend.startswith("export OMP_NUM_THREADS=")


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(doctor_checks, "torch_mps", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert by_check(doctor_checks.check_devices())["GPU"] == Finding("GPU", "none; models run on the CPU")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    found = by_check(doctor_checks.check_devices())["GPU"]
    assert found.level == "FAIL" and found.mend == "python -m torch.utils.collect_env"
    monkeypatch.setattr(doctor_checks, "torch_mps", lambda: True)
    assert by_check(doctor_checks.check_devices())["GPU"].state == "Apple's, as device=mps"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (7 * 10**9, 8 * 10**9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "H100")
    assert by_check(doctor_checks.check_devices())["GPU 0"].state == "H100, 7.0 of 8.0 GB free"


# ---------------------------------------------------------------- the lm_eval command


@pytest.mark.parametrize(
    ("code", "level", "mend"),
    [
        ("print('tts-beam' in ['tts-beam'])", "ok", ""),
        ("print(False)", "absent", "tts-eval enable"),
        ("import nothing_of_the_kind", "FAIL", "pip install --force-reinstall lm-eval"),
    ],
)
def test_lm_eval(code: str, level: str, mend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: str(Path(sysconfig.get_path("scripts")) / name))
    monkeypatch.setattr(doctor_checks, "_KNOWS_US", code)
    (found,) = doctor_checks.check_command()
    assert (found.level, found.mend) == (level, mend)


def test_another_lm_eval_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "_KNOWS_US", "print(True)")
    other = tmp_path / "lm_eval"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = by_check(doctor_checks.check_command())["lm_eval on the PATH"]
    assert found.level == "FAIL" and str(other) in found.state
    other.unlink()
    found = by_check(doctor_checks.check_command())["lm_eval on the PATH"]
    assert found.level == "absent" and found.mend == f"export PATH={sysconfig.get_path('scripts')}:$PATH"


# ---------------------------------------------------------------- grading and disk


def test_wrong_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Grader, "grade", lambda self, pairs: [False for _ in pairs])
    (found,) = doctor_checks.check_grading()
    assert found.level == "FAIL" and r"wrong on \frac{1}{2} and 0.5" in found.state


def test_no_worker_grades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Grader, "grade", lambda self, pairs: [True, True, False])
    (found,) = doctor_checks.check_grading()
    assert found.level == "FAIL" and "no worker process decided anything" in found.state
    assert "antlr4-python3-runtime==4.11.0" in found.mend


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (found,) = doctor_checks.check_folder(tmp_path / "file")
    assert found.level == "FAIL" and "can't be written: Not a directory" in found.state and found.mend


def test_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (found,) = doctor_checks.check_folder(tmp_path)
    assert found.level == "FAIL" and "has no locks" in found.state
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)  # as if locks kept nobody out
    assert next(doctor_checks.check_folder(tmp_path)).level == "FAIL"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**7))
    (found,) = doctor_checks.check_folder(tmp_path)
    assert found.level == "FAIL" and "0.01 GB free" in found.state


# ---------------------------------------------------------------- models


def test_models_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "WEIGHTS", tmp_path)
    found = by_check([*doctor_models.check_engines(None, None), *doctor_models.check_verifiers()])
    for check in ("engine hf", "verifier micromath/prm", "verifier micromath/orm"):
        assert found[check].level == "FAIL" and str(tmp_path) in found[check].state, check
        assert found[check].mend == "pip install --force-reinstall --no-deps tts-eval"
    assert found["public verifiers"].level == "ok"


def test_another_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_models, "KNOWN", "12")
    (found,) = doctor_models.check_search()
    assert found.level == "FAIL" and "answers (1,4,1) and not 12" in found.state


def test_engines_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from tts_eval.model_adapters import engines

    def missing(name: str) -> Any:
        raise TtsEvalError(f"base={name} can't be imported")

    monkeypatch.setattr(doctor_models, "_sample", lambda: "fine")
    monkeypatch.setattr(engines, "base_class", missing)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    found = by_check(doctor_models.check_engines(None, None))
    assert found["engine local-completions"].level == "absent"
    assert found["engine local-completions"].mend == "pip install 'tts-eval[api]'"
    assert found["engine vllm"].state == "base=vllm can't be imported"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = by_check(doctor_models.check_engines(None, None))
    assert (found["engine vllm"].state, found["engine vllm"].level) == ("vllm isn't installed", "absent")
    monkeypatch.setattr(engines, "base_class", lambda name: object)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.32.0")
    found = by_check(doctor_models.check_engines(None, None))
    assert {one.level for one in found.values()} == {"ok"}
    assert found["engine vllm"].state == "vllm 0.32.0 can be imported"


def test_families_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tts_eval.commands.doctor_models import check_verifiers\n"
        "print([(one.level, one.mend) for one in check_verifiers()][-1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == """('FAIL', "pip install 'tts-eval[hf]'")"""


@pytest.mark.parametrize("kind", ["completions", "chat"])
def test_a_server(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(doctor_models, "_sample", lambda: "fine")
    with Stub() as stub:
        url = getattr(stub, kind)
        found = by_check(doctor_models.check_engines(url, "stub"))[f"server {url}"]
        assert found.level == "ok" and found.state.startswith("8 samples in "), found
        assert stub.stats()["samples"] == 8
        stub.set(share={"400": 1.0})
        found = by_check(doctor_models.check_engines(url, "stub"))[f"server {url}"]
        assert found.level == "FAIL" and "400" in found.state and found.mend == f"curl {stub.url}/v1/models", found


def test_a_dead_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_models, "_sample", lambda: "fine")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{found.getsockname()[1]}/v1/completions"
    dead = by_check(doctor_models.check_engines(url, "m"))[f"server {url}"]
    assert dead.level == "FAIL" and "Connection refused" in dead.state and dead.mend.startswith("curl http://127.0")
