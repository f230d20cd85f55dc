from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.analysis.discrimination import auroc, auroc_within


ITEMS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), max_size=25)


def pairs(items: list[tuple[str, int, bool]]) -> list[float]:
    """1 where the right item of a pair scores higher, 0 where the wrong one does, else a half."""
    right = [score for _, score, good in items if good]
    wrong = [score for _, score, good in items if not good]
    return [1.0 if r > w else 0.0 if r < w else 0.5 for r in right for w in wrong]


@given(ITEMS)
def test_it_is_the_share_of_pairs_that_the_right_item_wins(items: list[tuple[str, int, bool]]) -> None:
    won = pairs(items)
    area = auroc([score for _, score, _ in items], [good for _, _, good in items])
    assert area == (pytest.approx(sum(won) / len(won)) if won else None)


@given(ITEMS)
def test_within_groups_only_pairs_of_one_group_count(items: list[tuple[str, int, bool]]) -> None:
    won = [pair for group in "abc" for pair in pairs([item for item in items if item[0] == group])]
    groups, scores, labels = zip(*items) if items else ((), (), ())
    assert auroc_within(groups, scores, labels) == (pytest.approx(sum(won) / len(won)) if won else None)


def test_knowing_which_problems_are_hard_is_worth_nothing_within_them() -> None:
    groups = ["easy"] * 4 + ["hard"] * 4
    scores = [0.9] * 4 + [0.1] * 4
    labels = [True, True, True, False, True, False, False, False]
    assert auroc(scores, labels) == 0.75
    assert auroc_within(groups, scores, labels) == 0.5
