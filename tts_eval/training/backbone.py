"""The model that becomes a verifier: a causal language model whose head gives one number a token."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer
from transformers.utils import logging

from tts_eval.training.scorer import Scorer
from tts_eval.types import TtsEvalError


class Backbone(NamedTuple):
    """A token classifier with one label, in float32, and its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def context(self) -> int | None:
        """Longest sequence in tokens; None where positions have no limit."""
        limit: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return limit


def load_backbone(name_or_path: str, dropout: float) -> Backbone:
    """Loads a causal language model and puts a fresh head in the place of its own.

    Args:
        name_or_path: A folder, a .gguf file, or a name on the hub.
        dropout: Before the head and, in architectures that have it, on attention weights.

    Raises:
        TtsEvalError: If it can't be loaded, or lacks weights of its trunk.
    """
    path = Path(name_or_path)
    # transformers dequantises a .gguf file, but won't save the very model that it made of it.
    gguf = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    source = str(path.parent) if gguf else name_or_path
    kind = AutoModelForCausalLM if gguf else AutoModelForTokenClassification
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **gguf)
        config = _configure(AutoConfig.from_pretrained(source, **gguf), dropout)
        with _quiet():
            model, report = kind.from_pretrained(
                source, config=config, dtype=torch.float32, output_loading_info=True, **gguf
            )
    except (OSError, ValueError) as error:
        raise TtsEvalError(f"--backbone {name_or_path}: {str(error).strip().splitlines()[0]}") from error
    missing = sorted(key for key in report["missing_keys"] if key.startswith(f"{model.base_model_prefix}."))
    if missing:
        raise TtsEvalError(f"--backbone {name_or_path} has no weights named {', '.join(missing[:3])}")
    return backbone_of(model, tokenizer, dropout) if gguf else Backbone(model, tokenizer)


def backbone_of(policy: Any, tokenizer: Any, dropout: float) -> Backbone:
    """The same from a causal language model in memory, which stays as it is; see `load_backbone`."""
    config = _configure(type(policy.config).from_dict(policy.config.to_dict()), dropout)
    model = AutoModelForTokenClassification.from_config(config, dtype=torch.float32)
    model.base_model.load_state_dict(policy.base_model.state_dict())
    return Backbone(model, tokenizer)


def publish(scorer: Scorer, tokenizer: Any, folder: Path) -> None:
    """Writes model and tokenizer, replacing older ones: a crash leaves the old or the new file, never half of one.

    Raises:
        TtsEvalError: If the disk refuses.
    """
    if scorer.weight is not None:
        scorer.classifier.config.tts_eval["likelihood"] = float(scorer.weight.detach())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as new, _quiet():
            scorer.classifier.save_pretrained(new)
            tokenizer.save_pretrained(new)
            for file in Path(new).iterdir():
                os.replace(file, folder / file.name)
    except OSError as error:
        raise TtsEvalError(f"--output {folder}: {error.strerror}; free space, or name another folder") from error


def _configure(config: Any, dropout: float) -> Any:
    config.num_labels = 1
    config.classifier_dropout = dropout
    config.attention_dropout = dropout
    return config


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own bars, and its warning that the head is new."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
