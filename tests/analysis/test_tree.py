"""The tree of a record: from its nodes, or from what its candidates share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.analysis.choice import choose
from tts_eval.analysis.gold import Gold
from tts_eval.analysis.tree import Branch, tree_of, walk
from tts_eval.journal import Node, Record
from tts_eval.types import Candidate, TtsEvalError, Usage


class Equality:
    """A grader for which answers are equal when their strings are."""

    def grade(self, pairs: Iterable[tuple[str, str | None]]) -> list[bool]:
        return [gold == answer for gold, answer in pairs]

    def group(self, answers: Sequence[str | None]) -> list[int | None]:
        return [None if answer is None else answers.index(answer) for answer in answers]


def candidate(steps: str, scores: Sequence[float] | None = None, outcome: float | None = None) -> Candidate:
    """One letter a step; the last is the answer, `-` none."""
    answer = None if steps.endswith("-") else steps[-1:]
    return Candidate(steps, answer, tuple(steps), None if scores is None else tuple(scores), outcome, 0, 1, "eos", 0, 0)


def record(*candidates: Candidate, nodes: tuple[Node, ...] | None = None, **strategy: object) -> Record:
    return Record("u", "toy", {"name": "any", **strategy}, 2, 0, candidates, Usage(), nodes=nodes)


def lines(root: Branch) -> list[str]:
    return [
        "  " * (len(lasts) - 1) + "".join(branch.steps) + "".join(f" #{index}" for index in branch.candidates)
        for branch, lasts in walk(root)
        if lasts
    ]


def test_candidates_part_where_their_steps_do() -> None:
    root = tree_of(record(*map(candidate, ["abcx", "abcy", "az", "abcy", "abc", "q"])))
    assert lines(root) == ["a", "  bc #4", "    x #0", "    y #1 #3", "  z #2", "q #5"]
    assert [branch.samples for branch, _ in walk(root)] == [2, 2, 2, 0, 0, 0, 0]
    assert not any(branch.dropped for branch, _ in walk(root))


def test_scores_stay_with_their_steps() -> None:
    root = tree_of(record(candidate("abx", [0.1, 0.2, 0.3]), candidate("aby", [0.1, 0.2, 0.4])))
    assert [branch.scored_steps for branch, _ in walk(root)] == [
        [],
        [("a", 0.1), ("b", 0.2)],
        [("x", 0.3)],
        [("y", 0.4)],
    ]


def test_an_outcome_score_is_that_of_the_last_step() -> None:
    (branch,) = tree_of(record(candidate("abx", outcome=0.6))).children
    assert branch.scored_steps == [("a", None), ("b", None), ("x", 0.6)]


@given(st.lists(st.text("ab", max_size=5), min_size=1, max_size=8))
def test_each_candidate_ends_where_its_steps_lead(texts: list[str]) -> None:
    root = tree_of(record(*map(candidate, texts)))
    found, above = {}, {0: ""}
    for branch, lasts in walk(root):
        above[len(lasts)] = above.get(len(lasts) - 1, "") + "".join(branch.steps)
        found |= dict.fromkeys(branch.candidates, above[len(lasts)])
    assert [found[index] for index in range(len(texts))] == texts


def test_nodes_keep_what_was_dropped_and_rolled_out() -> None:
    nodes = (
        Node((0,), 0, ("a",), (0.5,)),
        Node((1,), 0, ("b",), (0.1,)),
        Node((2,), 0, ("b",), (0.1,)),
        Node((0, 0), 1, ("r",), (0.9,)),
        Node((0, 0, 0), 2, ("R",), (0.8,), "eos"),
        Node((0, 0), 0, ("x",), (0.7,), "eos", candidate=0),
        Node((0, 0, 0), 1, ("q",)),
    )
    root = tree_of(record(candidate("ax"), nodes=nodes))
    assert lines(root) == ["a", "  r", "    R", "  x #0", "    q", "b"]
    a, b = root.children
    assert (a.dropped, a.samples, a.rollout) == (False, 1, False)
    assert (b.dropped, b.times) == (True, 2) and root.samples == 3
    rolled, kept = a.children
    assert rolled.rollout and not rolled.dropped and rolled.children[0].finish == "eos"
    assert kept.children[0].rollout, "a rollout from where another rollout had been"


def test_walking_a_thousand_steps_deep() -> None:
    nodes = tuple(Node((0,) * depth, 0, ("a",)) for depth in range(1, 3001))
    assert sum(1 for _ in walk(tree_of(record(candidate("a"), nodes=nodes)))) == 3001


def test_the_choice_is_the_selections() -> None:
    of = record(candidate("7", [0.5]), candidate("3", [0.9]), candidate("7", [0.1]), candidate("x-", [0.9]))
    voted = choose(of, Gold("7", None), Equality(), selection="majority")
    assert (voted.selected, voted.correct) == (0, (True, False, True, False))
    weighted = choose(of, None, Equality())
    assert (weighted.selection, weighted.aggregation, weighted.selected) == ("best_of_n_weighted", "last", 1)
    assert [(answer.text, answer.candidates, answer.selected) for answer in weighted.answers] == [
        ("7", (0, 2), False),
        ("3", (1,), True),
        (None, (3,), False),
    ]
    assert [answer.score for answer in weighted.answers] == [pytest.approx(0.6), 0.9, None]
    assert [answer.correct for answer in voted.answers] == [True, False, False]


def test_the_aggregation_is_that_of_the_search() -> None:
    of = record(candidate("a7", [0.1, 0.9]), candidate("b3", [0.5, 0.6]), aggregation="min")
    assert choose(of, None, Equality()).selected == 1
    assert choose(of, None, Equality(), aggregation="last").selected == 0


def test_among_chains_the_vote_is_hierarchical() -> None:
    """All together 7 has 1.0 and 3 has 0.9; chain by chain the best attempts count."""
    first, second, other = candidate("7", [0.5]), candidate("7", [0.5]), candidate("3", [0.9])
    chained = choose(record(first, replace(second, attempt=1), replace(other, chain=1)), None, Equality())
    assert (chained.selection, chained.selected) == ("hierarchical", 2)
    assert choose(record(first, replace(second, chain=1), replace(other, chain=2)), None, Equality()).selected == 0


def test_no_answer_and_no_scores() -> None:
    none = choose(record(candidate("-")), Gold("7", 1), Equality())
    assert (none.selection, none.selected, none.scores) == ("majority", None, None)
    assert not any(answer.selected for answer in none.answers)
    with pytest.raises(TtsEvalError, match="needs verifier scores"):
        choose(replace(record(candidate("7"))), None, Equality(), selection="best_of_n")
