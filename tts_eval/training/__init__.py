"""Training of process and outcome verifiers on labelled steps (Snell et al. 2024, section 2)."""

from tts_eval.training.config import TrainingConfig, TrainingResult
from tts_eval.training.data import TrainingData, TrainingExample, read_training_data
from tts_eval.training.train import train_verifier


__all__ = [
    "TrainingConfig",
    "TrainingData",
    "TrainingExample",
    "TrainingResult",
    "read_training_data",
    "train_verifier",
]
