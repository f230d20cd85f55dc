"""`tts-best-of-n`: N independent samples a problem (Snell et al. 2024, section 3)."""

from __future__ import annotations

from tts_eval.model_adapters.base import SearchLM
from tts_eval.search import best_of_n
from tts_eval.types import Problem, Search


class BestOfN(SearchLM):
    """Best-of-N over any lm-eval model."""

    NAME = "best-of-n"

    def search(self, problem: Problem) -> Search:
        """Samples `budget` solutions, scored where there is a verifier."""
        return best_of_n(self.arguments["budget"], scored=self._verifier is not None)
