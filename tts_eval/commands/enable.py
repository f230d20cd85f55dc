"""`tts-eval enable` and `tts-eval disable`: the opt-in hook that lets the plain `lm_eval` command find us.

Python executes the lines of `*.pth` files in site-packages at start-up. Ours imports nothing: it defines a finder that
waits for lm-eval's own modules and calls `tts_eval.plugin.after_import` once they are there.
"""

from __future__ import annotations

import argparse
import sysconfig
from pathlib import Path

from tts_eval.types import TtsEvalError


HOOK_NAME = "tts_eval_hook.pth"

# Must work without tts_eval (uninstalled, but the hook left behind) and must not change from release to release: the
# file stays as an older release wrote it. `discard` keeps the inner find_spec from finding us again.
HOOK_SOURCE = """
class TtsEvalHook:
    waiting_for = {"lm_eval.models", "lm_eval.tasks._index"}

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name not in cls.waiting_for:
            return None
        cls.waiting_for.discard(name)
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            try:
                from tts_eval.plugin import after_import
            except ImportError:
                return
            after_import(name)

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, TtsEvalHook)
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options of both commands: none."""


def run(args: argparse.Namespace) -> int:
    """Installs or removes the hook, and says so.

    Args:
        args: `command`, "enable" or "disable".

    Raises:
        TtsEvalError: If the environment's site-packages can't be written.
    """
    change = enable if args.command == "enable" else disable
    print(change(Path(sysconfig.get_path("purelib"))))
    return 0


def hook_line() -> str:
    """The line of the `.pth` file; Python executes lines that start with `import`."""
    return f"import sys; exec({HOOK_SOURCE!r}, {{'sys': sys, '__name__': 'tts_eval_hook'}})\n"


def enable(folder: Path) -> str:
    """Writes the hook.

    Args:
        folder: The site-packages folder of the environment.

    Returns:
        What was done.

    Raises:
        TtsEvalError: If the file can't be written.
    """
    path = folder / HOOK_NAME
    try:
        if path.exists() and path.read_text() == hook_line():
            return f"already enabled: {path}"
        path.write_text(hook_line())
    except OSError as error:
        raise _not_writable(path, error) from error
    return f"enabled: wrote {path}; lm_eval now finds our models and tasks by name (undo with: tts-eval disable)"


def disable(folder: Path) -> str:
    """Removes the hook.

    Args:
        folder: The site-packages folder of the environment.

    Returns:
        What was done.

    Raises:
        TtsEvalError: If the file can't be removed.
    """
    path = folder / HOOK_NAME
    try:
        path.unlink()
    except FileNotFoundError:
        return f"already disabled: there is no {path}"
    except OSError as error:
        raise _not_writable(path, error) from error
    return f"disabled: removed {path}"


def _not_writable(path: Path, error: OSError) -> TtsEvalError:
    reason = (error.strerror or str(error)).lower()
    return TtsEvalError(f"can't change {path}: {reason}; activate an environment of your own, or use `tts-eval run`")
