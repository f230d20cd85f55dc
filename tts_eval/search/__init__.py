"""Search strategies against a verifier, each a generator that reads like the paper's pseudo-code (section 3)."""

from tts_eval.search.best_of_n import best_of_n
from tts_eval.search.monte_carlo import Rollouts, monte_carlo, step_prefixes


__all__ = ["Rollouts", "best_of_n", "monte_carlo", "step_prefixes"]
