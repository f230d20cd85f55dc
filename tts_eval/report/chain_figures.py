"""Chains of revisions in pictures (Snell et al. 2024, figures 6, 7 and 10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tts_eval.analysis.chain_attempts import AttemptRow
from tts_eval.analysis.chain_ratios import RATIO_MEASURES
from tts_eval.analysis.chain_shapes import ShapeRow
from tts_eval.report.canvas import Panel, Point, draw_lines


def attempts_figure(rows: Sequence[AttemptRow], path: Path) -> None:
    """Draws pass@1 over the attempt: all strategies in one panel, then a panel for the levels or bins of each.

    Args:
        rows: As `tts_eval.analysis.chain_attempts.attempt_rows` returns them.
        path: Where to write; the suffix chooses PNG, SVG or PDF.

    Raises:
        TtsEvalError: If matplotlib is missing or the file can't be written.
    """
    draw_lines(attempts_panels(rows), "attempt", "pass@1", path)


def attempts_panels(rows: Sequence[AttemptRow]) -> list[Panel]:
    """Pass@1 over the attempt: what `attempts_figure` draws."""
    known = [row for row in rows if row.measure == "accuracy" and row.attempt is not None]
    whole, parts = _whole_and_parts(known)
    panels: list[Panel] = [("all problems", _lines(whole, _family, _attempt))]
    return panels + [(title, _lines(of_family, _level, _attempt)) for title, of_family in _grouped(parts, _family)]


def ends_figure(rows: Sequence[ShapeRow], path: Path) -> None:
    """Draws one chain against as many chains of one attempt over the budget, a panel a strategy.

    Args:
        rows: As `tts_eval.analysis.chain_shapes.shape_rows` returns them.
        path: Where to write; the suffix chooses PNG, SVG or PDF.

    Raises:
        TtsEvalError: If matplotlib is missing or the file can't be written.
    """
    draw_lines(ends_panels(rows), "generations a problem (N)", "accuracy", path)


def ends_panels(rows: Sequence[ShapeRow]) -> list[Panel]:
    """One chain against as many chains of one attempt: what `ends_figure` draws."""
    whole, _ = _whole_and_parts(rows)
    ends = [row for row in whole if row.selection in RATIO_MEASURES and 1 in (row.length, row.chains)]
    both = [(row, end) for end in ("sequential", "parallel") for row in ends if _is(row, end)]
    return [
        (title, _lines(of_family, lambda pair: f"{pair[1]}, {pair[0].selection}", lambda pair: _at_budget(pair[0])))
        for title, of_family in _grouped(both, lambda pair: _family(pair[0]))
    ]


def ratios_figure(rows: Sequence[ShapeRow], path: Path) -> None:
    """Draws accuracy over the ratio of sequential to parallel, a panel a strategy and selection.

    Each budget with more than its two pure shapes is a line. Where problems were parted, a second panel has the levels
    or bins at the largest budget.

    Args:
        rows: As `tts_eval.analysis.chain_shapes.shape_rows` returns them.
        path: Where to write; the suffix chooses PNG, SVG or PDF.

    Raises:
        TtsEvalError: If matplotlib is missing or the file can't be written.
    """
    draw_lines(ratios_panels(rows), "attempts in a chain / chains", "accuracy", path)


def ratios_panels(rows: Sequence[ShapeRow]) -> list[Panel]:
    """Accuracy over the ratio of sequential to parallel: what `ratios_figure` draws."""
    known = [row for row in rows if row.selection in RATIO_MEASURES and row.budget > 2]
    whole, parts = _whole_and_parts(known)
    most = max((row.budget for row in known), default=0)
    panels: list[Panel] = [
        (f"{title}, all problems", _lines(of_panel, lambda row: f"N = {row.budget}", _at_ratio))
        for title, of_panel in _grouped(whole, _family_and_selection)
    ]
    return panels + [
        (f"{title}, N = {most}", _lines(of_panel, _level, _at_ratio))
        for title, of_panel in _grouped([row for row in parts if row.budget == most], _family_and_selection)
    ]


def _whole_and_parts(rows: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    return [row for row in rows if row.level is None], [row for row in rows if row.level is not None]


def _is(row: ShapeRow, end: str) -> bool:
    return (row.chains if end == "sequential" else row.length) == 1


def _family(row: AttemptRow | ShapeRow) -> str:
    return f"{row.task}, {row.strategy}"


def _family_and_selection(row: ShapeRow) -> str:
    return f"{_family(row)}, {row.selection}"


def _level(row: AttemptRow | ShapeRow) -> str:
    return str(row.level)


def _attempt(row: AttemptRow) -> Point:
    assert row.attempt is not None
    return row.attempt, row.value, row.low, row.high


def _at_budget(row: ShapeRow) -> Point:
    return row.budget, row.accuracy, row.low, row.high


def _at_ratio(row: ShapeRow) -> Point:
    return row.length / row.chains, row.accuracy, row.low, row.high


def _grouped(rows: Sequence[Any], name: Callable[[Any], str]) -> list[tuple[str, list[Any]]]:
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(name(row), []).append(row)
    return list(groups.items())


def _lines(rows: Sequence[Any], name: Callable[[Any], str], point: Callable[[Any], Point]) -> dict[str, list[Point]]:
    return {title: sorted(map(point, of_line)) for title, of_line in _grouped(rows, name)}
