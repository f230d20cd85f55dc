"""Lookahead search traced by hand: rollouts decide, and leave nothing else behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scripted import Reply, World, follow

from tts_eval.search import beam
from tts_eval.types import Prefix, Sample, Score


def test_a_rollout_changes_which_beam_survives() -> None:
    without = follow(
        beam(2, 2),
        """
        sample .*2     -> a b          |
        score  a b     -> 9 1          | a looks better
        sample a*2     -> aC aD        |
        score  aC aD   -> 1 1          |
        """,
    )
    ahead = follow(
        beam(2, 2, lookahead=1),
        """
        sample .*2     -> a b          |
        greedy a b     -> ax by        |
        score  ax by   -> 2 8          | but b leads somewhere
        sample b*2     -> bC bD        | from b itself: its rollout is thrown away
        score  bC bD   -> 1 1          | a final solution is scored as it is
        """,
    )
    assert [final.text for final in without.finals] == ["aC", "aD"]
    assert [final.text for final in ahead.finals] == ["bC", "bD"]
    assert [final.path for final in ahead.finals] == [(1, 0), (1, 1)]
    assert (without.generations, ahead.generations) == (2, 4)


def test_rollouts_of_several_steps_traced_by_hand() -> None:
    outcome = follow(
        beam(5, 2, lookahead=3),
        """
        sample .*5              -> a b a c D             | D has ended: 4 places
        greedy a b c            -> ap bq cR              | the two a have one rollout; c's is at its end after a step
        greedy ap bq            -> aps bqt               |
        greedy aps bqt          -> apsu bqtV             | k = 3 steps at most
        score  apsu bqtV apsu cR -> 6 3 6 5              | each of the two a keeps its place
        sample a*2 a*2          -> aE ae af ag           | 3 places
        greedy ae af ag         -> aeW afX agY           | all at their end: no more greedy steps
        score  aeW afX agY      -> 1 2 3                 |
        sample ag*2 af*1        -> agH agI afJ           |
        score  D aE agH agI afJ -> 1 1 1 1 1             |
        """,
    )
    assert [final.path for final in outcome.finals] == [(4,), (0, 0), (2, 1, 0), (2, 1, 1), (2, 0, 0)]
    assert outcome.generations == 5 * (3 + 1)


def test_beams_stay_alive_while_they_are_rolled_out() -> None:
    """An engine may forget what it knows of any other prefix."""
    search = beam(3, 2, lookahead=2)
    world = World(1, end=0)
    first = world.extend(next(search))
    once = search.send(first)
    assert once.lookahead and once.alive == first
    twice = search.send(world.extend(once))
    assert twice.lookahead and twice.alive == first and all(len(prefix.steps) == 2 for prefix in twice.prefixes)


def test_the_last_round_is_not_rolled_out() -> None:
    world = World(0, end=0)
    world.run(beam(4, 2, lookahead=1, rounds=3))
    greedy = [isinstance(request, Sample) and request.lookahead for request in world.requests]
    #                    1st    roll  score  2nd    roll  score  3rd    finals
    assert greedy == [False, True, False, False, True, False, False, False]


@given(seed=st.integers(), budget=st.integers(1, 12), width=st.integers(1, 13), rounds=st.integers(1, 5))
def test_no_lookahead_is_beam_search(seed: int, budget: int, width: int, rounds: int) -> None:
    ahead, plain = World(seed), World(seed)
    assert ahead.run(beam(budget, width, lookahead=0, rounds=rounds)) == plain.run(beam(budget, width, rounds=rounds))
    assert ahead.requests == plain.requests
    assert not any(isinstance(request, Sample) and request.lookahead for request in ahead.requests)


@given(seed=st.integers(), budget=st.integers(1, 12), k=st.integers(1, 4), letters=st.integers(1, 3))
def test_equal_beams_share_a_rollout_and_every_beam_has_one(seed: int, budget: int, k: int, letters: int) -> None:
    beams: tuple[Prefix, ...] = ()
    judged: list[tuple[Prefix, Prefix]] = []

    def watch(request: Sample | Score, reply: Reply) -> None:
        nonlocal beams
        if isinstance(request, Score):
            judged.extend(zip(beams, request.prefixes, strict=False))
        elif not request.lookahead:
            beams = tuple(prefix for prefix in reply if prefix.finish is None)
        else:
            assert len({prefix.steps for prefix in request.prefixes}) == len(request.prefixes)

    outcome = World(seed, letters).run(beam(budget, 2, lookahead=k, rounds=4), watch=watch)
    for beam_, seen in judged:
        if seen in outcome.finals:
            continue  # the last call of the verifier is for the solutions
        steps = len(beam_.steps)
        assert seen.steps[:steps] == beam_.steps
        assert steps < len(seen.steps) <= steps + k and (seen.finish or len(seen.steps) == steps + k)


def test_one_text_in_two_ways_of_writing_it_has_two_rollouts() -> None:
    search = beam(3, 3, lookahead=1)
    next(search)
    first = tuple(Prefix((i,), ("ab",), tokens, len(tokens)) for i, tokens in enumerate([(1, 2), (3,), (1, 2)]))
    request = search.send(first)
    assert request.prefixes == first[:2]
    ends = tuple(Prefix((i, 0), ("ab", text)) for i, text in enumerate("cd"))
    assert search.send(ends) == Score((ends[0], ends[1], ends[0]))
