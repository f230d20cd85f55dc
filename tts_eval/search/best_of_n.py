"""Best-of-N: N independent solutions, each scored once it is complete (Snell et al. 2024, section 3)."""

from tts_eval.types import Outcome, Prefix, Sample, Score, Search


def best_of_n(budget: int, *, scored: bool) -> Search:
    """Samples `budget` full solutions; which of them wins is decided later, by `tts_eval.selection`.

    Args:
        budget: N, the number of solutions.
        scored: Whether a verifier scores the steps of every solution.

    Returns:
        A search whose outcome holds the N solutions in the order of their sample index.
    """
    solutions = yield Sample(prefixes=(Prefix(),), n=budget, until="end")
    step_scores = (yield Score(solutions)) if scored else None
    return Outcome(solutions, step_scores, generations=budget)
