"""Search strategies against a verifier, each a generator that reads like the paper's pseudo-code (section 3)."""

from tts_eval.search.adaptive import adaptive
from tts_eval.search.beam import ROUNDS, beam
from tts_eval.search.best_of_n import best_of_n
from tts_eval.search.dvts import dvts
from tts_eval.search.monte_carlo import Rollouts, monte_carlo, step_prefixes
from tts_eval.search.optimal import optimal
from tts_eval.search.rebase import rebase
from tts_eval.search.revise import WINDOW, Revision, revise


__all__ = [
    "ROUNDS",
    "WINDOW",
    "Revision",
    "Rollouts",
    "adaptive",
    "beam",
    "best_of_n",
    "dvts",
    "monte_carlo",
    "optimal",
    "rebase",
    "revise",
    "step_prefixes",
]
