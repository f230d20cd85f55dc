"""`python -m tts_eval.micro base FOLDER`: trains one of microMATH's policies. `make micro` calls it."""

from __future__ import annotations

import argparse
from pathlib import Path

from tts_eval.micro.pretrain import RECIPES, pretrain


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tts_eval.micro", description=pretrain.__doc__)
    parser.add_argument("name", choices=list(RECIPES))
    parser.add_argument("folder", type=Path, help="where the model goes")
    parser.add_argument("--steps", type=int, help="optimizer steps; default: the recipe's")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    args = parser.parse_args()
    pretrain(args.name, args.folder, steps=args.steps, seed=args.seed)


if __name__ == "__main__":
    main()
