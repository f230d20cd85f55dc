"""Diverse verifier tree search (Beeching, Tunstall and Rush 2024): beyond the paper."""

from __future__ import annotations

from itertools import chain

from tts_eval.search.beam import ROUNDS
from tts_eval.search.places import Value, best_first, last_score, split_finished
from tts_eval.types import Outcome, Prefix, Sample, Score, Search


def dvts(budget: int, width: int, *, value: Value = last_score, rounds: int = ROUNDS) -> Search:
    """Grows N/M trees that never compete: in each the best prefix gets M next steps, greedily.

    Each tree is a beam search with N = M. The trees' randomness is their own, so those of a smaller budget are the
    first of a larger one's.

    Args:
        budget: N, the number of solutions.
        width: M, the number of candidates of each tree. Where it doesn't divide N, the last tree has what is left.
        value: From a solution's step scores to the number that ranks it.
        rounds: Most steps of a solution.

    Returns:
        A search whose outcome holds N solutions, tree by tree.
    """
    first = yield Sample((Prefix(),), budget, "step")
    trees = [split_finished(first[start : start + width]) for start in range(0, budget, width)]
    for _ in range(rounds - 1):
        beams = tuple(chain.from_iterable(beams for _, beams in trees))
        if not beams:
            break
        scores = dict(zip(beams, (yield Score(beams)), strict=True))
        growing = [index for index, (_, beams) in enumerate(trees) if beams]
        kept = tuple(best_first(trees[i][1], [value(scores[beam]) for beam in trees[i][1]])[0] for i in growing)
        counts = tuple(min(width, budget - width * i) - len(trees[i][0]) for i in growing)
        children = iter((yield Sample(kept, counts, "step")))
        for i, count in zip(growing, counts, strict=True):
            ended, beams = split_finished(tuple(next(children) for _ in range(count)))
            trees[i] = (trees[i][0] + ended, beams)
    finals = tuple(chain.from_iterable(ended + beams for ended, beams in trees))
    return Outcome(finals, (yield Score(finals)), generations=budget)
