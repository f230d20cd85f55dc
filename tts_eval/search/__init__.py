"""Search strategies against a verifier, each a generator that reads like the paper's pseudo-code (section 3)."""

from tts_eval.search.best_of_n import best_of_n


__all__ = ["best_of_n"]
