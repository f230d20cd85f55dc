"""Transcripts: the whole search tree of every problem, dropped nodes and rollouts included, for people to look at."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tts_eval.journal import Node
from tts_eval.types import Outcome, Prefix, Problem, Sample, Score


@dataclass(frozen=True, slots=True)
class _Sampled:
    prefix: Prefix
    start: int  # how many of its steps are those of the node above
    lookahead: int
    prompt: Any  # of its own, where a chain of revisions gave it one


@dataclass(slots=True)
class _Tree:
    # By the identity of a prefix, in the order of sampling: a rollout and a sample may be equal and yet two nodes.
    nodes: dict[int, _Sampled] = field(default_factory=dict)
    # By prompt, where the verifier reads one of its own, and the steps of a partial solution the score of the last: a
    # search has equal ones read once.
    scores: dict[tuple[Any, tuple[str, ...]], float] = field(default_factory=dict)

    def sampled(self, request: Sample, reply: tuple[Prefix, ...]) -> None:
        places = zip(request.prefixes, request.prompts or (None,) * len(request.prefixes), request.counts, strict=True)
        parents = ((prefix, prompt) for prefix, prompt, n in places for _ in range(n))
        for (parent, prompt), child in zip(parents, reply, strict=True):
            above = self.nodes.get(id(parent))
            rolled = above.lookahead if above else 0
            self.nodes[id(child)] = _Sampled(child, len(parent.steps), rolled + 1 if request.lookahead else 0, prompt)

    def scored(self, request: Score, reply: tuple[tuple[float, ...], ...]) -> None:
        prompts = request.prompts or (None,) * len(request.prefixes)
        for prefix, prompt, scores in zip(request.prefixes, prompts, reply, strict=True):
            # One score a step; or, from an outcome verifier, one for the whole. All that led to the end of a rollout is
            # read with it.
            for behind, score in enumerate(reversed(scores)):
                read = prefix.steps[: len(prefix.steps) - behind]
                if (prompt, read) in self.scores:
                    break
                self.scores[prompt, read] = score

    def scores_of(self, node: _Sampled) -> tuple[float, ...] | None:
        steps = node.prefix.steps
        known: list[float] = []
        for end in range(len(steps), node.start, -1):
            score = self.scores.get((node.prompt, steps[:end]), self.scores.get((None, steps[:end])))
            if score is None:
                break
            known.append(score)
        return tuple(reversed(known)) or None


class Transcript:
    """A `tts_eval.scheduler.Watcher` that collects the search trees of the problems in progress."""

    def __init__(self) -> None:
        self._trees: dict[int, _Tree] = defaultdict(_Tree)  # two tasks may ask the same problem

    def __call__(self, problem: Problem, request: Sample | Score, reply: Any) -> None:
        """Takes note of a reply."""
        tree = self._trees[id(problem)]
        if isinstance(request, Sample):
            tree.sampled(request, reply)
        else:
            tree.scored(request, reply)

    def take(self, problem: Problem, outcome: Outcome) -> tuple[Node, ...]:
        """Returns the tree of a problem that is done, and forgets it.

        Args:
            problem: The problem as the scheduler was given it.
            outcome: What its search returned.
        """
        candidates = {id(final): index for index, final in enumerate(outcome.finals)}
        tree = self._trees.pop(id(problem))
        return tuple(
            Node(
                path=node.prefix.path,
                lookahead=node.lookahead,
                steps=node.prefix.steps[node.start :],
                scores=tree.scores_of(node),
                finish=node.prefix.finish,
                candidate=candidates.get(key),
            )
            for key, node in tree.nodes.items()
        )
