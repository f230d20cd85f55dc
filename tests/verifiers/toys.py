"""A tokenizer of bytes with the special tokens of the public families, and tiny random models that speak it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from tts_eval.types import Prefix, Problem


MARKS = ["<extra_0>", "<s>", "<|im_start|>", "<|im_end|>"]
CONTEXT = 512

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A template that strips what it is given, as many do."""

SIZE: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "pad_token_id": None,
    "eos_token_id": None,
    "bos_token_id": None,
}

PROBLEM = Problem("p", "Q: What is 2 + 3 * 4?\nA: ", (), 100, question="What is 2 + 3 * 4?")
STEPS = ("3 * 4 = 12\n\n", "2 + 12 = 14.\n\n", "So it is \\boxed{14}.")
OTHER = Problem("o", "Q: What is 7 - 1?\nA: ", (), 100, question="What is 7 - 1?")


def tokenizer(*, without: tuple[str, ...] = (), chat: bool = True, starts: bool = True) -> PreTrainedTokenizerFast:
    """One token a byte, but one for a full stop with a blank line, as in the vocabularies of Llama 3 and Qwen.

    Args:
        without: Special tokens to be left out.
        chat: Whether it has a chat template.
        starts: Whether it starts texts with a token by itself; Qwen's doesn't.
    """
    letters = ["!", *(letter for letter in sorted(ByteLevel.alphabet()) if letter != "!"), "ĊĊ", ".ĊĊ"]
    merges = [("Ċ", "Ċ"), (".", "ĊĊ")]
    backend = Tokenizer(BPE({letter: index for index, letter in enumerate(letters)}, merges))
    backend.pre_tokenizer = Sequence(
        [Split(Regex(r"[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|[^\r\n]"), "isolated"), ByteLevel(False, use_regex=False)]
    )
    backend.decoder = ByteLevelDecoder()
    if "ки" not in without:
        backend.add_tokens([AddedToken("ки", normalized=False)])
    backend.add_special_tokens([mark for mark in MARKS if mark not in without])
    if starts:
        start = ("<s>", backend.token_to_id("<s>"))
        backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[start])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=None if "<s>" in without else "<s>")
    fast.chat_template = CHATML if chat else None
    return fast


def vocabulary() -> int:
    return len(tokenizer())


def llama(**changes: Any) -> LlamaConfig:
    return LlamaConfig(vocab_size=vocabulary(), **(SIZE | changes))


def qwen(**changes: Any) -> Qwen2Config:
    return Qwen2Config(vocab_size=vocabulary(), **(SIZE | changes))


def saved(folder: Path, kind: Any, config: Any, *, seed: int = 0, **tokenizer_options: Any) -> Any:
    """Makes a random model, saves it with its tokenizer, and returns it."""
    torch.manual_seed(seed)
    model = kind(config).eval()
    model.save_pretrained(folder)
    tokenizer(**tokenizer_options).save_pretrained(folder)
    return model


def saved_with_head(folder: Path, base: Any, head: torch.nn.Module, prefix: str, **tokenizer_options: Any) -> None:
    """Saves a base and a head as those do whose model class is remote code."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"model.{name}": value for name, value in base.state_dict().items()}
    weights |= {f"{prefix}.{name}": value for name, value in head.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = base.config.to_dict() | {"auto_map": {"AutoModel": "evil.Remote"}, "architectures": ["Remote"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')")
    tokenizer(**tokenizer_options).save_pretrained(folder)


def prefix(*steps: str) -> Prefix:
    return Prefix(steps=steps)
