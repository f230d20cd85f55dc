"""`tts-eval train prm | orm`: a verifier from labelled steps (Snell et al. 2024, section 2)."""

from __future__ import annotations

import argparse
from pathlib import Path

from tts_eval.commands.options import positive, share, unescaped
from tts_eval.types import TtsEvalError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options. Those without a default here have it in `TrainingConfig`."""
    suppressed = argparse.SUPPRESS
    add = parser.add_argument
    add("kind", choices=("prm", "orm"), help="prm: learns the label of every step; orm: the outcome at the last one")
    add("--backbone", required=True, metavar="MODEL", help="the policy's model: folder, .gguf file or hub name")
    add("--data", required=True, nargs="+", type=Path, metavar="FILE", help="label files, PRM800K or Math-Shepherd")
    add("--output", required=True, type=Path, metavar="FOLDER", help="the verifier, its curve and its card")
    add("--resume", action="store_true", help="go on with an interrupted run")
    add("--likelihood", action="store_true", help="add the model's own likelihood of the solution to the head's logit")
    add("--any_tokenizer", action="store_true", help="take labels of a policy with another tokenizer")
    for name, kind, text in (
        ("epochs", positive, "most passes over the data; 2"),
        ("learning_rate", float, "highest; 3e-5"),
        ("warmup", share, "share of the steps over which the learning rate rises; 0.05"),
        ("batch_size", positive, "solutions a step, over all devices; 128"),
        ("batch_tokens", positive, "most tokens a device holds at once, for its memory; 8192"),
        ("dropout", share, "before the head and on attention weights; 0.05"),
        ("validation", share, "share of the questions held out; 0.1"),
        ("eval_every", positive, "steps between evaluations; a tenth of an epoch"),
        ("patience", positive, "evaluations without a lower validation loss before it ends; 3"),
        ("max_steps", positive, "most steps; no limit"),
        ("seed", int, "decides the head, the order of the data and dropout; 0"),
        ("step_delimiter", unescaped, "what ends a step; that of the label files, else a blank line"),
        ("prompt", unescaped, "prompt of published rows, with {{problem}}; that of our tasks"),
        ("neutral", share, "label of steps that humans rated neutral; 1"),
    ):
        add(f"--{name}", type=kind, default=suppressed, help=text)
    add("--optimizer", choices=("adamw", "muon"), default=suppressed, help="muon suits small models; adamw")
    add("--schedule", choices=("linear", "constant"), default=suppressed, help="of the learning rate; linear")


def run(args: argparse.Namespace) -> int:
    """Trains and says what came out.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: See `tts_eval.training.train_verifier`; or if a package is missing.
    """
    try:
        from tts_eval.training import TrainingConfig, train_verifier
    except ImportError as error:
        raise TtsEvalError(f"training needs {error.name}: pip install 'tts-eval[train]'") from error
    settings = {key: value for key, value in vars(args).items() if key != "command"}
    result = train_verifier(TrainingConfig(**{**settings, "data": tuple(args.data)}))
    best = result.best
    auroc = "" if best.validation_auroc is None else f", AUROC within questions {best.validation_auroc:.3f}"
    print(f"{result.output}: step {best.step:,} kept, validation loss {best.validation_loss:.4f}{auroc}")
    return 0
