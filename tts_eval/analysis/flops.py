"""FLOPs as Snell et al. 2024 count them, and the exchange of pretraining for test-time compute (section 5).

A model of N parameters costs 6 N D_pretrain FLOPs to train on D_pretrain tokens, and a N for each token that it
generates; a is 2 in the paper's first version (v1) and 4 in that of ICLR, which counts the verifier. A model M times
larger, used once a question, costs M times both. For the same FLOPs the smaller one generates K times as many tokens:

    6 N D_pretrain + K a N D_inference = M (6 N D_pretrain + a N D_inference)
    K = M + c (M - 1) / R,    R = D_inference / D_pretrain,    c = 6 / a
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tts_eval.types import TtsEvalError


PRETRAINING = 6.0
"""FLOPs of pretraining a parameter and token."""


@dataclass(frozen=True)
class Accounting:
    """A published way to count the FLOPs of inference.

    Attributes:
        name: `v1` (arXiv, August 2024) or `iclr` (camera-ready).
        inference: FLOPs a parameter and generated token.
    """

    name: str
    inference: float

    @property
    def constant(self) -> float:
        """The c of K = M + c (M - 1) / R: what a token costs in pretraining over what it costs in inference."""
        return PRETRAINING / self.inference


ACCOUNTINGS = {accounting.name: accounting for accounting in (Accounting("v1", 2.0), Accounting("iclr", 4.0))}

RATIOS = {"v1": (0.16, 0.79, 22.0), "iclr": (0.08, 0.40, 11.0)}
"""Accounting -> the R's of the paper: a model that is asked little, one between, one in heavy production."""


def inference_flops(parameters: float, tokens: float, accounting: Accounting) -> float:
    """FLOPs of generating `tokens` tokens; prompts cost nothing here (see `tts_eval.analysis.ledger_flops`)."""
    return accounting.inference * parameters * tokens


def pretraining_flops(parameters: float, tokens: float) -> float:
    """FLOPs of training on `tokens` tokens: 6 N D."""
    return PRETRAINING * parameters * tokens


def matching_budget(times: float, ratio: float, accounting: Accounting) -> float:
    """The budget K at which the smaller model costs what the larger one costs that answers once.

    Args:
        times: M, the larger model's parameters over the smaller one's; above 1.
        ratio: R, tokens of inference over tokens of pretraining; above 0.
        accounting: One of `ACCOUNTINGS`.

    Returns:
        Generations a question, above M; rarely a whole number.

    Raises:
        TtsEvalError: If an argument is out of range.
    """
    _check_times(times)
    if not 0 < ratio < math.inf:
        raise TtsEvalError(f"R={ratio:g} is no ratio of inference to pretraining tokens: give a number above 0")
    return times + accounting.constant * (times - 1) / ratio


def matching_ratio(times: float, budget: float, accounting: Accounting) -> float | None:
    """The inverse: the R at which K generations of the smaller model cost what the larger one costs.

    At a smaller R (less is asked of the models) the K generations are cheaper, at a larger one the larger model is.

    Args:
        times: M, see `matching_budget`.
        budget: K, generations a question; above 0.
        accounting: One of `ACCOUNTINGS`.

    Returns:
        R; None if K <= M, since the smaller model is cheaper then at any R.

    Raises:
        TtsEvalError: If an argument is out of range.
    """
    _check_times(times)
    if not 0 < budget < math.inf:
        raise TtsEvalError(f"budget={budget:g} is no number of generations: give a number above 0")
    return None if budget <= times else accounting.constant * (times - 1) / (budget - times)


def _check_times(times: float) -> None:
    if not 1 < times < math.inf:
        raise TtsEvalError(
            f"times={times:g} is not how many times larger a larger model is: divide its parameters by the smaller "
            "model's and give that, a number above 1"
        )
