"""Beam search traced by hand, and at the ends of its range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import World, follow

from tts_eval.search import beam


def texts(outcome_prefixes: object) -> list[str]:
    return [prefix.text for prefix in outcome_prefixes]


def test_a_run_traced_by_hand() -> None:
    outcome = follow(
        beam(6, 2),
        """
        sample .*6                       -> a b c d e f               | N first steps
        score  a b c d e f               -> 3 9 1 7 8 2               | the best N/M = 3 are b, e, d
        sample b*2 e*2 d*2               -> bg bH ei ej dk dl         | M of each, best first; bH has ended: 5 places
        score  bg ei ej dk dl            -> 4 1 6 9 5                 | 3 of them grow, the last into what is left
        sample dk*2 ej*2 dl*1            -> dkm dkN ejO ejP dlq       | three more have ended: 2 places
        score  dkm dlq                   -> 2 3                       |
        sample dlq*2                     -> dlqR dlqS                 | none is left to go on from
        score  bH dkN ejO ejP dlqR dlqS  -> 1 2 3 4 5 6               |
        """,
    )
    assert texts(outcome.finals) == ["bH", "dkN", "ejO", "ejP", "dlqR", "dlqS"]
    assert outcome.step_scores == ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,), (0.6,))
    paths = [(1, 1), (3, 0, 1), (4, 1, 0), (4, 1, 1), (3, 1, 0, 0), (3, 1, 0, 1)]
    assert [final.path for final in outcome.finals] == paths
    assert outcome.generations == 6


def test_of_equals_the_first_survives_and_equal_prefixes_have_a_place_each() -> None:
    outcome = follow(
        beam(4, 2),
        """
        sample .*4                 -> a b a b             |
        score  a b a b             -> 5 5 5 5             | read as often as asked: sharing is the verifier's business
        sample a*2 b*2             -> aX aX bY bZ         |
        score  aX aX bY bZ         -> 5 5 5 5             |
        """,
    )
    assert [final.path for final in outcome.finals] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_what_is_unfinished_after_the_last_round_is_final_as_it_is() -> None:
    outcome = follow(
        beam(3, 3, rounds=2),
        """
        sample .*3        -> a b C            |
        score  a b        -> 1 2              |
        sample b*2        -> bd bE            |
        score  C bE bd    -> 7 8 9            | bd may not grow a third step
        """,
    )
    assert [(final.text, final.finish) for final in outcome.finals] == [("C", "eos"), ("bE", "eos"), ("bd", None)]


def test_one_round_is_one_step() -> None:
    assert texts(follow(beam(2, 2, rounds=1), "sample .*2 -> a B \n score B a -> 1 2").finals) == ["B", "a"]


def test_a_delimiter_that_never_occurs_leaves_best_of_n() -> None:
    assert texts(follow(beam(3, 2), "sample .*3 -> A B C \n score A B C -> 1 2 3").finals) == ["A", "B", "C"]


@pytest.mark.parametrize(("aggregate", "survivor"), [(min, "b"), (max, "a")])
def test_the_users_aggregation_ranks_prefixes(aggregate: object, survivor: str) -> None:
    search = beam(2, 2, value=aggregate)
    world = World(0, end=0)
    first = world.extend(next(search))
    search.send(first)
    # `a` has the best and the worst step.
    request = search.send(((0.1, 0.9), (0.4, 0.5)))
    assert request.prefixes == (first["ab".index(survivor)],)


@given(seed=st.integers(), budget=st.integers(1, 12), end=st.sampled_from([0.0, 0.3]))
def test_width_1_is_n_chains_that_never_meet(seed: int, budget: int, end: float) -> None:
    world = World(seed, end=end)
    outcome = world.run(beam(budget, 1, rounds=5))
    assert all(set(request.counts) == {1} for request in world.sampled)
    assert sorted(final.path[0] for final in outcome.finals) == list(range(budget))
    assert all(set(final.path[1:]) <= {0} for final in outcome.finals)


@given(seed=st.integers(), budget=st.integers(1, 12), more=st.integers(0, 20), end=st.sampled_from([0.0, 0.3]))
def test_width_n_and_more_keeps_only_the_best(seed: int, budget: int, more: int, end: float) -> None:
    world = World(seed, end=end)
    world.run(beam(budget, budget + more, rounds=5))
    assert all(len(request.prefixes) == 1 for request in world.sampled)


@given(seed=st.integers(), budget=st.integers(1, 24), width=st.integers(1, 26), end=st.sampled_from([0.0, 0.3]))
def test_the_best_survive_and_share_the_open_places(seed: int, budget: int, width: int, end: float) -> None:
    world = World(seed, end=end)
    world.run(beam(budget, width, rounds=5))
    for scored, sampled in zip(world.scored, world.sampled, strict=False):
        values = {prefix: world.scores(prefix)[-1] for prefix in scored.prefixes}
        kept = sampled.prefixes
        assert len(kept) == -(-len(values) // width) and sum(sampled.counts) == len(values)
        assert set(sampled.counts[:-1]) <= {width} and sampled.counts[-1] <= width
        dropped = [value for prefix, value in values.items() if prefix not in kept]
        assert min(values[prefix] for prefix in kept) >= max(dropped, default=0)
        assert [values[prefix] for prefix in kept] == sorted((values[prefix] for prefix in kept), reverse=True)
