"""The optimizers that a model can be trained with."""

from __future__ import annotations

import torch

from tts_eval.training.config import BETAS, RunConfig
from tts_eval.training.learner import Learner


def optimizers_of(learner: Learner, config: RunConfig) -> list[torch.optim.Optimizer]:
    """AdamW (section 2), or Muon for the matrices of the layers and AdamW for everything else.

    Muon's steps are scaled to the size of AdamW's (`match_rms_adamw`), so both take the same learning rates.
    """
    if config.optimizer == "adamw":
        return [torch.optim.AdamW(learner.parameters(), lr=config.learning_rate, betas=BETAS)]
    # Embeddings, of tokens and in some models of positions, are matrices too, but of no layer.
    modules = [module for module in learner.network.base_model.modules() if not isinstance(module, torch.nn.Embedding)]
    matrices = [p for module in modules for p in module.parameters(recurse=False) if p.ndim == 2]
    inner = {id(p) for p in matrices}
    others = [p for p in learner.parameters() if id(p) not in inner]
    return [
        torch.optim.Muon(matrices, lr=config.learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=config.learning_rate, betas=BETAS),
    ]
