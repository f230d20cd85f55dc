"""The M-times larger model of an exchange rate: a plain, greedy run of lm-eval (Snell et al. 2024, section 7)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tts_eval.types import TtsEvalError


_METRICS = ("accuracy", "exact_match", "acc")  # of our tasks, of lm-eval's own generation tasks, of the others


@dataclass(frozen=True)
class PlainRun:
    """What lm-eval wrote of a run.

    Attributes:
        name: The model, as the command line had it.
        parameters: How many it has; None where lm-eval couldn't count them.
        correct: By `unique_id` of the problem (lm-eval's `prompt_hash` where it has none, as in our journals) the share
            of its answers that are right.
        notes: What was left out.
    """

    name: str
    parameters: int | None
    correct: Mapping[str, float]
    notes: tuple[str, ...] = ()


def read_parameters(folder: Path) -> tuple[str, int] | None:
    """The policy's name and number of parameters, from the newest `results_*.json` that has both; else None."""
    for config in reversed(_configs(folder)):
        name, count = _model(config), config.get("model_num_parameters")
        if name and isinstance(count, int) and count > 0:
            return name, count
    return None


def read_plain_run(path: Path, task: str) -> PlainRun:
    """Reads a run's newest samples of one task.

    Where the task has several of lm-eval's filters, each reads an answer from the same text in its own way. The one by
    which the run is best counts: one that wants a certain wording would make the larger model look worse than it is.

    Args:
        path: The run's folder, or one above it.
        task: lm-eval's task name.

    Raises:
        TtsEvalError: If there are none, or a line is malformed.
    """
    # The timestamp is matched too: the files of `gsm8k_cot` aren't those of `gsm8k`.
    name = f"samples_{task}_????-??-??T*.jsonl"
    files = sorted(path.rglob(name), key=lambda file: file.name) if path.is_dir() else []
    if not files:
        raise TtsEvalError(
            f"{path}: no samples_{task}_*.jsonl; run lm_eval on the larger model with --log_samples and --output_path"
        )
    filters: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with files[-1].open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                sample = json.loads(line)
                given = sample["doc"].get("unique_id")
                uid = str(given) if given is not None else sample["prompt_hash"]
                right = float(next(sample[name] for name in _METRICS if name in sample))
                filters[str(sample.get("filter"))][uid].append(right)
            except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
                raise TtsEvalError(
                    f"{files[-1]}:{number}: not a graded sample of lm-eval ({error!r}); run the larger model again"
                ) from error
    known = read_parameters(files[-1].parent)
    model, parameters = (files[-1].parent.name, None) if known is None else known
    correct = {one: {uid: float(np.mean(of_uid)) for uid, of_uid in shares.items()} for one, shares in filters.items()}
    best = max(correct, key=lambda one: float(np.mean(list(correct[one].values()))), default=None)
    if best is None:
        return PlainRun(model, parameters, {})
    note = f"--larger: of lm-eval's filters {', '.join(filters)} the kindest to it is taken, {best}"
    return PlainRun(model, parameters, correct[best], (note,) if len(filters) > 1 else ())


def _model(config: Mapping[str, Any]) -> str:
    """What `--model_args` had for the model; lm-eval keeps them as text or as an object."""
    arguments = config.get("model_args")
    if isinstance(arguments, str):
        arguments = dict(part.partition("=")[::2] for part in arguments.split(","))
    name = str(arguments.get("pretrained") or arguments.get("model") or "") if isinstance(arguments, dict) else ""
    return Path(name).name if name.startswith("/") else name  # a path says more of the machine than of the model


def _configs(folder: Path) -> list[dict[str, Any]]:
    """What lm-eval noted of the runs in a folder, the oldest first; files that it didn't finish are left out."""
    configs = []
    for file in sorted(folder.glob("results_*.json")):
        try:
            config = json.loads(file.read_text(encoding="utf-8"))["config"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(config, dict):
            configs.append(config)
    return configs
