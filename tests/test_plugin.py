"""How lm-eval comes to know us: registration, the start-up hook, one-line errors, and the command line around them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lm_eval.models
import pytest
from lm_eval.api.registry import model_registry
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex

import tts_eval.tasks
from tts_eval import cli, plugin
from tts_eval.commands import enable
from tts_eval.types import TtsEvalError


OURS = Path(tts_eval.tasks.__path__[0])
LM_EVAL_TASKS = Path(lm_eval.models.__file__).parents[1] / "tasks"


def python(code: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


# ---------------------------------------------------------------- registration


def test_register_keeps_the_built_in_models_and_may_be_repeated() -> None:
    plugin.register()
    once = TaskIndex.build
    plugin.register()
    assert TaskIndex.build is once
    assert set(plugin.ADAPTERS) | set(lm_eval.models.MODEL_MAPPING) <= set(model_registry)
    assert model_registry.get("dummy").__name__ == "DummyLM"


def test_a_name_that_lm_eval_found_itself_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugin.ADAPTERS, "dummy", "elsewhere:Class")
    plugin.register_adapters()
    assert model_registry.get("dummy").__name__ == "DummyLM"


def test_task_folder_comes_after_lm_evals_and_before_the_users(tmp_path: Path) -> None:
    assert plugin.with_task_folder([LM_EVAL_TASKS, tmp_path]) == [LM_EVAL_TASKS, OURS, tmp_path]


@pytest.mark.parametrize("paths", [[Path("mine")], [LM_EVAL_TASKS, OURS]], ids=["no defaults", "already listed"])
def test_task_folder_is_not_forced_in(paths: list[Path]) -> None:
    assert plugin.with_task_folder(paths) == paths


def test_task_manager_finds_our_tasks_unless_told_not_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugin.register()
    # lm-eval's own thousands of YAML files take seconds to read, and say nothing here.
    monkeypatch.setattr("lm_eval.tasks.manager.__file__", str(tmp_path / "manager.py"))
    monkeypatch.setattr("lm_eval.tasks.__path__", [str(tmp_path)])
    assert "tts_math500" in TaskManager().all_tasks
    assert TaskManager(include_defaults=False).all_tasks == []


# ---------------------------------------------------------------- the hook of `tts-eval enable`


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site-packages folder with the hook and an lm_eval whose modules are empty."""
    (tmp_path / "lm_eval" / "tasks").mkdir(parents=True)
    for name in ("__init__", "models", "tasks/__init__", "tasks/_index"):
        (tmp_path / "lm_eval" / f"{name}.py").write_text("DONE = True")
    enable.enable(tmp_path)
    return tmp_path


def start_with(site: Path, code: str) -> str:
    # -S: of the real site-packages nothing is seen, so neither tts_eval nor lm_eval is installed but for `site`.
    done = python(f"import site, sys; site.addsitedir({str(site)!r}); {code}", "-I", "-S")
    assert done.stderr == ""
    return done.stdout.strip()


def test_hook_imports_nothing_at_start(site: Path) -> None:
    (site / "tts_eval").mkdir()
    shown = start_with(site, "print([m for m in sys.modules if m.startswith(('tts_eval', 'lm_eval', 'importlib.'))])")
    assert shown == "[]"


def test_hook_calls_us_after_lm_evals_modules(site: Path) -> None:
    (site / "tts_eval").mkdir()
    (site / "tts_eval" / "plugin.py").write_text(
        "import sys\ndef after_import(name): print(name, sys.modules[name].DONE)"
    )
    shown = start_with(site, "import lm_eval.tasks._index, lm_eval.models, lm_eval.models")
    assert shown.splitlines() == ["lm_eval.tasks._index True", "lm_eval.models True"]


def test_hook_is_silent_without_tts_eval(site: Path) -> None:
    assert start_with(site, "import lm_eval.models, lm_eval.tasks._index; print(lm_eval.models.DONE)") == "True"


def test_hook_is_silent_without_lm_eval(tmp_path: Path) -> None:
    enable.enable(tmp_path)
    assert start_with(tmp_path, "import importlib.util as u; print(u.find_spec('lm_eval'))") == "None"


def test_hook_makes_the_plain_lm_eval_know_us(tmp_path: Path) -> None:
    enable.enable(tmp_path)
    code = (
        f"import site; site.addsitedir({str(tmp_path)!r})\n"
        "from lm_eval.api.registry import model_registry\n"
        "import lm_eval.models\n"
        "print('tts-best-of-n' in model_registry, 'hf' in model_registry)\n"
    )
    assert python(code).stdout.split() == ["True", "True"]


def test_hook_only_warns_where_lm_eval_is_built_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "_build_index", None)
    monkeypatch.delattr("lm_eval.tasks._index.TaskIndex")
    with pytest.warns(UserWarning, match="doesn't fit this lm-eval: .*TaskIndex"):
        plugin.after_import("lm_eval.tasks._index")


def test_enable_and_disable_say_what_they_did(tmp_path: Path) -> None:
    path = tmp_path / enable.HOOK_NAME
    assert enable.enable(tmp_path).startswith(f"enabled: wrote {path}")
    assert path.read_text().count("\n") == 1
    assert enable.enable(tmp_path) == f"already enabled: {path}"
    path.write_text("import sys; 'of an older release'\n")
    assert enable.enable(tmp_path).startswith("enabled")
    assert enable.disable(tmp_path) == f"disabled: removed {path}"
    assert enable.disable(tmp_path) == f"already disabled: there is no {path}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [enable.enable, enable.disable])
def test_site_packages_that_cant_be_written(
    change: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tests may run as root, whom file modes don't stop.
    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(TtsEvalError, match=r"can't change .*: permission denied; activate an environment"):
        change(tmp_path)


# ---------------------------------------------------------------- errors


FAIL = "from tts_eval import plugin, types; plugin.install_excepthook(); error = types.TtsEvalError('no\\nmodel'); "


@pytest.mark.parametrize("statement", ["raise error", "raise RuntimeError('wrapped') from error"])
def test_our_error_is_one_line(statement: str) -> None:
    done = python(FAIL + statement)
    assert (done.returncode, done.stderr) == (1, "tts-eval: no model\n")


@pytest.mark.parametrize(
    ("statement", "environment"),
    [("raise error", {"TTS_EVAL_TRACEBACK": "1"}), ("raise RuntimeError('theirs')", {})],
)
def test_other_errors_keep_their_traceback(statement: str, environment: dict[str, str]) -> None:
    done = python(FAIL + statement, **environment)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_an_error_while_handling_ours_is_not_ours() -> None:
    try:
        try:
            raise TtsEvalError("first")
        except TtsEvalError:
            raise ValueError("a bug")  # noqa: B904
    except ValueError as error:
        assert plugin.error_line(error) is None


# ---------------------------------------------------------------- the command line


def test_unknown_command_names_the_near_match(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["selct"]) == 2
    assert capsys.readouterr().err == "tts-eval: unknown command 'selct'; did you mean 'select'?\n"


def test_help_imports_neither_torch_nor_lm_eval() -> None:
    heavy = "{'torch', 'lm_eval', 'numpy'}"
    done = python(f"import sys; from tts_eval import cli; cli.main([]); print(sorted({heavy} & set(sys.modules)))")
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in cli.COMMANDS)


def test_run_passes_everything_through(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["tts-eval"])
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: seen.append(sys.argv))
    assert cli.main(["run", "--model", "dummy", "--help", "--", "-x"]) == 0
    assert seen == [["lm_eval", "run", "--model", "dummy", "--help", "--", "-x"]]


def test_error_of_a_command_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise TtsEvalError("no such thing")

    monkeypatch.setattr(enable, "run", fail)
    assert cli.main(["enable"]) == 1
    assert capsys.readouterr().err == "tts-eval: no such thing\n"
    monkeypatch.setenv("TTS_EVAL_TRACEBACK", "1")
    with pytest.raises(TtsEvalError):
        cli.main(["enable"])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("tts-eval ")
