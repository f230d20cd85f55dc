"""One problem's search tree, for a terminal and as a web page (the paper's transcripts with step scores)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from itertools import pairwise

from tabulate import tabulate

from tts_eval.analysis.choice import Choice
from tts_eval.analysis.tree import Branch, tree_of, walk
from tts_eval.journal import Record
from tts_eval.report.one_line import one_line
from tts_eval.types import TtsEvalError


_ANSWER = 40
"""Longest answer that is printed in a terminal, in characters."""

_STEP = 24
"""A step gets at least that many characters, however deep it is."""


def tree_text(record: Record, choice: Choice, width: int) -> str:
    """Draws the tree with a line a step: score, text, and in brackets what became of it.

    Args:
        record: A problem.
        choice: Which of its candidates wins.
        width: Of the terminal, in characters.
    """
    root = tree_of(record)
    lines = [*_head(record, choice, root), ""]
    for branch, lasts in walk(root):
        note = _note(branch, choice)
        if not lasts:
            lines.append(f"prompt{note}")
            continue
        above = "".join("   " if last else "│  " for last in lasts[:-1])
        first = ("└" if lasts[-1] else "├") + ("┄ " if branch.rollout else "─ ")
        further = "   " if lasts[-1] else "│  "
        count = len(branch.steps)
        for index, (step, score) in enumerate(branch.scored_steps):
            start = f"{above}{first if index == 0 else further}{_number(score)}  "
            end = note if index == count - 1 else ""
            lines.append(start + one_line(step, max(_STEP, width - len(start) - len(end))) + end)
    return "\n".join([*lines, "", _answers_table(choice)]) + "\n"


def tree_html(record: Record, choice: Choice) -> str:
    """Writes the tree as one web page that needs nothing else; every text is escaped.

    Args:
        record: A problem.
        choice: Which of its candidates wins.

    Raises:
        TtsEvalError: If jinja2 is missing.
    """
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise TtsEvalError("web pages need jinja2: pip install 'tts-eval[report]'") from error
    root = tree_of(record)
    found = list(walk(root))
    depths = [*(len(lasts) for _, lasts in found), 0]
    # A branch with children opens a list, which ends where the next branch is less deep.
    items = [
        {"branch": branch, "note": _note(branch, choice), "closes": max(0, here - following)}
        for (branch, _), (here, following) in zip(found, pairwise(depths), strict=True)
    ]
    source = files("tts_eval.report").joinpath("tree.html.jinja").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    return template.render(
        title=f"{record.task}, {record.uid}", head=_head(record, choice, root), items=items, choice=choice
    )


def _head(record: Record, choice: Choice, root: Branch) -> list[str]:
    parameters = [f"{name}={value!r}" for name, value in record.strategy.items() if name != "name"]
    level = record.level if choice.gold is None else choice.gold.level
    return [
        f"{record.task}, {record.uid}" + ("" if level is None else f", level {level}"),
        ", ".join([record.strategy["name"], f"budget {record.budget}", f"seed {record.seed}", *parameters]),
        _counts(record, root),
        _verdict(record, choice),
    ]


def _counts(record: Record, root: Branch) -> str:
    if record.nodes is None:
        return f"{len(record.candidates)} solutions, without what the search dropped (transcript=true keeps it)"
    branches = [branch for branch, _ in walk(root)]
    rollouts = sum(branch.rollout for branch in branches)
    sampled = sum(branch.samples for branch in branches)
    dropped = sum(branch.times for branch in branches if branch.dropped)
    counts = f"{len(record.candidates)} solutions; {sampled} extensions sampled, {dropped} dropped"
    return counts + (f"; {rollouts} steps of rollouts" if rollouts else "")


def _verdict(record: Record, choice: Choice) -> str:
    how = f"{choice.selection}, {choice.aggregation}" if choice.scores is not None else choice.selection
    if choice.selected is None:
        chosen = "no solution has an answer"
    else:
        answer = one_line(str(record.candidates[choice.selected].answer), _ANSWER)
        chosen = f"selected: {answer} of #{choice.selected} ({how}){_verdict_of(choice, choice.selected)}"
    return chosen if choice.gold is None else f"{chosen}; gold: {one_line(choice.gold.answer, _ANSWER)}"


def _verdict_of(choice: Choice, candidate: int) -> str:
    return "" if choice.correct is None else ", right" if choice.correct[candidate] else ", wrong"


def _note(branch: Branch, choice: Choice) -> str:
    """What became of a branch, in brackets; nothing of one that only goes on."""
    notes = [_solutions(branch.candidates, choice)] if branch.candidates else []
    if branch.finish == "length":
        notes.append("cut off")
    if branch.rollout and not branch.children:
        notes.append("end of rollout")
    if branch.dropped:
        notes.append("dropped" if branch.times == 1 else f"dropped, {branch.times} times")
    if branch.samples:
        notes.append("1 child" if branch.samples == 1 else f"{branch.samples} children")
    return f"  [{'; '.join(notes)}]" if notes else ""


def _solutions(candidates: Sequence[int], choice: Choice) -> str:
    """Which solutions end at a branch; equal ones have equal answers."""
    numbers = " ".join(f"#{index}" for index in candidates)
    answer = next(answer for answer in choice.answers if candidates[0] in answer.candidates)
    if answer.text is None:
        return f"{numbers} without an answer"
    selected = ", selected" if choice.selected in candidates else ""
    return f"{numbers} = {one_line(answer.text, _ANSWER)}{_verdict_of(choice, candidates[0])}{selected}"


def _answers_table(choice: Choice) -> str:
    rows: list[Sequence[str]] = [
        [
            "none" if answer.text is None else one_line(answer.text, _ANSWER),
            str(len(answer.candidates)),
            *([] if choice.scores is None else [_number(answer.score)]),
            *([] if answer.correct is None else ["right" if answer.correct else "wrong"]),
            "selected" if answer.selected else "",
        ]
        for answer in choice.answers
    ]
    scored, judged = choice.scores is not None, choice.correct is not None
    header = ["answer", "solutions", *(["sum of scores"] * scored), *(["verdict"] * judged), ""]
    return tabulate(rows, header, "simple", disable_numparse=True)


def _number(score: float | None) -> str:
    return "    -" if score is None else f"{score:.3f}"
