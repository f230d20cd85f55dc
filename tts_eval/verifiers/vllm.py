"""Verifiers that vLLM reads in this process: token classification, step pooling, and classification of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllm import LLM, PoolingParams, TokensPrompt
from vllm.config import PoolerConfig
from vllm.v1.engine.exceptions import EngineDeadError

from tts_eval.types import TtsEvalError
from tts_eval.verifiers.formats import Format
from tts_eval.verifiers.served import Outputs, ServedVerifier, task_of


class VLLMVerifier(ServedVerifier):
    """Scores with a model that vLLM runs here.

    Args:
        name_or_path: A folder or a name on the hub.
        tokenizer: The verifier's tokenizer.
        family: The family: how to render, and how to make scores of outputs.
        options: Of vLLM's `LLM`, such as `gpu_memory_utilization`.
        safetensors: Whether weights are read from safetensors alone.

    Raises:
        TtsEvalError: If vLLM can't read the family, or can't load the model.
    """

    def __init__(
        self, name_or_path: str, tokenizer: Any, family: Format, options: Mapping[str, Any], *, safetensors: bool
    ):
        self._task = task_of(family)
        defaults: dict[str, Any] = {"runner": "pooling", "pooler_config": PoolerConfig(task=self._task)}
        if safetensors:
            defaults["load_format"] = "safetensors"
        try:
            self._model = LLM(name_or_path, **{**defaults, **options})
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise TtsEvalError(
                f"vLLM can't load the verifier {name_or_path}: {type(error).__name__}: "
                f"{' '.join(str(error).split())[:600]} (its own words are above; options of its LLM are written "
                "verifier_gpu_memory_utilization=, verifier_max_model_len= and so on; without verifier_engine=vllm "
                "transformers loads it)"
            ) from error
        super().__init__(family, tokenizer, self._model.model_config.max_model_len)

    def _outputs(self, sequences: Sequence[tuple[int, ...]]) -> list[Outputs]:
        prompts = [TokensPrompt(prompt_token_ids=list(ids)) for ids in sequences]
        try:
            found = self._model.encode(
                prompts, PoolingParams(use_activation=True), pooling_task=self._task, use_tqdm=False
            )
        except EngineDeadError as error:
            raise TtsEvalError(
                "the verifier's vLLM has died (its own words are above; out of memory is the usual reason: lower "
                "verifier_gpu_memory_utilization= or gpu_memory_utilization= in --model_args); what is done is kept, "
                "so the same command goes on"
            ) from error
        return [
            Outputs(_rows(one.outputs.data), len(one.prompt_token_ids), one.num_cached_tokens or 0) for one in found
        ]


def _rows(outputs: Any) -> tuple[tuple[float, ...], ...]:
    """A tensor of [tokens, classes], or of [classes] for the last token alone."""
    return tuple(map(tuple, outputs.reshape(-1, outputs.shape[-1]).double().tolist()))
