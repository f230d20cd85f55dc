"""When sampling stops because the leading answer is safe, and what it has found by then."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta
from scripted import World

from tts_eval.search import adaptive, best_of_n
from tts_eval.search.adaptive import lead
from tts_eval.types import Outcome, Prefix, Sample, Score, Search


UNPARSABLE = "z"


def classes(solutions: Sequence[Prefix]) -> np.ndarray:
    """The answer is the last letter."""
    return np.array([-1 if one.text.endswith(UNPARSABLE) else ord(one.text[-1]) for one in solutions], dtype=np.int64)


def run(answers: str, batch: int = 1, confidence: float = 0.95, seen: str = "") -> str:
    """The answers that are sampled, of those that would be."""
    before = tuple(Prefix((index,), (letter,), finish="eos") for index, letter in enumerate(seen))
    search: Search = adaptive(len(answers), batch, confidence, classes, scored=False, seen=before)
    reply: tuple[Prefix, ...] | None = None
    while True:
        try:
            request = search.send(reply)
        except StopIteration as done:
            found = done.value.finals
            assert done.value == Outcome(found, None, generations=len(found))
            return "".join(final.text for final in found)
        assert isinstance(request, Sample) and request.prefixes == request.alive == (Prefix(),)
        wanted = range(request.first, request.first + sum(request.counts))
        reply = tuple(Prefix((index,), (answers[index],), finish="eos") for index in wanted)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("", 0.5),
        ("zz", 0.5),
        ("a", 0.75),
        ("ab", 0.5),
        ("aaa", 1 - 0.5**4),
        ("azazaz", 1 - 0.5**4),
        ("aab", 11 / 16),  # the integral of 12 x^2 (1 - x) from 1/2 to 1
        ("bcabb", 13 / 16),  # 3 votes to 1, whatever the others have: of 20 x^3 (1 - x)
    ],
)
def test_the_lead_is_what_the_beta_distribution_says(answers: str, expected: float) -> None:
    assert lead(classes([Prefix(steps=(answer,)) for answer in answers])) == pytest.approx(expected)


@given(first=st.integers(0, 60), second=st.integers(0, 60), third=st.integers(0, 60))
def test_the_lead_is_scipys(first: int, second: int, third: int) -> None:
    found = lead(np.repeat([7, 0, 3], [first, second, third]))
    third, second, first = sorted((first, second, third))
    assert found == pytest.approx(beta.sf(0.5, first + 1, second + 1))


@pytest.mark.parametrize(
    ("answers", "batch", "confidence", "sampled"),
    [
        ("aaaaaaaa", 1, 0.95, "aaaa"),  # four of four: 0.969
        ("aaaaaaaa", 3, 0.95, "aaaaaa"),
        ("aaaaaaaa", 5, 0.95, "aaaaa"),
        ("aaaaaaaa", 20, 0.95, "aaaaaaaa"),
        ("azzaaaaaa", 1, 0.95, "azzaaa"),
        ("abaaaaaaa", 1, 0.95, "abaaaaa"),  # 6 to 1: 0.965, and 5 to 1: 0.938
        ("abababab", 1, 0.95, "abababab"),
        ("zzzz", 2, 0.95, "zzzz"),
        ("aaaaaaaa", 1, 0.5, "a"),
        ("aaaaaaaa", 1, 1.0, "aaaaaaaa"),
    ],
)
def test_sampling_stops_once_the_lead_is_above_the_confidence(
    answers: str, batch: int, confidence: float, sampled: str
) -> None:
    assert run(answers, batch, confidence) == sampled


@pytest.mark.parametrize(
    ("seen", "sampled"),
    [("aaaa", ""), ("bb", "bb"), ("zzzz", "bbbb"), ("aaa", "b" * 9)],  # 9 to 3: 0.954
)
def test_what_was_seen_before_votes_and_is_not_sampled_again(seen: str, sampled: str) -> None:
    assert run("b" * 12, seen=seen) == sampled


@given(seed=st.integers(), budget=st.integers(1, 12), batch=st.integers(1, 5), confidence=st.floats(0.5, 1))
def test_the_samples_are_the_first_of_best_of_n_and_each_is_scored_once(
    seed: int, budget: int, batch: int, confidence: float
) -> None:
    world = World(seed)
    outcome = world.run(adaptive(budget, batch, confidence, classes, scored=True))
    found = len(outcome.finals)
    assert outcome == World(seed).run(best_of_n(found, scored=True))
    assert world.scored == [Score(outcome.finals)]
    assert found == budget or (found % batch == 0 and lead(classes(outcome.finals)) > confidence)


def test_without_a_sample_the_verifier_is_not_asked() -> None:
    seen = tuple(Prefix((index,), ("a",), finish="eos") for index in range(4))
    world = World(0)
    outcome = world.run(adaptive(8, 2, 0.95, classes, scored=True, seen=seen))
    assert outcome == Outcome((), (), generations=0) and world.requests == []
