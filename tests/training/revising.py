"""A tiny random policy with an end token, and files of pairs and chains for it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import makers
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tts_eval.engines.tokens import vocabulary_hash
from tts_eval.training import RevisionConfig


ALPHABET = ["<unk>", "<e>", *"abcdefghij0123456789?\\{}ox\n"]
END = ALPHABET.index("<e>")


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, and an end token that no text has."""
    found = makers.tokenizer(tuple(ALPHABET))
    found.add_special_tokens({"eos_token": "<e>"})
    return found


def policy_folder(folder: Path, context: int = 48, **changes: Any) -> Path:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": len(ALPHABET),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "bos_token_id": None,
        "eos_token_id": END,
        "pad_token_id": None,
        "tie_word_embeddings": True,
    }
    LlamaForCausalLM(LlamaConfig(**(settings | changes))).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def run_of(**changes: Any) -> dict[str, Any]:
    """What a header says."""
    run = {"tokenizer": vocabulary_hash(tokenizer()), "step_delimiter": "\n", "stop": ["\n\n"], "max_tokens": 6}
    return run | changes


def pair_rows(questions: int = 24, pairs: int = 8, **header: Any) -> list[dict[str, Any]]:
    """The first question has no pair; a target is the last attempt with another first letter."""
    rng = random.Random(0)
    rows: list[dict[str, Any]] = [{"schema": 1, "run": run_of(**header)}]
    for i in range(questions):
        made = []
        for _ in range(pairs if i else 0):
            context = ["".join(rng.choices("abcde", k=3)) for _ in range(rng.randint(0, 4))]
            made.append({"context": context, "target": "f" + (context or ["abc"])[-1][1:], "distance": None})
        problem = {"schema": 1, "uid": f"q/{i}", "prompt": f"{i}?\n", "question": f"{i}?", "gold": "1", "pairs": made}
        rows.append({**problem, "correct": pairs, "incorrect": pairs, "dropped": 0, "usage": makers.USAGE})
    return rows


def attempt(text: str, answer: str | None, correct: bool) -> dict[str, Any]:
    return {"steps": [text], "answer": answer, "correct": correct, "finish": "eos", "tokens": len(text)}


def chain_rows(chains: list[list[dict[str, Any]]], questions: int = 12, **header: Any) -> list[dict[str, Any]]:
    """The same chains for every question."""
    rows: list[dict[str, Any]] = [{"schema": 1, "run": run_of(window=2, separator="\n0\n", **header)}]
    for i in range(questions):
        problem = {"schema": 1, "uid": f"q/{i}", "prompt": f"{i}?\n", "question": f"{i}?", "gold": "1"}
        rows.append({**problem, "chains": chains, "usage": makers.USAGE})
    return rows


def config(folder: Path, **changes: Any) -> RevisionConfig:
    """A run of 5 steps an epoch in `folder`; its trial is as small as it can be."""
    data = changes.pop("data", None) or (makers.write(folder / "pairs.jsonl", pair_rows()),)
    settings: dict[str, Any] = {
        "backbone": str(policy_folder(folder / "policy")),
        "data": data,
        "output": folder / "model",
        "separator": "\n\n",
        "batch_size": 32,
        "learning_rate": 3e-3,
        "eval_every": 2,
        "policy_questions": 2,
        "policy_chains": 1,
        "policy_length": 2,
    }
    return RevisionConfig(**(settings | changes))
