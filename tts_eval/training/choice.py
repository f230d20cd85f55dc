"""Which checkpoint of a revision model is the final one (Snell et al. 2024, section 4).

The held-out loss is that of solutions behind somebody else's attempts, and begins to rise while the model still gets
better at its own; so the paper takes a checkpoint slightly past the lowest loss. Here those from there on are tried.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tts_eval.training.curve import Evaluation


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that was tried.

    Attributes:
        step: Its step.
        validation_loss: Its loss on held-out pairs.
        accuracies: Share of correct attempts on held-out questions, by place in the chain.
    """

    step: int
    validation_loss: float
    accuracies: tuple[float, ...]

    @property
    def revised(self) -> float:
        """Mean over the attempts that saw an earlier one."""
        return fmean(self.accuracies[1:])


def past_minimum(curve: Sequence[Evaluation]) -> Sequence[Evaluation]:
    """The evaluation with the lowest validation loss, and those after it."""
    losses = [row.validation_loss for row in curve]
    return curve[losses.index(min(losses)) :]


def choose(candidates: Iterable[Candidate]) -> Candidate:
    """The one whose revised attempts are correct most often; of equal ones the earliest."""
    return max(candidates, key=lambda candidate: (candidate.revised, -candidate.step))


def write_choice(candidates: Sequence[Candidate], chosen: Candidate, path: Path) -> None:
    """Writes the candidates as CSV with a header line; `attempt_1` is a chain's first attempt, `revised` the others."""
    places = range(1, len(chosen.accuracies) + 1)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "validation_loss", "revised", *(f"attempt_{place}" for place in places), "chosen"])
        for one in candidates:
            writer.writerow([one.step, one.validation_loss, one.revised, *one.accuracies, int(one == chosen)])
