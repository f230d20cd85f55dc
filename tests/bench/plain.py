"""The two models as a library without a cache uses them: texts in, texts and scores out, everything read anew."""

from __future__ import annotations

import torch
from job import TEMPERATURE, Cost, Job
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer


class Plain:
    """Policy and process verifier.

    Args:
        job: Says which models.

    Attributes:
        cost: The tokens so far.
    """

    def __init__(self, job: Job):
        self._tokenizer = AutoTokenizer.from_pretrained(job.policy)  # the verifier's is the same
        self._tokenizer.pad_token = self._tokenizer.pad_token or self._tokenizer.eos_token
        self._policy = AutoModelForCausalLM.from_pretrained(job.policy, dtype=torch.float32).eval()
        self._prm = AutoModelForTokenClassification.from_pretrained(job.prm, dtype=torch.float32).eval()
        self._likelihood: float | None = self._prm.config.tts_eval.get("likelihood")
        self.cost = Cost()

    @torch.inference_mode()
    def extend(self, texts: list[str], tokens: int) -> list[str]:
        """Writes exactly so many tokens after each text, all in one batch, with transformers' `generate`."""
        inputs = self._tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
        ids, mask = inputs["input_ids"], inputs["attention_mask"]  # [texts, longest]
        written = self._policy.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            pad_token_id=self._tokenizer.pad_token_id,
        )[:, ids.shape[1] :]
        self.cost.prefill += int(mask.sum())
        self.cost.decode += written.numel()
        return list(self._tokenizer.batch_decode(written, skip_special_tokens=True))

    @torch.inference_mode()
    def score(self, texts: list[str]) -> list[float]:
        """The value of each text, prompt included, at its end, all in one batch."""
        inputs = self._tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        ids, mask = inputs["input_ids"], inputs["attention_mask"]  # [texts, longest]
        self.cost.verifier += int(mask.sum())
        output = self._prm(input_ids=ids, attention_mask=mask, output_hidden_states=self._likelihood is not None)
        values = output.logits[range(len(texts)), mask.sum(1) - 1, 0]
        if self._likelihood is not None:
            # The prompt's part is the same for all solutions of a problem, so it doesn't matter to their order.
            logits = output.hidden_states[-1][:, :-1] @ self._prm.get_input_embeddings().weight.T
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
            values = values - self._likelihood * (losses * mask[:, 1:]).sum(1)
        return list(values.sigmoid().tolist())
