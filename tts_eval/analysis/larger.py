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
        correct: By `unique_id` of the problem (`doc_hash` where it has none) the share of its answers that are right.
    """

    name: str
    parameters: int | None
    correct: Mapping[str, float]


def read_parameters(folder: Path) -> tuple[str, int] | None:
    """The policy's name and number of parameters, from the newest `results_*.json` that has both; else None."""
    for config in reversed(_configs(folder)):
        name, count = _model(config), config.get("model_num_parameters")
        if name and isinstance(count, int) and count > 0:
            return name, count
    return None


def read_plain_run(path: Path, task: str) -> PlainRun:
    """Reads a run's newest samples of one task.

    Args:
        path: The run's folder, or one above it.
        task: lm-eval's task name.

    Raises:
        TtsEvalError: If there are none, or a line is malformed.
    """
    files = sorted(path.rglob(f"samples_{task}_*.jsonl"), key=lambda file: file.name) if path.is_dir() else []
    if not files:
        raise TtsEvalError(
            f"{path}: no samples_{task}_*.jsonl; run lm_eval on the larger model with --log_samples and --output_path"
        )
    shares: dict[str, list[float]] = defaultdict(list)
    with files[-1].open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                sample = json.loads(line)
                uid = sample["doc"].get("unique_id", sample["doc_hash"])
                shares[str(uid)].append(float(next(sample[name] for name in _METRICS if name in sample)))
            except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
                raise TtsEvalError(
                    f"{files[-1]}:{number}: not a graded sample of lm-eval ({error!r}); run the larger model again"
                ) from error
    known = read_parameters(files[-1].parent)
    name, parameters = (files[-1].parent.name, None) if known is None else known
    return PlainRun(name, parameters, {uid: float(np.mean(of_uid)) for uid, of_uid in shares.items()})


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
