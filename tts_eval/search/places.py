"""What step-wise searches share: how prefixes are ranked, and which of them have ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tts_eval.types import Prefix


Value = Callable[[tuple[float, ...]], float]
"""From the scores that a verifier gave a prefix, one a step or a single one, to the number that ranks it."""


def last_score(scores: tuple[float, ...]) -> float:
    """The score of the last step, which suits verifiers that estimate values (section 2)."""
    return scores[-1]


def best_first(prefixes: Sequence[Prefix], values: Sequence[float]) -> tuple[Prefix, ...]:
    """Sorts prefixes by their values; of equal ones the first stays first."""
    order = sorted(range(len(prefixes)), key=lambda index: -values[index])
    return tuple(prefixes[index] for index in order)


def split_finished(prefixes: tuple[Prefix, ...]) -> tuple[tuple[Prefix, ...], tuple[Prefix, ...]]:
    """Those that have ended, and those that can go on."""
    ended = tuple(prefix for prefix in prefixes if prefix.finish is not None)
    return ended, tuple(prefix for prefix in prefixes if prefix.finish is None)
