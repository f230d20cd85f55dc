"""Monte-Carlo rollouts: how often does the policy get there from here? (Snell et al. 2024, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from tts_eval.types import Prefix, Sample, Score


_CUT = -1
"""Marks the path of a prefix that was cut out of a solution: no child that a search samples has that index."""


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What Monte-Carlo labelling returns; grading it is somebody else's job.

    Attributes:
        solutions: All that were sampled, in the order of their sample index.
        kept: Those with a parsable answer.
        rollouts: For the token ids of every distinct step prefix of `kept`, the solutions that the policy completed it
            to, prefix included.
    """

    solutions: tuple[Prefix, ...]
    kept: tuple[Prefix, ...]
    rollouts: Mapping[tuple[int, ...], tuple[Prefix, ...]]

    @property
    def generations(self) -> int:
        """Solutions and rollouts that were sampled."""
        return len(self.solutions) + sum(map(len, self.rollouts.values()))


def monte_carlo(
    samples: int, rollouts: int, *, parsable: Callable[[str], bool]
) -> Generator[Sample | Score, Any, Rollouts]:
    """Samples solutions and rolls out every prefix of whole steps of each, equal prefixes once.

    Args:
        samples: Solutions of the problem (the paper's 16).
        rollouts: Completions of each prefix (the paper's 16), by the same policy from the same prompt.
        parsable: Whether a solution's text states a final answer; one that doesn't is dropped before its rollouts.

    Returns:
        A search whose outcome holds solutions and rollouts.
    """
    solutions: tuple[Prefix, ...] = yield Sample((Prefix(),), samples, "end")
    kept = tuple(solution for solution in solutions if parsable(solution.text))
    distinct: dict[tuple[int, ...], Prefix] = {}
    for solution in kept:
        for prefix in step_prefixes(solution):
            distinct.setdefault(prefix.tokens, prefix)
    if not distinct:
        return Rollouts(solutions, kept, {})
    ends: tuple[Prefix, ...] = yield Sample(tuple(distinct.values()), rollouts, "end")
    groups = (ends[start : start + rollouts] for start in range(0, len(ends), rollouts))
    return Rollouts(solutions, kept, dict(zip(distinct, groups, strict=True)))


def step_prefixes(solution: Prefix) -> tuple[Prefix, ...]:
    """Cuts a finished solution after each of its steps but the last, after which there is nothing left to roll out.

    Args:
        solution: A solution with `step_ends`.

    Returns:
        Unfinished prefixes, shortest first. Their path holds the place of the cut, so that the randomness below them is
        that of no other node.
    """
    return tuple(
        Prefix(
            path=(*solution.path, index, _CUT),
            steps=solution.steps[: index + 1],
            tokens=solution.tokens[:end],
            token_count=end,
            logprob=None,
            step_ends=solution.step_ends[: index + 1],
        )
        for index, end in enumerate(solution.step_ends[:-1])
    )
