"""`tts-eval label`: Monte-Carlo labels for the steps of a policy's own solutions (Snell et al. 2024, section 2)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial

from tts_eval.commands.asking import Asked, add_asking, ask, cost_line, header_of, missing_from, solve
from tts_eval.commands.options import positive
from tts_eval.labels import LabelFile, LabelledProblem, Saving, label_problem
from tts_eval.types import Problem, Usage


_IN_FLIGHT = 16  # the rollouts of a single problem fill a batch, and a run that is killed loses what is in flight


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_asking(parser, output="label file")
    add = parser.add_argument
    add("--samples", type=positive, default=16, help="solutions a problem; default: %(default)s")
    add("--rollouts", type=positive, default=16, help="completions of each step prefix; default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Labels what the file doesn't hold yet and prints a summary of the whole file.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If model, task or file are refused, or the disk is full.
    """
    asked = ask(args, verb="label", why="rollouts go on from partial solutions")
    own = {"samples": args.samples, "rollouts": args.rollouts}
    with LabelFile.open(args.output, header_of(args, asked, own)) as file:
        for labelled in _label(asked, missing_from(file, asked, args.command), args):
            file.append(labelled)
        print(summary(list(file.records.values())))
    return 0


def summary(problems: Sequence[LabelledProblem]) -> str:
    """What a label file holds, what it cost, and what sharing saved, as lines of text."""
    usage = sum((problem.usage for problem in problems), Usage())
    saving = sum((problem.saving for problem in problems if problem.saving), Saving())
    kept = [solution for problem in problems for solution in problem.solutions]
    dropped = sum(problem.dropped for problem in problems)
    correct = sum(solution.correct for solution in kept)
    prefilled, decoded = usage.prefill_tokens or 0, usage.decode_tokens or 0
    lines = [
        f"{len(problems):,} problems, {len(kept) + dropped:,} solutions: {dropped:,} without an answer dropped, "
        f"{correct:,} correct",
        f"{sum(len(solution.steps) for solution in kept):,} steps, {saving.steps:,} of them with something to roll "
        f"out, {saving.prefixes:,} distinct; {saving.rollouts:,} rollouts",
        cost_line(usage),
        f"with nothing shared: {saving.prefill_tokens:,} read ({_times(saving.prefill_tokens, prefilled)}), "
        f"{saving.decode_tokens:,} written ({_times(saving.decode_tokens, decoded)})",
    ]
    return "\n".join(lines)


def _times(without: int, shared: int) -> str:
    return f"{without / shared:.2f} times as many" if shared else "none in either case"


def _label(asked: Asked, problems: Sequence[Problem], args: argparse.Namespace) -> Iterator[LabelledProblem]:
    """Samples, rolls out and grades; yields each problem as soon as it is done."""
    from tts_eval.answers import default_grader, extract_answer
    from tts_eval.search import monte_carlo

    extract = partial(extract_answer, fallback=args.answer_fallback)

    def parsable(text: str) -> bool:
        return extract(text) is not None

    search = partial(monte_carlo, args.samples, args.rollouts, parsable=parsable)
    found = solve(asked, problems, lambda _: search(), in_flight=_IN_FLIGHT, command=args.command)
    for problem, outcome, usage in found:
        yield label_problem(
            problem,
            asked.gold(problem),
            outcome,
            usage,
            prompt_tokens=len(asked.policy.base.tok_encode(problem.prompt)),
            extract=extract,
            grade=default_grader().grade,
        )
