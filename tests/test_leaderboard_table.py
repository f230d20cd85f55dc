"""The leaderboard's text: whatever the names are, and in whatever order the runs come."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tts_eval.report.leaderboard import Named, Run, leaderboard


RUN = Run(
    *("toy", Named("m"), Named(""), Named("best-of-n"), 4, "majority", 0, 10, 0.5, 4.0, 100.0, 0.0, 1.0, 1000, 0.0, "f")
)


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_name_breaks_the_table(name: str, key: str, value: str) -> None:
    strange = Named(name, frozenset({(key, value)}))
    runs = [
        RUN,
        replace(RUN, verifier=Named(f"x{name}"), strategy=strange, selection=name),
        replace(RUN, strategy=Named(name)),
        replace(RUN, task=f"x{name}", model=strange),
    ]
    text, _ = leaderboard(runs)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {14} and all(line.endswith("|") for line in table)
    assert len(table) == len({run.line for run in runs}) + 2 * 2  # two tasks, each with a head and a rule
    assert sum(line.startswith("#") for line in text.splitlines()) == 3


@given(st.randoms(), st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_the_order_in_which_runs_are_found_does_not_matter(shuffle: random.Random, accuracies: list[float]) -> None:
    runs = [
        replace(RUN, seed=i, accuracy=accuracy, budget=4 + i % 2, seconds=accuracy / 3, source=str(i))
        for i, accuracy in enumerate(accuracies)
    ]
    expected = leaderboard(runs)
    shuffle.shuffle(runs)
    assert leaderboard(runs) == expected
