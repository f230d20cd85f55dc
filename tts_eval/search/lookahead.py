"""Lookahead rollouts: what a step leads to says more than the step itself (Snell et al. 2024, section 3)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from tts_eval.types import Prefix, Sample, Score


def look_ahead(beams: tuple[Prefix, ...], steps: int) -> Generator[Sample | Score, Any, tuple[Prefix, ...]]:
    """Rolls every beam out at temperature 0; the rollouts are there to be scored and are thrown away.

    Args:
        beams: Unfinished prefixes.
        steps: k, the most further steps; a rollout also stops where the solution ends. 0 returns the beams themselves.

    Returns:
        For each beam the end of its rollout. At temperature 0 equal beams have equal rollouts, so each is made once.
    """
    if steps == 0:
        return beams
    rollouts: dict[tuple[object, ...], Prefix] = {}
    for beam in beams:
        rollouts.setdefault(_content(beam), beam)
    for _ in range(steps):
        going = {start: end for start, end in rollouts.items() if end.finish is None}
        if not going:
            break
        further = yield Sample(tuple(going.values()), 1, "step", temperature=0.0, alive=beams, lookahead=True)
        rollouts.update(zip(going, further, strict=True))
    return tuple(rollouts[_content(beam)] for beam in beams)


def _content(beam: Prefix) -> tuple[object, ...]:
    """What beams are equal by. A text can be written in several tokens, and each of them goes on in its own way."""
    return beam.steps, beam.tokens
