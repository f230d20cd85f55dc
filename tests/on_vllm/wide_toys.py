"""The toys of `tests/verifiers`, wide enough for vLLM: on a CPU it knows no attention heads as small as theirs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


sys.path.append(str(Path(__file__).parents[1] / "verifiers"))

from toys import CONTEXT, OTHER, PROBLEM, STEPS, llama, prefix, qwen, saved, saved_with_head, tokenizer


__all__ = [
    "CONTEXT",
    "OTHER",
    "PROBLEM",
    "STEPS",
    "WIDE",
    "llama",
    "prefix",
    "qwen",
    "saved",
    "saved_with_head",
    "tokenizer",
]

WIDE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
