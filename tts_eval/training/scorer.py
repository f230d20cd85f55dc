"""The model while it is trained: from tokens to the logit of a score at each."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from tts_eval.types import TtsEvalError
from tts_eval.verifiers.likelihood import token_logprobs


_FIRST_WEIGHT = 0.5  # of the likelihood; training finds its own


class Scorer(torch.nn.Module):
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
        super().__init__()
        self.classifier = classifier
        self.weight = torch.nn.Parameter(torch.tensor(_FIRST_WEIGHT)) if likelihood else None
        if likelihood and not classifier.config.get_text_config().tie_word_embeddings:
            raise TtsEvalError(
                "--likelihood: the backbone's output layer isn't its input embeddings (tie_word_embeddings), and a "
                "classifier doesn't keep it: leave the option away, or take a backbone that ties them"
            )

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, solution: torch.Tensor) -> torch.Tensor:
        """Reads whole sequences.

        Args:
            ids: [rows, tokens].
            mask: 1 where there is a token, [rows, tokens].
            solution: 1 where that token is the solution's, [rows, tokens].

        Returns:
            Logits, [rows, tokens].
        """
        wanted = self.weight is not None
        output = self.classifier(input_ids=ids, attention_mask=mask, output_hidden_states=wanted)
        logits: torch.Tensor = output.logits[..., 0]
        if self.weight is not None:
            logprobs = token_logprobs(output.hidden_states[-1], ids, self.classifier.get_input_embeddings().weight)
            logits = logits + self.weight * (logprobs * solution).cumsum(-1)
        return logits
