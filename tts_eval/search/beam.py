"""Beam search against a verifier (Snell et al. 2024, section 3)."""

from __future__ import annotations

from tts_eval.search.lookahead import look_ahead
from tts_eval.search.places import Value, best_first, last_score, split_finished
from tts_eval.types import Outcome, Prefix, Sample, Score, Search


ROUNDS = 40
"""The paper's limit; what is unfinished then is final as it is."""


def beam(budget: int, width: int, *, lookahead: int = 0, value: Value = last_score, rounds: int = ROUNDS) -> Search:
    """Keeps the N/M best of N partial solutions and samples M next steps from each, until all N are final.

    Unstated in the paper, so ours: a finished solution is final. It keeps its place among the N, is never cloned and
    never dropped; the places that are still open go to the unfinished, M to each, best first. Where M doesn't divide
    them the last gets what is left.

    Args:
        budget: N, the number of solutions.
        width: M, the number of samples from each kept prefix.
        lookahead: k > 0 judges a step by the verifier's score at the end of a rollout of up to k more steps.
        value: From a solution's step scores to the number that ranks it.
        rounds: Most steps of a solution.

    Returns:
        A search whose outcome holds N solutions, in the order in which they ended.
    """
    beams = yield Sample((Prefix(),), budget, "step")
    finals, beams = split_finished(beams)
    for _ in range(rounds - 1):
        if not beams:
            break
        seen = yield from look_ahead(beams, lookahead)
        scores = yield Score(seen)
        ranked = best_first(beams, [value(of_one) for of_one in scores])
        places = budget - len(finals)
        kept = ranked[: -(-places // width)]
        counts = tuple(min(width, places - width * rank) for rank in range(len(kept)))
        ended, beams = split_finished((yield Sample(kept, counts, "step")))
        finals += ended
    finals += beams
    return Outcome(finals, (yield Score(finals)), generations=budget * (lookahead + 1))
