"""What is installed: every package, everything under tasks/, entry points; and the pins that make uses."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tts_eval import __version__
from tts_eval.plugin import ADAPTERS


ROOT = Path(__file__).parents[1]

@pytest.fixture(scope="module")
def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    # From a copy: a build leaves files behind that the next one would pack.
    source = tmp_path_factory.mktemp("source")
    for folder in ("tts_eval", "tasks", "model_adapters"):
        shutil.copytree(ROOT / folder, source / folder)
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    built = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(built), "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return zipfile.ZipFile(next(built.glob("*.whl")))


def files_of(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_every_package_is_listed(config: configparser.ConfigParser) -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "tts_eval").rglob("*.py")
        if "__pycache__" not in path.parts
    }
    listed = set(config["options"]["packages"].split())
    assert listed == found | {"tts_eval.model_adapters", "tts_eval.tasks"}, "update [options] packages in setup.cfg"


def test_wheel_contains_all_code_and_task_data(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    expected = {f"tts_eval/{name}" for name in files_of(ROOT / "tts_eval") if name.endswith(".py")}
    expected |= {f"tts_eval/tasks/{name}" for name in files_of(ROOT / "tasks")} | {"tts_eval/report/tree.html.jinja"}
    expected |= {f"tts_eval/model_adapters/{path.name}" for path in (ROOT / "model_adapters").glob("*.py")}
    assert expected <= names
    assert not [name for name in names if name.endswith(".pyc")]
    assert {name.split("/")[0] for name in names} == {"tts_eval", f"tts_eval-{__version__}.dist-info"}


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    folder = f"tts_eval-{__version__}.dist-info"
    metadata = Parser().parsestr(wheel.read(f"{folder}/METADATA").decode())
    assert metadata["Name"] == "tts-eval"
    assert "Apache-2.0" in (metadata["License-Expression"] or metadata["License"])
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    core = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert not [line for line in core if re.match(r"torch|transformers|accelerate|vllm|matplotlib", line)]


def test_entry_points() -> None:
    points = distribution("tts-eval").entry_points
    assert points.select(group="console_scripts", name="tts-eval")["tts-eval"].value == "tts_eval.cli:main"
    assert {point.name: point.value for point in points.select(group="lm_eval.models")} == ADAPTERS
    assert points.select(group="lm_eval.tasks")["tts-eval"].load().__path__


def test_installed_names_work_from_anywhere(tmp_path: Path) -> None:
    code = "import tts_eval.tasks, tts_eval.model_adapters"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_constraints_are_exact_and_name_no_place() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert "torch==2.13.0" in lines
    assert not [line for line in lines if re.match(r"nvidia|triton", line)]
