"""`tts-eval revisions chains`: graded chains of a revision model over training problems (Snell et al. 2024, section 4).

They are what a verifier that sees earlier attempts is trained on, and the ReST-EM variant.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from tts_eval.commands.asking import (
    Asked,
    Policy,
    add_asking,
    ask,
    cost_line,
    header_of,
    in_flight,
    missing_from,
    solve,
)
from tts_eval.commands.options import positive, unescaped
from tts_eval.revision import SEPARATOR, revision_prompt
from tts_eval.revisions import MOST_IN_CONTEXT, ChainedProblem, ChainFile, chain_problem, rest_em_pairs
from tts_eval.search.revise import WINDOW, Revision, revise
from tts_eval.types import Problem, Search, TtsEvalError, Usage


@dataclass(frozen=True)
class Shape:
    """What chains look like; all of it decides the records.

    Attributes:
        chains: Chains of a problem.
        length: Attempts in each.
        window: How many of the latest attempts the next one sees.
        separator: What follows each of them.
    """

    chains: int
    length: int
    window: int
    separator: str

    def search(self, problem: Problem) -> Search:
        """A problem's search."""
        return revise(self.chains, self.length, self.prompt(problem), window=self.window, scored=False)

    def prompt(self, problem: Problem) -> Revision:
        """Renders earlier attempts at a problem."""
        return lambda attempts: revision_prompt(problem.prompt, attempts, self.separator)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_asking(parser, output="chain file")
    add = parser.add_argument
    add("--chains", type=positive, default=4, help="chains a problem; default: %(default)s")
    add("--length", type=positive, default=5, help="attempts in each; default: %(default)s")
    add("--window", type=positive, help="attempts that the next one sees; default: the trained model's, else 4")
    add("--separator", type=unescaped, help=r"follows each of them, \n for a newline; default: the trained model's")


def run(args: argparse.Namespace) -> int:
    """Samples and grades what the file doesn't hold yet and prints a summary of the whole file.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If model, task or file are refused, a chain doesn't fit the context, or the disk is full.
    """
    asked = ask(args, verb="revise", why="a revision model has weights of its own")
    shape = _shape(args, asked.policy)
    _require_room(asked, shape)
    with ChainFile.open(args.output, header_of(args, asked, asdict(shape))) as file:
        for chained in _chain(asked, shape, missing_from(file, asked, args.command), args):
            file.append(chained)
        print(summary(list(file.records.values())))
    return 0


def summary(problems: Sequence[ChainedProblem]) -> str:
    """What a chain file holds and what it cost, as lines of text."""
    chains = [chain for problem in problems for chain in problem.chains]
    attempts = [attempt for chain in chains for attempt in chain]
    answerless = sum(attempt.answer is None for attempt in attempts)
    by_attempt = (sum(attempt.correct for attempt in turn) / len(chains) for turn in zip(*chains, strict=True))
    mended = sum(len(rest_em_pairs(problem)) for problem in problems)
    lines = [
        f"{len(problems):,} problems, {len(chains):,} chains, {len(attempts):,} attempts: {answerless:,} without an "
        f"answer, {sum(attempt.correct for attempt in attempts):,} correct",
        "correct by attempt: " + " ".join(f"{share:.3f}" for share in by_attempt),
        f"{mended:,} chains with a correct one among their first {MOST_IN_CONTEXT + 1} attempts (pairs for ReST-EM)",
        cost_line(sum((problem.usage for problem in problems), Usage())),
    ]
    return "\n".join(lines)


def _shape(args: argparse.Namespace, policy: Policy) -> Shape:
    from tts_eval.model_adapters.revise import Trained, trained_as

    trained = trained_as(policy.identity["base"], policy.base, policy.identity) or Trained(SEPARATOR, WINDOW)
    separator = trained.separator if args.separator is None else args.separator
    return Shape(args.chains, args.length, args.window or trained.window, separator)


def _require_room(asked: Asked, shape: Shape) -> None:
    """Refuses problems whose longest revision, a full window and one attempt more, does not fit the context."""
    base = asked.policy.base
    seen = min(shape.window, shape.length - 1)
    for problem, _ in asked.problems.values():
        bare, most = len(base.tok_encode(shape.prompt(problem)([""] * seen))), problem.max_tokens
        needed = bare + (seen + 1) * most
        if needed > base.max_length:
            raise TtsEvalError(
                f"problem {problem.uid}: a revision may see {seen} attempts of {most} tokens after {bare} tokens of "
                f"prompt and write {most} more, {needed} in all, but the context is {base.max_length}: lower --window, "
                f"or --max_tokens to {max(1, (base.max_length - bare) // (seen + 1))}"
            )


def _chain(
    asked: Asked, shape: Shape, problems: Sequence[Problem], args: argparse.Namespace
) -> Iterator[ChainedProblem]:
    """Samples and grades; yields each problem as soon as it is done."""
    from tts_eval.answers import default_grader, extract_answer

    found = solve(asked, problems, shape.search, in_flight=in_flight(shape.chains), command=args.command)
    for problem, outcome, usage in found:
        yield chain_problem(
            problem,
            asked.gold(problem),
            outcome,
            usage,
            extract=partial(extract_answer, fallback=args.answer_fallback),
            grade=default_grader().grade,
        )
