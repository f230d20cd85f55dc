"""Chains of revisions: each attempt sees the ones before it (Snell et al. 2024, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tts_eval.types import Outcome, Prefix, Sample, Score, Search


WINDOW = 4
"""The paper's: how many of the latest attempts the next one sees."""

Revision = Callable[[Sequence[str]], str]
"""From earlier attempts, the oldest first, to the prompt for the next; without any it is the problem's own."""


def revise(
    chains: int, length: int, prompt: Revision, *, window: int = WINDOW, scored: bool, history: bool = False
) -> Search:
    """Samples `chains` solutions side by side and revises each `length - 1` times; N = chains x length.

    With a length of 1 it is best-of-N, sample by sample. A chain goes on whatever its attempts are: none is known to be
    right, and an attempt without an answer is seen like any other.

    Args:
        chains: Solutions sampled in parallel.
        length: Attempts in each chain.
        prompt: Renders the attempts that the next one sees.
        window: How many of them, at most.
        scored: Whether a verifier scores every attempt.
        history: Whether the verifier sees what the policy saw, earlier attempts included.

    Returns:
        A search whose outcome holds the attempts chain by chain. Each continues the path of the one before it, so a
        chain that is cut short is a shorter chain.
    """
    rounds: list[tuple[Prefix, ...]] = [(yield Sample((Prefix(),), chains, "end"))]
    prompts = [(prompt(()),) * chains]
    for _ in range(length - 1):
        seen = zip(*rounds[-window:], strict=True)
        prompts.append(tuple(prompt([attempt.text for attempt in chain]) for chain in seen))
        before = tuple(Prefix(attempt.path) for attempt in rounds[-1])
        rounds.append((yield Sample(before, 1, "end", prompts=prompts[-1])))
    finals = tuple(attempt for chain in zip(*rounds, strict=True) for attempt in chain)
    read = tuple(text for chain in zip(*prompts, strict=True) for text in chain) if history else ()
    scores = (yield Score(finals, read)) if scored else None
    return Outcome(finals, scores, generations=chains * length, length=length)
