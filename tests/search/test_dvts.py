"""Diverse verifier tree search traced by hand, and its trees on their own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scripted import World, follow

from tts_eval.search import beam, dvts


def test_a_run_traced_by_hand() -> None:
    outcome = follow(
        dvts(5, 2),
        """
        sample .*5                -> a b c d e             | trees ab, cd and, since 2 doesn't divide 5, e
        score  a b c d e          -> 8 9 1 2 3             | b is best of its tree, d of its, though worse than a
        sample b*2 d*2 e*1        -> bF bg dh di eJ        | bF and eJ have ended; the last tree is done
        score  bg dh di           -> 1 5 5                 |
        sample bg*1 dh*2          -> bgK dhl dhm           | of equals the first
        score  dhl dhm            -> 1 2                   | only the second tree is left
        sample dhm*2              -> dhmN dhmO             |
        score  bF bgK dhmN dhmO eJ -> 1 2 3 4 5            | tree by tree
        """,
    )
    assert [final.text for final in outcome.finals] == ["bF", "bgK", "dhmN", "dhmO", "eJ"]
    assert outcome.step_scores == ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,))
    assert [final.path[0] for final in outcome.finals] == [1, 1, 3, 3, 4]
    assert outcome.generations == 5


@given(
    seed=st.integers(),
    width=st.integers(1, 5),
    trees=st.integers(1, 5),
    first=st.integers(1, 5),
    rounds=st.integers(1, 5),
)
def test_a_smaller_budget_has_the_first_trees(seed: int, width: int, trees: int, first: int, rounds: int) -> None:
    small, large = width * min(first, trees), width * trees
    part = World(seed).run(dvts(small, width, rounds=rounds))
    whole = World(seed).run(dvts(large, width, rounds=rounds))
    assert part.finals == whole.finals[:small]
    assert part.step_scores == whole.step_scores[:small]


@given(seed=st.integers(), budget=st.integers(1, 8), more=st.integers(0, 5), rounds=st.integers(1, 5))
def test_a_single_tree_is_beam_search_that_keeps_one(seed: int, budget: int, more: int, rounds: int) -> None:
    tree, beams = World(seed), World(seed)
    width = budget + more
    assert tree.run(dvts(budget, width, rounds=rounds)) == beams.run(beam(budget, width, rounds=rounds))
    assert tree.requests == beams.requests


@given(seed=st.integers(), budget=st.integers(1, 20), width=st.integers(1, 22))
def test_trees_never_compete(seed: int, budget: int, width: int) -> None:
    world = World(seed)
    outcome = world.run(dvts(budget, width, rounds=5))
    for request in world.sampled:
        trees = [prefix.path[0] // width for prefix in request.prefixes]
        assert trees == sorted(set(trees))
    places = [final.path[0] // width for final in outcome.finals]
    assert places == [index // width for index in range(budget)]
