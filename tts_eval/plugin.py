"""Makes lm-eval know our adapters and tasks by name.

lm-eval 0.4.13 reads no entry points. `tts-eval run` calls `register` and then lm-eval; `tts-eval enable` installs a
start-up hook that calls `after_import`, for the plain `lm_eval` command. Both leave alone what lm-eval itself already
found: a newer one that reads our entry points skips names that are taken, and so do we.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from tts_eval.model_adapters.secrets import HideSecrets, without_secrets
from tts_eval.types import TtsEvalError


ADAPTERS = {
    "tts-best-of-n": "tts_eval.model_adapters.best_of_n:BestOfN",
    "tts-beam": "tts_eval.model_adapters.step_search:Beam",
    "tts-lookahead": "tts_eval.model_adapters.step_search:Lookahead",
    "tts-dvts": "tts_eval.model_adapters.step_search:Dvts",
    "tts-rebase": "tts_eval.model_adapters.step_search:Rebase",
    "tts-revise": "tts_eval.model_adapters.revise:Revise",
    "tts-optimal": "tts_eval.model_adapters.optimal:Optimal",
    "tts-replay": "tts_eval.model_adapters.replay:Replay",
}
"""lm-eval model name -> where its class is. Strings, so that naming an adapter imports nothing."""

ExceptHook = Callable[[type[BaseException], BaseException, "TracebackType | None"], Any]

_build_index: Callable[..., Any] | None = None
_previous_excepthook: ExceptHook | None = None


def register() -> None:
    """Registers adapters and tasks with lm-eval and makes our errors one line; calling it again changes nothing."""
    register_adapters()
    register_tasks()
    install_excepthook()


def after_import(module: str) -> None:
    """Registers what belongs to the lm-eval module that was just imported. The start-up hook calls this by name.

    Args:
        module: `lm_eval.models` or `lm_eval.tasks._index`.
    """
    try:
        if module == "lm_eval.models":
            register_adapters()
        else:
            register_tasks()
    except (ImportError, AttributeError) as error:
        # An lm-eval built differently must go on working for those who enabled us and run something else.
        warnings.warn(f"tts-eval doesn't fit this lm-eval: {error}; `tts-eval disable` ends this warning", stacklevel=2)
    install_excepthook()


def register_adapters() -> None:
    """Puts every name of `ADAPTERS` that is still free into lm-eval's model registry, to be imported on first use."""
    # Importing this fills the registry: lm-eval only does so while it is empty, and would never list its own models.
    import lm_eval.models  # noqa: F401
    from lm_eval.api.registry import model_registry

    for talker in map(logging.getLogger, ("lm_eval.evaluator", "lm_eval.models.api_models")):
        if not any(isinstance(one, HideSecrets) for one in talker.filters):
            talker.addFilter(HideSecrets())
    for name, target in ADAPTERS.items():
        if name not in model_registry:
            model_registry.register(name, target=target)


def register_tasks() -> None:
    """Adds our task folder to every task index that lm-eval builds over its own tasks."""
    global _build_index
    if _build_index is not None:
        return
    from lm_eval.tasks._index import TaskIndex

    build = _build_index = TaskIndex.build

    def build_with_ours(paths: Iterable[Path], **options: Any) -> Any:
        return build(with_task_folder(list(paths)), **options)

    TaskIndex.build = staticmethod(build_with_ours)


def with_task_folder(paths: list[Path]) -> list[Path]:
    """Inserts our task folder after lm-eval's own, so that a later `--include_path` of the user overrides both.

    Args:
        paths: The folders about to be indexed; a later one overrides an earlier one.

    Returns:
        The folders to index: unchanged without lm-eval's own tasks (`include_defaults=False`), or where somebody
        (the user, or an lm-eval that reads entry points) lists our folder already.
    """
    import lm_eval.tasks

    import tts_eval.tasks

    ours, own = Path(tts_eval.tasks.__path__[0]), Path(lm_eval.tasks.__path__[0]).resolve()
    resolved = [Path(path).resolve() for path in paths]
    if own not in resolved or ours.resolve() in resolved:
        return paths
    after = resolved.index(own) + 1
    return [*paths[:after], ours, *paths[after:]]


def install_excepthook() -> None:
    """Makes an uncaught `TtsEvalError` one line on stderr; everything else goes to the hook that was there before."""
    global _previous_excepthook
    if _previous_excepthook is None:
        _previous_excepthook, sys.excepthook = sys.excepthook, _excepthook


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        leave_at_next_interrupt()
    line = error_line(error)
    if line is not None:
        print(line, file=sys.stderr)
    elif _previous_excepthook is not None:
        _previous_excepthook(kind, error, trace)


def leave_at_next_interrupt() -> None:
    """Lets a second Ctrl-C end the process at once, while the first has it clean up."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def error_line(error: BaseException) -> str | None:
    """The one line to show for an error that the user can mend, and for Ctrl-C.

    Args:
        error: A `TtsEvalError`, an exception raised `from` one (lm-eval wraps some), or a `KeyboardInterrupt`.

    Returns:
        The line, or None for any other error, or where `TTS_EVAL_TRACEBACK=1` asks for the traceback.
    """
    if isinstance(error, KeyboardInterrupt) and os.environ.get("TTS_EVAL_TRACEBACK") != "1":
        return f"tts-eval: interrupted; {str(error) or 'what was written is kept'}"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, TtsEvalError):
        cause = cause.__cause__
    if cause is None or os.environ.get("TTS_EVAL_TRACEBACK") == "1":
        return None
    return without_secrets(f"tts-eval: {' '.join(str(cause).split())}")
