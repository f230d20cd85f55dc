"""The model card of one of microMATH's policies."""

from __future__ import annotations

from pathlib import Path


def write_card(folder: Path, name: str, parameters: int, tokens: int, steps: int, seed: int) -> None:
    """Says what the model is and how it was made; written last, so a folder that has it holds a finished model.

    Args:
        folder: Where the model is.
        name: Its name in the family.
        parameters: How many it has.
        tokens: How many it has read.
        steps: Optimizer steps.
        seed: Of weights and data.
    """
    text = f"""\
---
library_name: transformers
pipeline_tag: text-generation
---

# micromath/{name}

A Llama of {parameters:,} parameters that solves microMATH, the small problems of tts-eval, and nothing else. It is
wrong often enough that test-time compute has something to show. Trained from nothing by `python -m tts_eval.micro
{name}`: {steps:,} steps, {tokens:,} tokens, seed {seed}, Muon for the matrices and AdamW for the rest.

It reads a problem and a newline, and writes a line for each unknown and the answer in `\\boxed{{}}`. Sample it at
temperature 1:

    tts-eval run --model tts-best-of-n --tasks tts_micromath \\
        --model_args 'pretrained=micromath/{name},budget=16,temperature=1,step_delimiter=\\n'

Licence: that of tts-eval.
"""
    (folder / "README.md").write_text(text, encoding="utf-8")
