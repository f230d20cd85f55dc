"""The model card of a trained verifier, and what it has in common with that of a revision model."""

from __future__ import annotations

from pathlib import Path

from tts_eval.training.config import BETAS, MAX_GRADIENT_NORM, RunConfig, TrainingConfig, TrainingResult


CARD = "README.md"
"""Written last: a folder that has it holds a finished model."""

_WHAT = {
    "prm": "A process verifier (PRM): after each step, the chance that the solution ends right",
    "orm": "An outcome verifier (ORM): at its end, the chance that the solution is right",
}

_READ = {
    "prm": "the sigmoid of the logit at a step's last token is the step's score",
    "orm": "the sigmoid of the logit at the last step's last token is the score",
}


def write_card(config: TrainingConfig, delimiter: str, result: TrainingResult) -> None:
    """Says what the verifier is, what it was made of and how it is used."""
    best = result.best
    auroc = "none" if best.validation_auroc is None else f"{best.validation_auroc:.3f}"
    likelihood = " plus the model's own log-probability of the solution so far, weighted" if config.likelihood else ""
    history = ", behind the attempts that the policy saw before it (section 4)" if config.history else ""
    text = f"""\
---
library_name: tts-eval
pipeline_tag: token-classification
---

# {config.output.name}

{_WHAT[config.kind]}{history}. Made by
`tts-eval train {config.kind}` after Snell et al. 2024 (arXiv 2408.03314), section 2.

| | |
|---|---|
{origin(config)}
| solutions | {result.solutions:,} to train on, {result.held_out:,} of other questions to validate on |
| logit | a linear head{likelihood} |
| loss | binary cross-entropy with soft labels |
{optimization(config, "solutions", config.dropout)}
| kept | step {best.step:,} of {result.curve[-1].step:,} |
| validation loss | {best.validation_loss:.4f} |
| validation AUROC within questions | {auroc} |

![training curve](curve.png)

A verifier is tied to the policy whose solutions it was trained on.

## Use

Give its folder as `verifier=PATH` to a model of tts-eval, or in Python:

```python
from tts_eval.verifiers import load_verifier

verifier = load_verifier("PATH")
```

Format `ours`: a token classifier with one label{likelihood}.
It reads the prompt as the policy did, then each step closed by {delimiter!r}; {_READ[config.kind]}.
"""
    (config.output / CARD).write_text(text, encoding="utf-8")


def origin(config: RunConfig) -> str:
    """Rows of a table: what the model was made of."""
    # A folder's place on this machine is nobody's business.
    backbone = Path(config.backbone).name if Path(config.backbone).exists() else config.backbone
    return f"""\
| backbone | {backbone} |
| data | {", ".join(path.name for path in config.data)} |"""


def optimization(config: RunConfig, unit: str, dropout: float) -> str:
    """Rows of a table: how it was trained.

    Args:
        config: The run.
        unit: What a batch consists of.
        dropout: Where there is any.
    """
    optimizer = "AdamW" if config.optimizer == "adamw" else "Muon for the matrices, AdamW for the rest"
    return f"""\
| optimizer | {optimizer}, betas {BETAS}, gradient norm at most {MAX_GRADIENT_NORM:g} |
| learning rate | {config.learning_rate:g}, {config.schedule} |
| batch, dropout | {config.batch_size} {unit}, {dropout:g} |
| seed | {config.seed} |"""
