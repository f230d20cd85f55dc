"""The search tree of one problem, from a journal's record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tts_eval.journal import PROMPT, Node, Record
from tts_eval.types import Candidate, Finish


@dataclass(slots=True, eq=False)
class Branch:
    """Steps that follow each other without a fork.

    Attributes:
        steps: Their texts; none at the root.
        scores: The verifier's scores of the last of these steps: of all, of the last one alone from an outcome
            verifier, of none where it wasn't asked.
        rollout: Whether this is part of a lookahead rollout.
        finish: Why the solution ended here; None where it could go on.
        candidates: Indices of the candidates that end here.
        children: What was sampled from here, rollouts included.
        times: How many equal samples this stands for; only dropped ones are put together.
    """

    steps: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    rollout: bool = False
    finish: Finish | None = None
    candidates: list[int] = field(default_factory=list)
    children: list[Branch] = field(default_factory=list)
    times: int = 1

    @property
    def samples(self) -> int:
        """How many were sampled from here, without rollouts."""
        return sum(child.times for child in self.children if not child.rollout)

    @property
    def dropped(self) -> bool:
        """Whether the search threw it away: it is no rollout, no solution, and was not extended."""
        return not (self.rollout or self.candidates or self.samples)

    @property
    def scored_steps(self) -> list[tuple[str, float | None]]:
        """Each step with its score."""
        unscored = [None] * (len(self.steps) - len(self.scores))
        return list(zip(self.steps, [*unscored, *self.scores], strict=True))


def tree_of(record: Record) -> Branch:
    """Builds the tree: of all nodes from a transcript, else of what the candidates have in common.

    Returns:
        The root, which is the prompt.
    """
    return _from_candidates(record.candidates) if record.nodes is None else _from_nodes(record.nodes)


def walk(root: Branch) -> Iterator[tuple[Branch, tuple[bool, ...]]]:
    """Goes through a tree, each branch before its children.

    Yields:
        A branch; and for it and every branch above it but the root whether it is the last child, outermost first.
    """
    waiting: list[tuple[Branch, tuple[bool, ...]]] = [(root, ())]
    while waiting:
        branch, lasts = waiting.pop()
        yield branch, lasts
        children = branch.children
        waiting += [(child, (*lasts, child is children[-1])) for child in reversed(children)]


def _from_nodes(nodes: Sequence[Node]) -> Branch:
    root = Branch()
    branches = {PROMPT: root}
    for node in nodes:
        ended = [] if node.candidate is None else [node.candidate]
        branch = Branch(node.steps, node.scores or (), node.lookahead > 0, node.finish, ended)
        branches[node.parent].children.append(branch)
        branches[node.key] = branch
    for branch, _ in walk(root):
        branch.children = _dropped_once(branch.children)
    return root


def _dropped_once(children: Sequence[Branch]) -> list[Branch]:
    different: list[Branch] = []
    dropped: dict[tuple[str, ...], Branch] = {}
    for child in children:
        if child.dropped and not child.children:
            first = dropped.setdefault(child.steps, child)
            if first is not child:
                first.times += 1
                continue
        different.append(child)
    return different


def _from_candidates(candidates: Sequence[Candidate]) -> Branch:
    root = Branch()
    for index, candidate in enumerate(candidates):
        branch = root
        for depth, step in enumerate(candidate.steps):
            same = [child for child in branch.children if child.steps == (step,)]
            if not same:
                same = [Branch((step,), (candidate.step_scores or ())[depth : depth + 1])]
                branch.children += same
            branch = same[0]
        branch.finish = candidate.finish
        branch.candidates.append(index)
        if candidate.outcome_score is not None:
            branch.scores = (candidate.outcome_score,)
    for child in root.children:
        _join_only_children(child)
    return root


def _join_only_children(branch: Branch) -> None:
    for part, _ in walk(branch):
        while len(part.children) == 1 and not part.candidates:
            (only,) = part.children
            part.steps += only.steps
            part.scores += only.scores
            part.finish, part.candidates, part.children = only.finish, only.candidates, only.children
