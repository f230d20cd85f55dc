"""`tts-eval revisions build`: samples of a policy, paired as the paper does (Snell et al. 2024, section 4)."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from rapidfuzz.distance import Levenshtein

from tts_eval.commands.asking import Asked, add_asking, ask, cost_line, header_of, in_flight, missing_from, solve
from tts_eval.commands.options import positive
from tts_eval.revisions import PairedProblem, PairFile, pair_problem
from tts_eval.types import Problem, Search, Usage


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_asking(parser, output="pair file")
    add = parser.add_argument
    add("--samples", type=positive, default=64, help="solutions a problem; default: %(default)s")
    add("--most_pairs", type=positive, metavar="K", help="keep K pairs a problem, drawn at random; default: all")


def run(args: argparse.Namespace) -> int:
    """Samples and pairs what the file doesn't hold yet and prints a summary of the whole file.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If model, task or file are refused, or the disk is full.
    """
    asked = ask(args, verb="sample", why="a revision model is trained from the policy's own weights")
    own = {"samples": args.samples, "most_pairs": args.most_pairs}
    with PairFile.open(args.output, header_of(args, asked, own)) as file:
        for paired in _pair(asked, missing_from(file, asked, args.command), args):
            file.append(paired)
        print(summary(list(file.records.values())))
    return 0


def summary(problems: Sequence[PairedProblem]) -> str:
    """What a pair file holds and what it cost, as lines of text."""
    correct, incorrect, dropped = (
        sum(getattr(problem, count) for problem in problems) for count in ("correct", "incorrect", "dropped")
    )
    hopeless = sum(not problem.correct for problem in problems)
    flawless = sum(problem.correct > 0 and not problem.incorrect for problem in problems)
    pairs = [pair for problem in problems for pair in problem.pairs]
    sizes = Counter(len(pair.context) for pair in pairs)
    nearest = [pair.distance for pair in pairs if pair.distance is not None]
    others = [Levenshtein.distance(text, pair.target) for pair in pairs for text in pair.context[:-1]]
    lines = [
        f"{len(problems):,} problems, {correct + incorrect + dropped:,} samples: {dropped:,} without an answer "
        f"dropped, {correct:,} correct, {incorrect:,} incorrect",
        f"{hopeless:,} problems skipped without a correct sample; {flawless:,} without an incorrect one, whose pairs "
        "have no context",
        f"{len(pairs):,} pairs; by attempts in context: " + ", ".join(f"{n}: {sizes[n]:,}" for n in sorted(sizes)),
        f"mean edit distance to the target: {_mean(nearest)} of the last attempt, {_mean(others)} of those before it",
        cost_line(sum((problem.usage for problem in problems), Usage())),
    ]
    return "\n".join(lines)


def _mean(values: Sequence[int]) -> str:
    return f"{sum(values) / len(values):.1f}" if values else "-"


def _pair(asked: Asked, problems: Sequence[Problem], args: argparse.Namespace) -> Iterator[PairedProblem]:
    """Samples, grades and pairs; yields each problem as soon as it is done."""
    from tts_eval.answers import default_grader, extract_answer
    from tts_eval.search import best_of_n

    def search(_: Problem) -> Search:
        return best_of_n(args.samples, scored=False)

    found = solve(asked, problems, search, in_flight=in_flight(args.samples), command=args.command)
    for problem, outcome, usage in found:
        yield pair_problem(
            problem,
            asked.gold(problem),
            outcome,
            usage,
            seed=args.seed,
            most_pairs=args.most_pairs,
            extract=partial(extract_answer, fallback=args.answer_fallback),
            grade=default_grader().grade,
        )
