"""Late analysis: accuracies at every budget and for every selection from stored candidates, without a model."""

from tts_eval.analysis.accuracy import (
    MEASURES,
    Difference,
    Measure,
    Row,
    accuracy_rows,
    by_level,
    differences,
    pool_budgets,
    wilson_interval,
)
from tts_eval.analysis.gold import Gold, read_samples_gold
from tts_eval.analysis.pools import Grader, Pool, PoolSet, find_journals, load_pools


__all__ = [
    "MEASURES",
    "Difference",
    "Gold",
    "Grader",
    "Measure",
    "Pool",
    "PoolSet",
    "Row",
    "accuracy_rows",
    "by_level",
    "differences",
    "find_journals",
    "load_pools",
    "pool_budgets",
    "read_samples_gold",
    "wilson_interval",
]
