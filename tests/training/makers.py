"""A tiny random policy, and label files by a rule that it can learn: a step is good as long as no `x` was written."""

from __future__ import annotations

import functools
import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tts_eval.engines.tokens import vocabulary_hash
from tts_eval.training import TrainingConfig
from tts_eval.types import Usage


ALPHABET = ["<unk>", "<s>", *"abcdefghijx0123456789?: \n"]
USAGE = asdict(Usage())


def tokenizer(alphabet: tuple[str, ...] = tuple(ALPHABET)) -> PreTrainedTokenizerFast:
    """One token a character, and a start token before a text."""
    backend = Tokenizer(models.WordLevel({token: index for index, token in enumerate(alphabet)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", clean_up_tokenization_spaces=False)


def policy(context: int = 128, *, tie_word_embeddings: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(ALPHABET),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.1,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=tie_word_embeddings,
    )
    return LlamaForCausalLM(config)


@functools.cache
def policy_folder(folder: Path) -> Path:
    policy().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def solution(rng: random.Random, steps: int = 3) -> dict[str, Any]:
    """Half of the solutions go wrong, at a random step."""
    wrong_from = rng.choice([*range(steps), *[steps] * steps])
    texts, labels = [], []
    for i in range(steps):
        text = [rng.choice("abcdefghij") for _ in range(4)]
        if i == wrong_from:
            text[rng.randrange(4)] = "x"
        texts.append("".join(text) + "\n" * (i < steps - 1))
        labels.append(0.0 if i >= wrong_from else 1.0)
    tail = {"answer": "1", "correct": labels[-1] == 1, "finish": "eos", "tokens": 15}
    return {"steps": texts, "labels": labels, **tail}


def label_rows(questions: int = 40, samples: int = 8, **header: Any) -> list[dict[str, Any]]:
    rng = random.Random(0)
    run = {"tokenizer": vocabulary_hash(tokenizer()), "step_delimiter": "\n", **header}
    rows: list[dict[str, Any]] = [{"schema": 1, "run": run}]
    for i in range(questions):
        problem = {"schema": 1, "uid": f"q/{i}", "prompt": f"{i}?\n", "question": f"{i}?", "gold": "1"}
        solutions = [solution(rng) for _ in range(samples)]
        rows.append({**problem, "solutions": solutions, "dropped": 0, "usage": USAGE})
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(folder: Path, **changes: Any) -> TrainingConfig:
    """A run of 8 steps an epoch in `folder`, on label files that lie there."""
    data = changes.pop("data", None) or (write(folder / "labels.jsonl", label_rows()),)
    settings: dict[str, Any] = {
        "kind": "prm",
        "backbone": str(policy_folder(folder / "policy")),
        "data": data,
        "output": folder / "verifier",
        "batch_size": 32,
        "learning_rate": 3e-3,
        "eval_every": 4,
    }
    return TrainingConfig(**(settings | changes))
