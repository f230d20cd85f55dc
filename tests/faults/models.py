"""Model folders that are broken in one way or another, made of those of microMATH."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tts_eval.micro.members import resolve


def copy(name: str, folder: Path) -> Path:
    """A copy of a member."""
    return Path(shutil.copytree(resolve(f"micromath/{name}"), folder))


def with_nan(name: str, folder: Path, weight: str) -> Path:
    """One that computes NaN."""
    copy(name, folder)
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    weights[weight] = torch.full_like(weights[weight], float("nan"))
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def as_pickle(name: str, folder: Path) -> Path:
    """One whose weights are the same, in a pickle."""
    copy(name, folder)
    (file,) = folder.glob("*.safetensors")
    torch.save(load_file(file), folder / "pytorch_model.bin")
    file.unlink()
    return folder


def with_code(name: str, folder: Path, mark: Path) -> Path:
    """One that names code of its own, which would leave a mark."""
    copy(name, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "unheard-of", "auto_map": {"AutoConfig": "theirs.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    code = f"open({str(mark)!r}, 'w')\nfrom transformers import LlamaConfig\nclass Config(LlamaConfig): pass\n"
    (folder / "theirs.py").write_text(code)
    return folder
