"""The model while it is trained: from tokens to the logit of a score at each."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from tts_eval.training.learner import Learner
from tts_eval.types import TtsEvalError
from tts_eval.verifiers.likelihood import token_logprobs


_FIRST_WEIGHT = 0.5  # of the likelihood; training finds its own


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum of `-(y log p + (1-y) log(1-p))` over labels; a label y is any number in [0, 1] (section 2).

    Args:
        logits: Of the probabilities p, [...].
        targets: Labels, of the same shape; NaN where there is none.
    """
    there = ~targets.isnan()
    return torch.nn.functional.binary_cross_entropy_with_logits(logits[there].float(), targets[there], reduction="sum")


class Scorer(Learner):
    """A token classifier with one label, and if wanted its own likelihood of the solution so far.

    With it the logit after token t is `classifier(t) + weight * sum log p(token | those before)`, the sum over the
    tokens of the solution up to t, p being the language model that the trunk is with its input embeddings as output
    layer. A wrong turn is improbable under the policy at the very token where it is taken; a trunk as deep as the
    policy's can hardly see that otherwise, since what the policy would have written is known only in its last layer.

    Args:
        classifier: The token classifier.
        likelihood: Whether the likelihood is added.

    Raises:
        TtsEvalError: If it is, but the model's output layer isn't its input embeddings.
    """

    def __init__(self, classifier: PreTrainedModel, likelihood: bool):
        super().__init__(classifier)
        self.weight = torch.nn.Parameter(torch.tensor(_FIRST_WEIGHT)) if likelihood else None
        if likelihood and not classifier.config.get_text_config().tie_word_embeddings:
            raise TtsEvalError(
                "--likelihood: the backbone's output layer isn't its input embeddings (tie_word_embeddings), and a "
                "classifier doesn't keep it: leave the option away, or take a backbone that ties them"
            )

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, solution: torch.Tensor) -> torch.Tensor:
        """Gives logits; see `Learner.forward`."""
        wanted = self.weight is not None
        output = self.network(input_ids=ids, attention_mask=mask, output_hidden_states=wanted)
        logits: torch.Tensor = output.logits[..., 0]
        if self.weight is not None:
            logprobs = token_logprobs(output.hidden_states[-1], ids, self.network.get_input_embeddings().weight)
            logits = logits + self.weight * (logprobs * solution).cumsum(-1)
        return logits

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `soft_cross_entropy`."""
        return soft_cross_entropy(outputs, targets)

    def settle(self) -> None:
        """Writes down the weight of the likelihood."""
        if self.weight is not None:
            self.network.config.tts_eval["likelihood"] = float(self.weight.detach())
