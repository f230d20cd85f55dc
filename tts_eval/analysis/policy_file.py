"""From a study to the policy file that `tts-optimal` runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from tts_eval.analysis.compute_optimal import chosen_names
from tts_eval.analysis.roles import model_name
from tts_eval.analysis.study import Study
from tts_eval.policy import Difficulty, Policy, PolicyChoice
from tts_eval.types import TtsEvalError


def chosen_policy(study: Study) -> Policy:
    """The best strategy of search in each predicted bin, at every budget, chosen on all problems.

    Raises:
        TtsEvalError: If the samples don't predict difficulty.
    """
    if "predicted" not in study.bins:
        raise TtsEvalError("a policy needs predicted difficulty: run the base model's samples with verifier=")
    approach = study.approaches[0]
    bins = np.array([study.bins["predicted"][uid] for uid in approach.uids])
    names = chosen_names(approach, bins, len(study.thresholds) + 1)
    used = {name for of_budget in names.values() for name in of_budget}
    strategies: dict[str, dict[str, Any]] = {
        curve.name: {name: value for name, value in curve.parameters.items() if value is not None}
        for curve in approach.curves
        if curve.name in used
    }
    return Policy(
        task=study.roles.task,
        difficulty=Difficulty("predicted", study.settings.aggregation, study.thresholds),
        strategies=strategies,
        choices=tuple(PolicyChoice(budget, tuple(of_budget)) for budget, of_budget in names.items()),
        made_from={
            "model": model_name(study.roles.base.model),
            "verifier": model_name(study.roles.base.verifier),
            "problems": len(approach.uids),
            "samples": study.difficulty.budget,
            "seed": study.settings.seed,
        },
    )
