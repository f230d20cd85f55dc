"""The model that training starts from: a causal language model, with its own head or with one that scores tokens."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer
from transformers.utils import logging

from tts_eval.types import TtsEvalError
from tts_eval.verifiers.heads import only_pickled, source


_NEW = ".new-"  # begins the name of a folder whose model isn't whole yet


class Backbone(NamedTuple):
    """A language model, or a token classifier with one label, in float32; and its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def context(self) -> int:
        """Longest sequence in tokens; `sys.maxsize` where positions have no limit."""
        limit: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return limit or sys.maxsize


def load_backbone(name_or_path: str, dropout: float) -> Backbone:
    """Loads a causal language model and puts a fresh head in the place of its own.

    Args:
        name_or_path: A folder, a .gguf file, or a name on the hub.
        dropout: Before the head and, in architectures that have it, on attention weights; elsewhere there is none.

    Raises:
        TtsEvalError: If it can't be loaded, or lacks weights of its trunk.
    """
    gguf = name_or_path.endswith(".gguf")
    tokenizer, config = _tokenizer_and_config(name_or_path)
    config = _configure(config, dropout)
    # transformers dequantises a .gguf file, but won't save the very model that it made of it.
    kind = AutoModelForCausalLM if gguf else AutoModelForTokenClassification
    model, missing = _load(kind, name_or_path, config)
    missing = [key for key in missing if key.startswith(f"{model.base_model_prefix}.")]
    if missing:
        raise TtsEvalError(f"--backbone {name_or_path} has no weights named {', '.join(missing[:3])}")
    return backbone_of(model, tokenizer, dropout) if gguf else Backbone(model, tokenizer)


def load_language_model(name_or_path: str, context: int | None) -> Backbone:
    """Loads a causal language model to train on, without dropout.

    Args:
        name_or_path: A folder, a .gguf file, or a name on the hub.
        context: Longest sequence that it is to read, in tokens; None leaves it as it is.

    Raises:
        TtsEvalError: If it can't be loaded or lacks weights, or can't have such a context.
    """
    tokenizer, config = _tokenizer_and_config(name_or_path)
    _set_dropout(config.get_text_config(), 0.0)
    if context is not None:
        _set_context(name_or_path, config.get_text_config(), context)
        tokenizer.model_max_length = context
    model, missing = _load(AutoModelForCausalLM, name_or_path, config)
    if missing:
        raise TtsEvalError(f"--backbone {name_or_path} has no weights named {', '.join(missing[:3])}")
    if name_or_path.endswith(".gguf"):
        copy = AutoModelForCausalLM.from_config(_copy_of(model.config), dtype=torch.float32)
        copy.load_state_dict(model.state_dict())
        model = copy
    return Backbone(model, tokenizer)


def backbone_of(policy: Any, tokenizer: Any, dropout: float) -> Backbone:
    """The same from a causal language model in memory, which stays as it is; see `load_backbone`."""
    config = _configure(_copy_of(policy.config), dropout)
    model = AutoModelForTokenClassification.from_config(config, dtype=torch.float32)
    model.base_model.load_state_dict(policy.base_model.state_dict())
    return Backbone(model, tokenizer)


def publish(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes model and tokenizer, replacing older ones: a crash leaves the old or the new file, never half of one.

    Raises:
        TtsEvalError: If the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{_NEW}*"):  # by a process that was killed here
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(dir=folder, prefix=_NEW) as new, quiet():
            model.save_pretrained(new)
            tokenizer.save_pretrained(new)
            for file in Path(new).iterdir():
                os.replace(file, folder / file.name)
    except OSError as error:
        raise TtsEvalError(f"--output {folder}: {error.strerror}; free space, or name another folder") from error


def _tokenizer_and_config(name_or_path: str) -> tuple[Any, Any]:
    try:
        found = source(name_or_path)
        return AutoTokenizer.from_pretrained(**found), AutoConfig.from_pretrained(**found)
    except (OSError, ValueError) as error:
        raise _unloadable(name_or_path, error) from error


def _load(kind: Any, name_or_path: str, config: Any) -> tuple[Any, list[str]]:
    """A model, and the names of weights that it lacks."""
    if only_pickled(name_or_path):
        raise TtsEvalError(
            f"--backbone {name_or_path}: its weights are a pickle, which can run any code when it is read: save them "
            "as safetensors"
        )
    wanted = source(name_or_path) | {"config": config, "dtype": torch.float32, "output_loading_info": True}
    if "gguf_file" not in wanted:
        wanted["use_safetensors"] = True
    try:
        with quiet():
            model, report = kind.from_pretrained(**wanted)
    except (OSError, ValueError) as error:
        raise _unloadable(name_or_path, error) from error
    return model, sorted(report["missing_keys"])


def _unloadable(name_or_path: str, error: Exception) -> TtsEvalError:
    return TtsEvalError(f"--backbone {name_or_path}: {str(error).strip().splitlines()[0]}")


def _copy_of(config: Any) -> Any:
    return type(config).from_dict(config.to_dict())


def _set_context(name_or_path: str, config: Any, context: int) -> None:
    positions = getattr(config, "rope_parameters", None) or {}
    if positions.get("rope_type") != "default":
        raise TtsEvalError(
            f"--context {context}: only a model with plain rotary positions can learn to read further, and "
            f"{name_or_path} is none; leave the option away"
        )
    config.max_position_embeddings = context


def _configure(config: Any, dropout: float) -> Any:
    _set_dropout(config.get_text_config(), dropout)
    config.num_labels = 1
    config.classifier_dropout = dropout
    return config


def _set_dropout(config: Any, on_attention: float) -> None:
    """Leaves no dropout but that on attention weights; each architecture has names of its own."""
    for name, value in vars(config).items():
        if "drop" in name and type(value) in (int, float):
            setattr(config, name, on_attention if "att" in name else 0.0)


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own bars, and its warning that a head is new."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
