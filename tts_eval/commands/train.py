"""`tts-eval train prm | orm | revision`: models from labelled steps, pairs or chains (Snell et al. 2024)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tts_eval.commands.options import positive, share, unescaped
from tts_eval.micro.members import resolve
from tts_eval.types import TtsEvalError


_Option = tuple[str, Callable[[str], Any], str]
"""Name, type, and help that ends with the default."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options. Those without a default here have it in `TrainingConfig` or `RevisionConfig`."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND", title="what to train")
    for name, text in (
        ("prm", "a process verifier: learns the label of every step"),
        ("orm", "an outcome verifier: learns the outcome at the last step"),
    ):
        verifier = kinds.add_parser(name, help=text, description=f"{text} (section 2).")
        _add_common(verifier, "label files, chain files, PRM800K or Math-Shepherd", batch="solutions", rate="3e-5")
        _add_verifier(verifier)
        if name == "orm":
            text = "it reads each attempt of a chain behind those that the policy saw"
            verifier.add_argument("--history", action="store_true", help=text)
    text = "a policy that revises its attempts"
    revision = kinds.add_parser("revision", help=text, description=f"{text} (section 4).")
    _add_common(revision, "pair files; chain files for rest-em", batch="pairs", rate="1e-5")
    _add_revision(revision)


def _add_common(parser: argparse.ArgumentParser, data: str, *, batch: str, rate: str) -> None:
    add = parser.add_argument
    add("--backbone", required=True, metavar="MODEL", help="the policy's model: folder, .gguf file or hub name")
    add("--data", required=True, nargs="+", type=Path, metavar="FILE", help=data)
    add("--output", required=True, type=Path, metavar="FOLDER", help="the model, its curve and its card")
    add("--resume", action="store_true", help="go on with an interrupted run")
    add("--any_tokenizer", action="store_true", help="take files of a policy with another tokenizer")
    options = (
        ("epochs", positive, "most passes over the data; 2"),
        ("learning_rate", float, f"highest; {rate}"),
        ("warmup", share, "share of the steps over which the learning rate rises; 0.05"),
        ("batch_size", positive, f"{batch} a step, over all devices; 128"),
        ("batch_tokens", positive, "most tokens a device holds at once, for its memory; 8192"),
        ("validation", share, "share of the questions held out; 0.1"),
        ("eval_every", positive, "steps between evaluations; a tenth of an epoch"),
        ("patience", positive, "evaluations without a lower validation loss before it ends; 3"),
        ("max_steps", positive, "most steps; no limit"),
        ("seed", int, "decides what is new in the model, the order of the data and all randomness; 0"),
    )
    _add(parser, options)
    _choose(parser, "optimizer", ("adamw", "muon"), "muon suits small models; adamw")
    _choose(parser, "schedule", ("linear", "constant"), "of the learning rate; linear")


def _add_verifier(parser: argparse.ArgumentParser) -> None:
    text = "add the model's own likelihood of the solution to the head's logit"
    parser.add_argument("--likelihood", action="store_true", help=text)
    options = (
        ("dropout", share, "before the head and on attention weights; 0.05"),
        ("step_delimiter", unescaped, "what ends a step; that of the files, else a blank line"),
        ("prompt", unescaped, "prompt of published rows, with {{problem}}; that of our tasks"),
        ("neutral", share, "label of steps that humans rated neutral; 1"),
    )
    _add(parser, options)


def _add_revision(parser: argparse.ArgumentParser) -> None:
    _choose(parser, "recipe", ("pairs", "rest-em"), "rest-em: the negative variant, on the model's own chains; pairs")
    options = (
        ("separator", unescaped, r"follows each attempt, \n for a newline; that of chain files, else a phrase"),
        ("window", positive, "attempts that a prompt holds at most; that of chain files, else 4"),
        ("context", positive, "longest sequence to be read, for models with rotary positions; as it is"),
        ("keep", _keep, "share of the attempts in contexts that are correct ones, to be kept, or on_policy; 0"),
        ("policy_questions", positive, "held-out questions on which checkpoints are compared; 64"),
        ("policy_chains", positive, "chains a question there; 2"),
        ("policy_length", positive, "attempts a chain there; 5"),
    )
    _add(parser, options)


def _keep(text: str) -> float | str:
    """A number from 0 to 1, or on_policy."""
    return text if text == "on_policy" else share(text)


def _add(parser: argparse.ArgumentParser, options: Iterable[_Option]) -> None:
    for name, kind, text in options:
        parser.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, help=text)


def _choose(parser: argparse.ArgumentParser, name: str, choices: tuple[str, ...], text: str) -> None:
    parser.add_argument(f"--{name}", choices=choices, default=argparse.SUPPRESS, help=text)


def run(args: argparse.Namespace) -> int:
    """Trains and says what came out.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: See `train_verifier` and `train_revision` of `tts_eval.training`; or if a package is missing.
    """
    settings = {key: value for key, value in vars(args).items() if key != "command"}
    settings |= {"data": tuple(args.data), "backbone": resolve(args.backbone)}
    try:
        return _train_revision(settings) if args.kind == "revision" else _train_verifier(settings)
    except ImportError as error:
        raise TtsEvalError(f"training needs {error.name}: pip install 'tts-eval[train]'") from error


def _train_verifier(settings: dict[str, Any]) -> int:
    from tts_eval.training import TrainingConfig, train_verifier

    result = train_verifier(TrainingConfig(**settings))
    best = result.best
    auroc = "" if best.validation_auroc is None else f", AUROC within questions {best.validation_auroc:.3f}"
    print(f"{result.output}: step {best.step:,} kept, validation loss {best.validation_loss:.4f}{auroc}")
    return 0


def _train_revision(settings: dict[str, Any]) -> int:
    from tts_eval.training import RevisionConfig
    from tts_eval.training.revision import train_revision

    result = train_revision(RevisionConfig(**settings))
    best = result.best
    by_attempt = next(one.accuracies for one in result.candidates if one.step == best.step)
    print(
        f"{result.output}: step {best.step:,} kept, validation loss {best.validation_loss:.4f}; correct by attempt on "
        f"held-out questions: {' '.join(f'{share:.3f}' for share in by_attempt)}"
    )
    return 0
