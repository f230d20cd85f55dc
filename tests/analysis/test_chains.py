"""Chains of revisions: selections, shapes cut out of larger runs, attempts and ratios, against plain definitions."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tts_eval.analysis import Pool, PoolSet
from tts_eval.analysis.bootstrap import bootstrap
from tts_eval.analysis.chain_attempts import AttemptRow, attempt_rows, attempt_values
from tts_eval.analysis.chain_ratios import best_shapes
from tts_eval.analysis.chain_shapes import ShapeValues, shape_differences, shape_rows
from tts_eval.analysis.chains import CHAIN_MEASURES, Family, Shape, families, measures_of, shape_values, shapes_of
from tts_eval.analysis.difficulty import by_bin, pass_rates, quantile_bins
from tts_eval.analysis.resampling import bootstrap_ratios
from tts_eval.selection import CHAIN_SELECTIONS, chain_votes, chain_winners, select, select_chain, winners
from tts_eval.types import Candidate, TtsEvalError


# Eighths add up exactly, so that the plain definitions below meet the same ties.
eighths = st.integers(1, 8).map(lambda i: i / 8)
attempts = st.tuples(st.integers(-1, 2), eighths)
Chains = list[list[tuple[int, float]]]  # chains of attempts: class of the answer, score


@st.composite
def chains(draw: st.DrawFn, most: int = 4) -> Chains:
    length = draw(st.integers(1, most))
    return draw(st.lists(st.lists(attempts, min_size=length, max_size=length), min_size=1, max_size=most))


def arrays(of: Chains) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    flat = [(answer, score, number) for number, chain in enumerate(of) for answer, score in chain]
    return tuple(np.array(column) for column in zip(*flat))  # type: ignore[return-value]


def winning(of: Chains, selection: str, weight: str = "best") -> set[int]:
    classes, scores, numbers = arrays(of)
    votes = chain_votes(classes, scores, numbers, selection, weight)
    return set(np.flatnonzero(chain_winners(votes, np.ones((1, len(of)), dtype=bool))[0]).tolist())


def largest(votes: dict[int, float]) -> set[int]:
    return {answer for answer, vote in votes.items() if vote == max(votes.values())}


def plain(of: Chains, selection: str) -> set[int]:
    votes: dict[int, float] = defaultdict(float)
    for chain in of:
        counting = chain[-1:] if selection == "last_attempt" else chain
        inside: dict[int, float] = defaultdict(float)
        for answer, score in counting:
            if answer != -1:
                inside[answer] += score if selection in ("best_of_n_weighted", "hierarchical") else 1
        if selection == "hierarchical":
            tied = largest(inside)
            inside = dict.fromkeys(tied, max((s for b, s in chain if b in tied), default=0) / max(1, len(tied)))
        for answer, vote in inside.items():
            votes[answer] += vote
    return largest(votes)


A, B, C = range(3)
BY_HAND = [[(A, 0.5), (B, 0.6), (A, 0.3)], [(B, 0.9), (C, 0.2), (B, 0.1)], [(A, 0.3), (A, 0.3), (C, 0.4)]]


def test_selections_by_hand() -> None:
    """The chains choose A (0.8 against 0.6), B and A; as solutions these weigh 0.5, 0.9 and 0.3."""
    assert winning(BY_HAND, "hierarchical") == {B}, "0.5 + 0.3 against 0.9"
    assert winning(BY_HAND, "hierarchical", "sum") == {A}, "0.8 + 0.6 against 1.0"
    assert winning(BY_HAND, "best_of_n_weighted") == {B}, "1.4 against 1.6"
    assert winning(BY_HAND, "majority") == {A}
    assert winning(BY_HAND, "last_attempt") == {A, B, C}
    picks = {s: select_chain(*arrays(BY_HAND), s) for s in CHAIN_SELECTIONS}
    assert picks == {"hierarchical": 3, "best_of_n_weighted": 3, "majority": 0, "last_attempt": 2}
    assert select_chain(*arrays(BY_HAND), "hierarchical", "sum") == 0
    assert select_chain(*arrays(BY_HAND), "best_of_n") == 3


def test_answers_that_tie_in_a_chain_share_what_it_gives() -> None:
    tied = [[(A, 0.5), (B, 0.5)], [(B, 0.125), (B, 0.125)], [(A, 0.25), (C, 0.125)]]
    votes = chain_votes(*arrays(tied), "hierarchical")
    np.testing.assert_array_equal(votes, [[0.25, 0.25, np.nan], [np.nan, 0.125, np.nan], [0.25, np.nan, np.nan]])
    assert winning(tied, "hierarchical") == {A} and select_chain(*arrays(tied), "hierarchical") == 0


def test_a_tie_in_a_chain_is_none_of_its_attempts_merit() -> None:
    """Two of an eighth and one of a quarter tie, so the better attempt doesn't decide either: one chain is a vote."""
    tied = [[(A, 0.125), (A, 0.125), (B, 0.25)]]
    assert chain_votes(*arrays(tied), "hierarchical").tolist() == [[0.125, 0.125]]
    assert winning(tied, "hierarchical") == {A, B}


def test_a_lost_chain_lends_no_text_to_the_winner() -> None:
    """B wins with the second chain alone; its better attempt in the first is of a chain that chose A."""
    classes, scores, numbers = arrays([[(B, 0.7), (A, 0.4), (A, 0.4)], [(B, 0.6), (B, 0.5), (B, 0.1)]])
    assert select_chain(classes, scores, numbers, "hierarchical") == 3
    assert select_chain(classes, scores, numbers, "best_of_n_weighted") == 0


def test_a_chain_without_answers_gives_nothing() -> None:
    classes, scores, numbers = arrays([[(-1, 0.9), (-1, 0.9)], [(A, 0.1), (-1, 0.9)]])
    for selection in ("hierarchical", "best_of_n_weighted", "majority"):
        assert select_chain(classes, scores, numbers, selection) == 2
    assert select_chain(classes, scores, numbers, "last_attempt") is None
    nothing = chain_votes(np.array([-1, -1]), np.zeros(2), np.array([0, 1]), "hierarchical")
    assert nothing.shape == (2, 0) and not chain_winners(nothing, np.ones((3, 2), dtype=bool)).any()


def test_what_needs_scores_says_so() -> None:
    with pytest.raises(TtsEvalError, match="hierarchical needs verifier scores"):
        select_chain(np.array([0]), None, np.array([0]), "hierarchical")
    with pytest.raises(TtsEvalError, match=r"unknown selection 'vote'; choose from majority, .*hierarchical"):
        select_chain(np.array([0]), None, np.array([0]), "vote")
    assert select_chain(np.array([0, 1, 1]), None, np.array([0, 0, 1]), "last_attempt") == 1


@given(chains(), st.sampled_from(CHAIN_SELECTIONS), st.randoms())
def test_selections_match_their_definitions_in_any_order(of: Chains, selection: str, random: object) -> None:
    expected = plain(of, selection)
    assert winning(of, selection) == expected
    shuffled = [list(chain) for chain in of]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for chain in shuffled if selection != "last_attempt" else []:
        random.shuffle(chain)  # type: ignore[attr-defined]
    assert winning(shuffled, selection) == expected
    classes, scores, numbers = arrays(of)
    pick = select_chain(classes, scores, numbers, selection)
    assert (pick is None) == (not expected) and (pick is None or classes[pick] in expected)


@given(chains(), st.sampled_from(["hierarchical", "best_of_n_weighted"]), st.sampled_from(["best", "sum"]))
def test_one_chain_or_one_attempt_is_a_plain_weighted_vote(of: Chains, selection: str, weight: str) -> None:
    for some in ([of[0]], [chain[:1] for chain in of]):
        classes, scores, numbers = arrays(some)
        plainly = winners(classes, scores, np.arange(len(classes))[None], "best_of_n_weighted")[0]
        assert winning(some, selection, weight) == set(np.flatnonzero(plainly).tolist())
        pick = select_chain(classes, scores, numbers, selection, weight)
        assert pick == select(classes, scores, "best_of_n_weighted")


def pool(of: Chains, right: int = A, uid: str = "a", seed: int = 0, scored: bool = True, level: object = None) -> Pool:
    candidates = tuple(
        Candidate("", None if a == -1 else str(a), ("",), None, s if scored else None, None, 1, "eos", c, t)
        for c, chain in enumerate(of)
        for t, (a, s) in enumerate(chain)
    )
    classes = arrays(of)[0]
    return Pool(uid, seed, level, candidates, classes, classes == right)


def family(*pools: Pool, strategy: str = "revise") -> Family:
    (found,), _ = families([PoolSet("toy", strategy, 1, False, pools)])
    return found


@settings(max_examples=40)
@given(chains(), st.data())
def test_a_shape_is_the_mean_over_all_subsets_of_chains_cut_short(of: Chains, data: st.DataObject) -> None:
    shape = Shape(data.draw(st.integers(1, len(of[0]))), data.draw(st.integers(1, len(of))))
    one = family(pool(of))
    values = shape_values(one, [shape], CHAIN_MEASURES)[0, 0]
    for measure, value in zip(CHAIN_MEASURES, values, strict=True):
        chances = []
        for subset in itertools.combinations([chain[: shape.length] for chain in of], shape.chains):
            tied = {a for chain in subset for a, _ in chain} & {A} if measure == "coverage" else plain(subset, measure)
            chances.append((A in tied) / max(1, len(tied)))
        assert value == pytest.approx(np.mean(chances)), measure


def test_many_subsets_are_sampled() -> None:
    rng = np.random.default_rng(0)
    of = [[(int(rng.choice([A, A, B, -1])), float(rng.random())) for _ in range(2)] for _ in range(14)]
    exact = shape_values(family(pool(of)), [Shape(2, 7)], CHAIN_MEASURES, resamples=4000)
    some = [shape_values(family(pool(of)), [Shape(2, 7)], CHAIN_MEASURES, resamples=300, seed=s) for s in range(20)]
    deviation = np.std(some, axis=0)
    assert (deviation[..., :-1] > 0).all(), "all but coverage, which has a formula"
    assert (np.abs(np.mean(some, axis=0) - exact) < 4 * deviation / 20**0.5 + 1e-9).all()


def test_each_shape_is_taken_from_the_run_that_says_most() -> None:
    """Chains of two runs differ here, so that the values show where they come from."""
    wide = pool([[(A, 0.5), (B, 0.5)]] * 2 + [[(B, 0.5), (B, 0.5)]] * 2)
    long = pool([[(A, 0.5)] * 4, [(A, 0.5)] * 4])
    both = family(wide, long)
    assert [run.shape for run in both.runs] == [Shape(2, 4), Shape(4, 2)]
    assert both.run_for(Shape(2, 2)).shape == Shape(2, 4) and both.run_for(Shape(3, 1)).shape == Shape(4, 2)
    assert shapes_of(both, [8]) == [Shape(2, 4), Shape(4, 2)]
    assert [tuple(shape) for shape in shapes_of(both, [1, 2, 4])] == [(1, 1), (1, 2), (2, 1), (1, 4), (2, 2), (4, 1)]
    values = shape_values(both, [Shape(1, 1), Shape(4, 1)], ["last_attempt"])
    assert values[0, :, 0].tolist() == [0.5, 1.0]
    assert [tuple(s) for s in shapes_of(family(pool([[(A, 0.5)] * 3] * 3)), [3, 9])] == [(1, 3), (3, 1), (3, 3)]


def test_seeds_are_averaged_and_unscored_chains_have_no_verifier() -> None:
    one = family(pool([[(A, 0.5)]]), pool([[(B, 0.5)]], seed=1), pool([[(A, 0.5)]], uid="b", scored=False))
    assert one.uids == ("a", "b")
    assert measures_of(one) == ["majority", "last_attempt", "coverage"]
    assert shape_values(one, [Shape(1, 1)], ["majority"])[:, 0, 0].tolist() == [0.5, 1.0]


def test_families() -> None:
    many, few = pool([[(A, 0.5)] * 2]), pool([[(A, 0.5)]])
    sets = [
        PoolSet(
            "toy", 'revise (chains=1, length=2, model.pretrained="x, y")', 2, False, (many, replace(many, uid="b"))
        ),
        PoolSet("toy", 'revise (chains=1, length=1, model.pretrained="x, y")', 1, False, (few,)),
        PoolSet("toy", "revise (chains=1, length=2)", 2, False, (many,)),
        PoolSet("toy", "best-of-n", 1, True, (few,)),
    ]
    found, notes = families(sets)
    assert [one.strategy for one in found] == ['revise (model.pretrained="x, y")', "revise"]
    assert [len(one.runs) for one in found] == [2, 1] and found[0].uids == ("a",)
    assert notes == [
        "toy, best-of-n: not chains of revisions, left out",
        'toy, revise (model.pretrained="x, y"): 1 problems that not all of its runs have are left out',
    ]
    with pytest.raises(TtsEvalError, match="no chains of revisions"):
        families(sets[3:])
    with pytest.raises(TtsEvalError, match="no problem is in all of its runs"):
        families([sets[0], replace(sets[1], pools=(replace(few, uid="c"),))])
    broken = replace(many, candidates=(many.candidates[0], replace(many.candidates[1], chain=2)))
    with pytest.raises(TtsEvalError, match="problem a: its 2 attempts aren't 3 whole chains of 2"):
        families([replace(sets[0], pools=(broken,))])


def test_attempts_may_be_written_in_any_order() -> None:
    straight = pool(BY_HAND)
    order = [4, 0, 8, 1, 2, 7, 3, 6, 5]
    shuffled = replace(
        straight,
        candidates=tuple(straight.candidates[i] for i in order),
        classes=straight.classes[order],
        correct=straight.correct[order],
    )
    assert family(shuffled).runs[0].pools["a"][0].candidates == straight.candidates


def cells(rows: Sequence[AttemptRow]) -> dict[tuple[int | None, str], float]:
    return {(row.attempt, row.measure): row.value for row in rows}


def test_attempts_by_hand() -> None:
    """Right is A: one chain loses it and finds it again, the other has no answer at first and finds it in the end."""
    one = family(pool([[(A, 0), (B, 0), (A, 0)], [(-1, 0), (C, 0), (A, 0)]]))
    rows = attempt_rows(attempt_values(one))
    assert cells(rows) == pytest.approx(
        {
            (1, "accuracy"): 0.5,
            (1, "none"): 0.5,
            **{(2, name): value for name, value in {"accuracy": 0, "gain": -0.5, "broken": 1, "mended": 0}.items()},
            **{(2, name): value for name, value in {"same": 0, "back": 0, "new": 1, "none": 0}.items()},
            **{(3, name): value for name, value in {"accuracy": 1, "gain": 0.5, "mended": 1}.items()},
            **{(3, name): value for name, value in {"same": 0, "back": 0.5, "new": 0.5, "none": 0}.items()},
            # One of one right attempt broken; two of the three wrong ones mended.
            **{(None, name): value for name, value in {"accuracy": 0.5, "gain": 0, "broken": 1}.items()},
            (None, "mended"): 2 / 3,
            **{(None, name): value for name, value in {"same": 0, "back": 0.25, "new": 0.75, "none": 0}.items()},
        }
    )
    assert {row.chains for row in rows} == {2, None} and {row.n for row in rows} == {1}


def test_problems_weigh_by_their_right_attempts() -> None:
    """Problem a has two right attempts of which one is broken, b one that stays: one of three, not the mean 1/4."""
    a = pool([[(A, 0), (A, 0)], [(A, 0), (B, 0)]])
    b = pool([[(A, 0), (A, 0)], [(B, 0), (B, 0)]], uid="b")
    values = attempt_values(family(a, b))
    assert cells(attempt_rows(values))[2, "broken"] == pytest.approx(1 / 3)
    assert cells(attempt_rows(values))[2, "same"] == pytest.approx(3 / 4)
    part = attempt_rows(values.part("bin 2", np.array([1])))
    assert cells(part)[2, "broken"] == 0 and {(row.level, row.n) for row in part} == {("bin 2", 1)}


def test_an_attempt_is_measured_in_the_widest_run_that_has_it() -> None:
    """The gain is against the first attempt of the same run."""
    wide, long = pool([[(A, 0)], [(B, 0)], [(B, 0)]]), pool([[(A, 0), (A, 0), (B, 0)]])
    rows = attempt_rows(attempt_values(family(wide, long)))
    assert [(row.attempt, row.chains, row.value) for row in rows if row.measure == "accuracy"] == [
        *((1, 3, pytest.approx(1 / 3)), (2, 1, 1), (3, 1, 0), (None, None, 0.5))
    ]
    assert cells(rows)[2, "gain"] == 0 and cells(rows)[3, "gain"] == -1


@given(chains())
def test_the_ways_to_change_an_answer_add_up(of: Chains) -> None:
    found = cells(attempt_rows(attempt_values(family(pool(of))), resamples=2))
    for attempt in [*range(2, len(of[0]) + 1), *([None] if len(of[0]) > 1 else [])]:
        assert sum(found[attempt, name] for name in ("same", "back", "new", "none")) == pytest.approx(1)
    for attempt in range(2, len(of[0]) + 1):
        before = found[attempt - 1, "accuracy"]
        kept = before * (1 - found.get((attempt, "broken"), 0)) + (1 - before) * found.get((attempt, "mended"), 0)
        assert found[attempt, "accuracy"] == pytest.approx(kept)


def shaped(values: np.ndarray) -> ShapeValues:
    """Budget 4 of the three shapes, majority only."""
    shapes = [Shape(1, 4), Shape(2, 2), Shape(4, 1)]
    return ShapeValues(Family("toy", "revise", (), ()), None, shapes, ["majority"], values[:, :, None])


def test_the_best_shape_by_hand() -> None:
    (best,) = best_shapes(shaped(np.tile([0.2, 0.9, 0.4], (10, 1))))
    assert (best.length, best.chains, best.often, best.ratio_low, best.ratio_high, best.n) == (2, 2, 1, 1, 1, 10)
    assert (best.accuracy, best.over_sequential, best.over_parallel) == pytest.approx((0.9, 0.5, 0.7))
    assert best.held_out == pytest.approx(0.5), "over the better of the pure shapes, one chain"
    (equal,) = best_shapes(shaped(np.ones((10, 3))))
    assert (equal.length, equal.often) == (1, pytest.approx(1 / 3)) and equal.held_out == pytest.approx(0)
    assert (equal.ratio_low, equal.ratio_high) == (0.25, 4)
    (alone,) = best_shapes(shaped(np.array([[0.2, 0.9, 0.4]])))
    assert alone.held_out is None and alone.n == 1
    two = ShapeValues(
        Family("toy", "revise", (), ()), None, [Shape(1, 2), Shape(2, 1)], ["majority"], np.ones((3, 2, 1))
    )
    assert best_shapes(two) == [], "two pure shapes have no mix"


def test_choosing_among_equals_gains_nothing_held_out() -> None:
    """Noise alone: the chosen shape looks better than both pure ones, but not on problems without part in it."""
    rng = np.random.default_rng(0)
    found = [best_shapes(shaped(rng.random((40, 3))), resamples=100, seed=s)[0] for s in range(60)]
    flattered = np.array([min(best.over_sequential, best.over_parallel) for best in found])
    held_out = np.array([best.held_out for best in found])
    assert flattered.mean() > 0 and (flattered >= 0).all()
    assert abs(held_out.mean()) < 3 * held_out.std() / 60**0.5
    covered = np.mean([best.held_out_low <= 0 <= best.held_out_high for best in found])
    assert covered >= 0.95


def test_gains_are_paired() -> None:
    """Revising wins two problems of ten and loses none; alone each accuracy varies far more."""
    values = np.zeros((10, 3))
    values[4:, 0], values[2:, 2] = 1, 1
    rows = shape_rows(shaped(values))
    assert [(row.length, row.chains, row.accuracy, row.gain) for row in rows] == [
        *((1, 4, 0.6, 0), (2, 2, 0, pytest.approx(-0.6)), (4, 1, 0.8, pytest.approx(0.2)))
    ]
    # A draw of ten has a binomial number of the two: 2.5 % and 97.5 % of it are 0 and 5.
    assert (rows[2].gain_low, rows[2].gain_high) == pytest.approx((0, 0.5))
    without = ShapeValues(Family("toy", "revise", (), ()), None, [Shape(2, 2)], ["majority"], np.ones((3, 1, 1)))
    assert shape_rows(without)[0].gain is None


def test_differences_between_selections() -> None:
    one = family(pool([[(A, 0.9), (B, 0.1)]]), pool([[(B, 0.5), (B, 0.5)]], uid="b"))
    measures, shapes = measures_of(one), [Shape(2, 1)]
    found = ShapeValues(one, None, shapes, measures, shape_values(one, shapes, measures))
    rows = {row.selection: row.difference for row in shape_differences(found, "last_attempt")}
    assert rows == {"majority": 0.25, "best_of_n_weighted": 0.5, "hierarchical": 0.5, "coverage": 0.5}


def ratio(top: np.ndarray, bottom: np.ndarray, drawn: np.ndarray) -> float | None:
    return top[drawn].sum() / bottom[drawn].sum() if bottom[drawn].any() else None


@given(st.integers(1, 8), st.integers(0, 2**32))
def test_many_ratios_at_once_are_bootstrapped_like_one(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tops, bottoms = rng.random((n, 3)), rng.integers(0, 2, (n, 3)).astype(float)
    for column, found in enumerate(bootstrap_ratios(tops, bottoms, resamples=20, seed=seed)):
        top, bottom = tops[:, column], bottoms[:, column]
        one = bootstrap(n, partial(ratio, top, bottom), resamples=20, seed=seed)
        assert (found is None) == (one is None)
        if found and one:
            assert (found.value, found.low, found.high) == pytest.approx((one.value, one.low, one.high))


def test_bins_by_hand() -> None:
    ten = dict(zip("abcdefghij", (0.9, 1.0, 0.8, 0.7, 0.5, 0.6, 0.3, 0.4, 0.1, 0.2)))
    assert quantile_bins(ten) == dict(zip("abcdefghij", (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)))
    # Seven that are never solved have ranks 4 to 10, whose middle, 7, is in bin 4; the bins 3 and 5 stay empty.
    tied = dict(zip("abcdefghij", (1.0, 0.9, 0.5, *[0.0] * 7)))
    assert list(quantile_bins(tied).values()) == [1, 1, 2, *[4] * 7]
    pools = PoolSet("toy", "revise", 1, False, tuple(pool([[(A, 0)]], uid=uid) for uid in "cab"))
    parts = by_bin(pools, {"a": 4, "b": 1, "d": 2})
    assert [(name, [one.uid for one in part.pools]) for name, part in parts] == [("bin 1", ["b"]), ("bin 4", ["a"])]
    assert pass_rates(PoolSet("t", "s", 1, True, (pool([[(A, 0)], [(B, 0)]]), pool([[(A, 0)]], seed=1)))) == {"a": 0.75}


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.randoms())
def test_bins_depend_on_rates_alone(counts: list[int], random: object) -> None:
    rates = {str(i): count / 6 for i, count in enumerate(counts)}
    bins = quantile_bins(rates)
    order = list(rates)
    random.shuffle(order)  # type: ignore[attr-defined]
    assert quantile_bins({uid: rates[uid] for uid in order}) == bins
    for one, two in itertools.combinations(rates, 2):
        assert (rates[one] == rates[two]) <= (bins[one] == bins[two])
        assert (rates[one] > rates[two]) <= (bins[one] <= bins[two])
    if len(set(counts)) == len(counts) and len(counts) % 5 == 0:
        assert sorted(bins.values()) == sorted(list(range(1, 6)) * (len(counts) // 5))
