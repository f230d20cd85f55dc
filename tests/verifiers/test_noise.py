from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from toys import CONTEXT, OTHER, PROBLEM, llama, prefix, saved
from transformers import LlamaForTokenClassification

from tts_eval.types import Prefix, Problem, TtsEvalError, Usage
from tts_eval.verifiers import load_verifier
from tts_eval.verifiers.formats import FORMATS
from tts_eval.verifiers.noise import NoisyVerifier


class Lengths:
    """A stand-in verifier: a step's score is a hundredth of its length, a solution's that of all."""

    aggregation = "min"

    def __init__(self, kind: Literal["process", "outcome"] = "process"):
        self.kind: Literal["process", "outcome"] = kind

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> list[tuple[tuple[float, ...], Usage]]:
        each = [tuple(len(step) / 100 for step in prefix.steps) for _, prefix in items]
        return [(scores if self.kind == "process" else (sum(scores),), Usage(verifier_tokens=7)) for scores in each]


def noisy(share: float, seed: int = 0, kind: Literal["process", "outcome"] = "process") -> NoisyVerifier:
    label = FORMATS["math-shepherd" if kind == "process" else "sequence-classifier"].label
    return NoisyVerifier(Lengths(kind), share=share, seed=seed, label=label)


WHOLE = (PROBLEM, prefix(*(f"{'x' * (number % 40)}\n" for number in range(2000))))


def test_a_share_of_scores_is_turned_around() -> None:
    (scores, usage) = noisy(0.2).score([WHOLE])[0]
    plain = Lengths().score([WHOLE])[0][0]
    turned = [score != before for score, before in zip(scores, plain)]
    assert 0.17 < sum(turned) / len(turned) < 0.23
    assert scores == pytest.approx([1 - before if turn else before for before, turn in zip(plain, turned)])
    assert usage == Usage(verifier_tokens=7)
    assert noisy(1.0).score([WHOLE])[0][0] == pytest.approx([1 - before for before in plain])


def test_a_step_has_the_same_noise_in_any_batch_and_any_longer_solution() -> None:
    part = (PROBLEM, prefix(*WHOLE[1].steps[:50]))
    verifier = noisy(0.5)
    expected = verifier.score([WHOLE])[0][0]
    assert verifier.score([(OTHER, prefix("x")), part])[1][0] == expected[:50]
    assert verifier.score([part])[0][0] == expected[:50]


def test_noise_is_keyed_by_seed_and_problem() -> None:
    mine = noisy(0.5).score([WHOLE])[0][0]
    assert mine != noisy(0.5, seed=1).score([WHOLE])[0][0]
    assert mine != noisy(0.5).score([(OTHER, WHOLE[1])])[0][0]


def test_an_outcome_verifier_is_turned_around_as_a_whole() -> None:
    verifier = noisy(1.0, kind="outcome")
    assert (verifier.kind, verifier.aggregation, verifier.label) == ("outcome", "min", "outcome")
    assert verifier.score([(PROBLEM, prefix("xx", "xxx"))])[0][0] == pytest.approx([0.95])
    halves = [noisy(0.5, kind="outcome").score([(PROBLEM, prefix("x", str(n)))])[0][0][0] for n in range(400)]
    assert 0.4 < sum(score > 0.5 for score in halves) / 400 < 0.6


def test_a_loaded_verifier_takes_noise_and_a_share_is_no_more_than_all(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForTokenClassification, llama(num_labels=2))
    plain = load_verifier(str(tmp_path), "pure").score([(PROBLEM, prefix("a\n\n", "b\n\n"))])[0][0]
    verifier = load_verifier(str(tmp_path), "pure", noise=1.0)
    assert verifier.score([(PROBLEM, prefix("a\n\n", "b\n\n"))])[0][0] == pytest.approx([1 - score for score in plain])
    assert verifier.context == CONTEXT
    with pytest.raises(TtsEvalError, match=r"noise=1\.5 must be a share"):
        load_verifier(str(tmp_path), "pure", noise=1.5)
