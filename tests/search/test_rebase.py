"""REBASE traced by hand, and the laws of its shares."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import World, follow

from tts_eval.search import rebase
from tts_eval.search.rebase import softmax_shares


def test_a_run_traced_by_hand() -> None:
    # With a temperature of 0.2 a tenth weighs e^0.5: 1, 1.65, 2.72, 4.48, 7.39 for 0.0, 0.1, 0.2, 0.3, 0.4.
    outcome = follow(
        rebase(4),
        """
        sample .*4            -> a b c d             |
        score  a b c d        -> 0 4 1 2             | 4 * (1, 7.39, 1.65, 2.72) / 12.76 = 0.31 2.32 0.52 0.85
        sample b*2 c*1 d*1    -> be bF cg dh         | 2 whole places, the two others by remainder; a is dropped
        score  be cg dh       -> 1 1 3               | 3 * (1.65, 1.65, 4.48) / 7.78 = 0.64 0.64 1.73
        sample be*1 dh*2      -> bei dhJ dhK         | of the two equal shares the first is rounded up
        score  bei            -> 0                   | alone, whatever its value
        sample bei*1          -> beiL                |
        score  bF dhJ dhK beiL -> 1 2 3 4            | in the order in which they ended
        """,
    )
    assert [final.text for final in outcome.finals] == ["bF", "dhJ", "dhK", "beiL"]
    assert outcome.step_scores == ((0.1,), (0.2,), (0.3,), (0.4,))
    assert outcome.generations == 4


def test_a_low_temperature_gives_the_best_all_places_and_a_high_one_shares_alike() -> None:
    assert softmax_shares([0.3, 0.9, 0.1], 6, 0.01) == [0, 6, 0]
    assert softmax_shares([0.3, 0.9, 0.1], 6, 1e6) == [2, 2, 2]


@pytest.mark.parametrize(
    ("values", "places", "expected"),
    [
        ([0.5, 0.5, 0.5], 4, [2, 1, 1]),  # of equal remainders the first
        ([0.5, 0.5, 0.5], 2, [1, 1, 0]),
        ([0.5], 7, [7]),
        ([1000.0, -1000.0], 3, [3, 0]),  # scores of a verifier without bounds
    ],
)
def test_shares(values: list[float], places: int, expected: list[int]) -> None:
    assert softmax_shares(values, places, 0.2) == expected


# Hundredths, for values so near each other that their weights are equal are a tie too.
VALUES = st.lists(st.integers(-100, 100).map(lambda value: value / 100), min_size=1, max_size=24)
TEMPERATURES = st.sampled_from([0.05, 0.2, 1.0, 10.0])


@given(values=VALUES, places=st.integers(1, 64), temperature=TEMPERATURES)
def test_shares_add_up_and_the_better_has_no_less(values: list[float], places: int, temperature: float) -> None:
    shares = softmax_shares(values, places, temperature)
    assert len(shares) == len(values) and sum(shares) == places and min(shares) >= 0
    by_value = sorted(zip(values, shares, strict=True))
    for (worse, fewer), (better, more) in pairwise(by_value):
        assert fewer <= more or worse == better
    equal = [[share for other, share in by_value if other == value] for value in set(values)]
    assert all(max(of_one) - min(of_one) <= 1 for of_one in equal)


@given(values=VALUES, places=st.integers(1, 64), temperature=TEMPERATURES, random=st.randoms())
def test_shares_follow_their_values_in_any_order(
    values: list[float], places: int, temperature: float, random: object
) -> None:
    order = list(range(len(values)))
    random.shuffle(order)
    shares = softmax_shares(values, places, temperature)
    moved = softmax_shares([values[index] for index in order], places, temperature)
    held = Counter(zip(values, shares, strict=True))
    assert held == Counter((values[index], share) for index, share in zip(order, moved, strict=True))


@given(values=VALUES, places=st.integers(1, 64), shift=st.integers(-5, 5))
def test_a_constant_added_to_all_values_changes_nothing(values: list[float], places: int, shift: int) -> None:
    shifted = softmax_shares([value + shift for value in values], places, 0.2)
    # Up to the last digit of a value, which may turn a tie around.
    assert sum(abs(a - b) for a, b in zip(softmax_shares(values, places, 0.2), shifted, strict=True)) <= 2


@given(seed=st.integers(), budget=st.integers(1, 16))
def test_open_places_are_shared_among_the_unfinished(seed: int, budget: int) -> None:
    world = World(seed)
    world.run(rebase(budget, rounds=5))
    for scored, sampled in zip(world.scored, world.sampled, strict=False):
        values = [world.scores(prefix)[-1] for prefix in scored.prefixes]
        shares = softmax_shares(values, len(values), 0.2)
        expected = [(prefix, share) for prefix, share in zip(scored.prefixes, shares, strict=True) if share]
        assert list(zip(sampled.prefixes, sampled.counts, strict=True)) == expected
