"""A model while it is trained: what the loop needs to know of it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from transformers import PreTrainedModel


class Learner(torch.nn.Module, ABC):
    """Reads whole sequences and gives a number at each token; labels say at which ones, and what it should be.

    Args:
        network: What is saved in the end.
    """

    def __init__(self, network: PreTrainedModel):
        super().__init__()
        self.network = network

    @abstractmethod
    def forward(self, ids: torch.Tensor, mask: torch.Tensor, solution: torch.Tensor) -> torch.Tensor:
        """Reads whole sequences.

        Args:
            ids: [rows, tokens].
            mask: 1 where there is a token, [rows, tokens].
            solution: 1 where that token is the solution's, [rows, tokens].

        Returns:
            [rows, tokens].
        """

    @abstractmethod
    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The sum of the losses of all labels.

        Args:
            outputs: Those of `forward`, or a row of them.
            targets: Labels, of the same shape; NaN where there is none.
        """

    def settle(self) -> None:
        """Writes into the network's config what isn't among its weights."""
