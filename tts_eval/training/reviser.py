"""A policy while it learns to revise: from tokens to how probable it finds each (section 4)."""

from __future__ import annotations

import torch

from tts_eval.training.learner import Learner


class Reviser(Learner):
    """A causal language model; a label is the weight of a token in the loss, 1 for those of the target."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, solution: torch.Tensor) -> torch.Tensor:
        """Gives the log-probability of each token of the solutions given those before, 0 elsewhere."""
        logits = self.network(input_ids=ids, attention_mask=mask, use_cache=False).logits
        wanted = solution[:, 1:].bool()
        losses = torch.nn.functional.cross_entropy(logits[:, :-1][wanted].float(), ids[:, 1:][wanted], reduction="none")
        found = torch.zeros(ids.shape, device=ids.device)
        found[:, 1:][wanted] = -losses
        return found

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The sum of `-w log p` over tokens of weight w."""
        there = ~targets.isnan()
        return -(outputs[there] * targets[there]).sum()
