"""Shapes of models that are on this machine, for counting FLOPs: nothing is downloaded, nothing is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from tts_eval.analysis.ledger_flops import ModelShape, model_shape
from tts_eval.micro.members import resolve
from tts_eval.types import TtsEvalError


def find_shape(name: str, parameters: int | None) -> ModelShape | None:
    """Reads a model's config where it can be found: one of ours, a folder, or the local cache of Hugging Face.

    Args:
        name: As it was given to a run.
        parameters: How many it has; None counts them in its safetensors files.

    Returns:
        None where the config or the number of parameters can't be found, or isn't that of a plain dense transformer.
    """
    folder = _folder(name)
    if folder is None or not (folder / "config.json").is_file():
        return None
    count = parameters or _count(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return model_shape(config, count) if count else None
    except (OSError, ValueError, TtsEvalError):
        return None


def _folder(name: str) -> Path | None:
    found = Path(resolve(name))
    if found.is_dir():
        return found
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    try:
        cached = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no name of a repository
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def _count(folder: Path) -> int:
    """Parameters in the safetensors files, by their headers."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for length in tensor["shape"]:
                    size *= length
                total += size
    return total
