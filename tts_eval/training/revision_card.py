"""The model card of a trained revision model."""

from __future__ import annotations

from tts_eval.training.card import CARD, optimization, origin
from tts_eval.training.config import RevisionConfig, RevisionResult
from tts_eval.training.trial import TEMPERATURE, Trial


_WHAT = {
    "pairs": "incorrect attempts before a correct solution",
    "rest-em": "its policy's own chains up to their first correct attempt (ReST-EM, which the paper found to hurt)",
}


def write_revision_card(config: RevisionConfig, trial: Trial, result: RevisionResult) -> None:
    """Says what the model is, what it was made of, why these weights, and how it is used."""
    best = result.best
    places = range(1, trial.length + 1)
    tried = "\n".join(
        f"| {one.step:,}{', chosen' if one.step == best.step else ''} | {one.validation_loss:.4f} | "
        f"{one.revised:.3f} | {' | '.join(f'{share:.3f}' for share in one.accuracies)} |"
        for one in result.candidates
    )
    kept = "at each question as many as were correct" if config.keep == "on_policy" else f"{config.keep:g}"
    text = f"""\
---
library_name: transformers
pipeline_tag: text-generation
---

# {config.output.name}

A language model that revises its own attempts, trained on {_WHAT[config.recipe]}. Made by `tts-eval train revision`
after Snell et al. 2024 (arXiv 2408.03314), section 4.

| | |
|---|---|
{origin(config)}
| pairs | {result.solutions:,} to train on, {result.held_out:,} of other questions to validate on |
| loss | cross-entropy of the target's tokens and the end token |
{optimization(config, "pairs", 0.0)}
| kept attempts | {kept} of the attempts in contexts are the target itself |
| weights | step {best.step:,} of {result.curve[-1].step:,} |
| separator | {trial.separator!r} follows each attempt in a prompt |
| window | the last {trial.window} attempts |

![training curve](curve.png)

The checkpoints from the lowest held-out loss on wrote {trial.chains} chains of {trial.length} attempts at each of
{len(trial.questions)} held-out questions, at temperature {TEMPERATURE:g}. Chosen are the weights whose revised
attempts, those after the first, were correct most often:

| step | held-out loss | revised | {" | ".join(f"attempt {place}" for place in places)} |
|{"---|" * (3 + trial.length)}
{tried}

## Use

    tts-eval run --model tts-revise --model_args pretrained=PATH,budget=16,length=4 ...

A prompt is the problem's own, then each attempt and the separator; the model goes on with the next attempt. The last
attempt is not the best: many correct ones are turned into wrong ones, so select among all.
"""
    (config.output / CARD).write_text(text, encoding="utf-8")
