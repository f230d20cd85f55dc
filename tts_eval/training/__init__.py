"""Training of verifiers on labelled steps, and of models to revise (Snell et al. 2024, sections 2 and 4).

`tts_eval.training.revision` isn't imported here: with it come the engines, which ask MKL for one order of summation.
"""

from tts_eval.training.config import RevisionConfig, RevisionResult, TrainingConfig, TrainingResult
from tts_eval.training.data import TrainingData, TrainingExample, read_training_data
from tts_eval.training.train import train_verifier


__all__ = [
    "RevisionConfig",
    "RevisionResult",
    "TrainingConfig",
    "TrainingData",
    "TrainingExample",
    "TrainingResult",
    "read_training_data",
    "train_verifier",
]
