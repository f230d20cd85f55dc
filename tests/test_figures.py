"""Figures of `tts-eval select`: what has a line or bars of its own."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tts_eval.analysis import Row
from tts_eval.report import accuracy_figure, figures, level_figure


def row(budget: int, accuracy: float, selection: str, how: str | None = None, level: int | None = None) -> Row:
    return Row("toy", "best-of-n", budget, how, selection, accuracy, accuracy - 0.1, accuracy + 0.1, 10, level)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures instead of files."""
    kept: list[Any] = []
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure))
    return kept


def test_each_aggregation_has_a_line(drawn: list[Any]) -> None:
    lines = {("majority", None): (0.3, 0.4), ("best_of_n", "last"): (0.3, 0.6), ("best_of_n", "min"): (0.3, 0.5)}
    # As `accuracy_rows` gives them: budget by budget.
    rows = [row(n, values[i], *key) for i, n in enumerate((1, 4)) for key, values in lines.items()]
    accuracy_figure(rows, Path("a.png"))
    shown = {line.get_label(): line[0] for line in drawn[0].axes[0].containers}
    assert {name: list(line.get_ydata()) for name, line in shown.items()} == {
        "majority": [30, 40],
        "best_of_n (last)": [30, 60],
        "best_of_n (min)": [30, 50],
    }
    looks = {(line.get_marker(), line.get_xdata()[0]) for line in shown.values()}
    assert [len(set(of)) for of in zip(*looks, strict=True)] == [3, 3]


def test_each_aggregation_has_bars(drawn: list[Any]) -> None:
    bars = {("mean", None): (0.2, 0.1), ("best_of_n", "last"): (0.6, 0.4), ("best_of_n", "min"): (0.5, 0.3)}
    rows = [row(4, values[i], *key, level) for i, level in enumerate((1, 2)) for key, values in bars.items()]
    level_figure(rows, Path("a.png"))
    shown = {of.get_label(): of for of in drawn[0].axes[0].containers if of.get_label()[0] != "_"}
    assert {name: [bar.get_height() for bar in of] for name, of in shown.items()} == {
        "mean": [20, 10],
        "best_of_n (last)": [60, 40],
        "best_of_n (min)": [50, 30],
    }
    assert drawn[0].axes[0].get_title().endswith("N=4")
    left = sorted(bar.get_x() for of in shown.values() for bar in of)
    assert all(later - earlier > 0.26 for earlier, later in itertools.pairwise(left))  # none over another


def test_one_aggregation_goes_without_saying(drawn: list[Any]) -> None:
    rows = [row(1, 0.3, "majority"), row(1, 0.4, "best_of_n", "min")]
    accuracy_figure(rows, Path("a.png"))
    assert [line.get_label() for line in drawn[0].axes[0].containers] == ["best_of_n", "majority"]
