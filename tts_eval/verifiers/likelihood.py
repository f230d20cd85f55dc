"""How likely a model finds what it reads: a feature of verifiers that are trained with `--likelihood`."""

from __future__ import annotations

from typing import Any

import torch

from tts_eval.verifiers.reading import TokenReader


def token_logprobs(hidden: torch.Tensor, ids: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Log-probability of each token given those before it in its row.

    Args:
        hidden: Last hidden states, [rows, tokens, dim].
        ids: [rows, tokens].
        embeddings: The output layer, [vocabulary, dim].

    Returns:
        [rows, tokens] float32; 0 for the first token of a row.
    """
    logits = (hidden[:, :-1] @ embeddings.T).float()  # [rows, tokens - 1, vocabulary]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return torch.nn.functional.pad(-losses, (1, 0))


class LikelihoodReader(TokenReader):
    """Reads a token classifier; a token's outputs are its logit and its log-probability given those before.

    Args:
        model: The classifier; the language model is its trunk with the input embeddings as output layer.
    """

    lookback = 1  # a token's probability is read off the hidden state of the token before

    def _outputs(self, **inputs: Any) -> torch.Tensor:
        output = self._model(**inputs, output_hidden_states=True)
        embeddings = self._model.get_input_embeddings().weight
        logprobs = token_logprobs(output.hidden_states[-1], inputs["input_ids"], embeddings)
        return torch.cat([output.logits.float(), logprobs[..., None]], dim=-1)
