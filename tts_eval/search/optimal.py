"""Compute-optimal search on predicted difficulty, paid for (Snell et al. 2024, sections 1 and 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tts_eval.search.places import Value, last_score
from tts_eval.types import Outcome, Prefix, Sample, Score, Search


Choose = Callable[[float, tuple[Prefix, ...]], Search | None]
"""From the mean score of the probes, and the probes, to a search for the rest of the budget, or None without any."""


def optimal(probes: int, choose: Choose, *, value: Value = last_score) -> Search:
    """Samples `probes` solutions, and lets their mean score choose the search that spends the rest of the budget.

    The paper doesn't charge what estimating difficulty costs. Here the probes are part of N and are candidates like any
    other; where the choice is best-of-N, they are the first of its N samples.

    Args:
        probes: k, at least 1.
        choose: The policy. Its search has no more than N - k to spend, and scores what it finds.
        value: From a solution's step scores to one number; a solution without any step counts 0.

    Returns:
        A search whose outcome holds the probes, and then what the chosen search found.
    """
    tried = yield Sample((Prefix(),), probes, "end", alive=(Prefix(),), probe=True)
    scores = yield Score(tried)
    search = choose(sum(value(of_one) if of_one else 0.0 for of_one in scores) / probes, tried)
    if search is None:
        return Outcome(tried, scores, generations=probes)
    found = yield from _after(probes, search)
    assert found.step_scores is not None
    return Outcome(tried + found.finals, scores + found.step_scores, generations=probes + found.generations)


def _after(taken: int, search: Search) -> Search:
    """The same search, where so many children of the root are there already: its own come after them."""
    reply: Any = None
    while True:
        try:
            request = search.send(reply)
        except StopIteration as done:
            outcome: Outcome = done.value
            return outcome
        if isinstance(request, Sample) and request.prefixes == (Prefix(),):
            request = replace(request, first=taken + request.first)
        reply = yield request
