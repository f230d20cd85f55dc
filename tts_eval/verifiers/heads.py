"""How each family's model is loaded. Heads that its authors ship as remote code are written here instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    Qwen2Config,
    Qwen2Model,
    Qwen2PreTrainedModel,
)

from tts_eval.types import TtsEvalError
from tts_eval.verifiers.likelihood import LikelihoodReader
from tts_eval.verifiers.reading import RatioReader, TokenReader
from tts_eval.verifiers.rendering import token_id


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verifier to be loaded.

    Attributes:
        path: A folder, a name on the hub, or a GGUF file.
        tokenizer: Its tokenizer.
        reference: Folder or name of the reference model, for implicit rewards.
        device: Where it goes, as transformers' `device_map`.
        dtype: Type of its weights; `auto` takes the checkpoint's.
        safetensors: Whether weights are read from safetensors alone; a pickle can run any code when it is read.
    """

    path: str
    tokenizer: Any
    reference: str | None
    device: str
    dtype: str
    safetensors: bool = True


def source(path: str) -> dict[str, Any]:
    """Where transformers finds a model or tokenizer: a folder, a name on the hub, or a GGUF file."""
    found: dict[str, Any] = {"pretrained_model_name_or_path": path, "trust_remote_code": False}
    if path.endswith(".gguf"):
        found |= {"pretrained_model_name_or_path": str(Path(path).parent), "gguf_file": Path(path).name}
    return found


def only_pickled(path: str) -> bool:
    """Whether a folder holds weights, but none as safetensors."""
    folder = Path(path)
    return any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors"))


class Qwen2ProcessRewardModel(Qwen2PreTrainedModel):
    """The weights of Qwen2.5-Math-PRM and its descendants: a two-layer head with two labels on Qwen2."""

    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        self.model = Qwen2Model(config)
        self.score = torch.nn.Sequential(
            torch.nn.Linear(config.hidden_size, config.hidden_size),
            torch.nn.ReLU(),
            torch.nn.Linear(config.hidden_size, 2),
        )
        self.post_init()


class Qwen2ValueHeadModel(Qwen2PreTrainedModel):
    """The weights of Skywork-o1-Open-PRM: a linear head on Qwen2, as TRL names it."""

    _keys_to_ignore_on_load_unexpected = ("lm_head",)

    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        self.model = Qwen2Model(config)
        self.v_head = torch.nn.ModuleDict({"summary": torch.nn.Linear(config.hidden_size, 1)})
        self.post_init()


def qwen_prm(checkpoint: Checkpoint) -> TokenReader:
    """Two outputs a token: step wrong, step right."""
    model = _load(Qwen2ProcessRewardModel, checkpoint)
    return TokenReader(model.model, model.score)


def value_head(checkpoint: Checkpoint) -> TokenReader:
    """One output a token: the logit of the value."""
    model = _load(Qwen2ValueHeadModel, checkpoint)
    return TokenReader(model.model, model.v_head["summary"])


def plus_minus(checkpoint: Checkpoint) -> TokenReader:
    """Two outputs a token: the logits of a next token `+` and of `-`."""
    model = _load(AutoModelForCausalLM, checkpoint)
    return next_token_reader(model, [token_id(checkpoint.tokenizer, sign) for sign in "+-"])


def yes_no(checkpoint: Checkpoint) -> TokenReader:
    """As many outputs for yes as, after them, for no: the logits of a next token that either begins with.

    Raises:
        TtsEvalError: If the tokenizer begins both with the same token.
    """
    words = [(space + yes, space + no) for space in ("", " ") for yes, no in (("Yes", "No"), ("yes", "no"))]
    pairs = {tuple(checkpoint.tokenizer.encode(w, add_special_tokens=False)[0] for w in pair) for pair in words}
    yes, no = ([pair[side] for pair in sorted(pairs) if pair[0] != pair[1]] for side in (0, 1))
    if not yes:
        raise TtsEvalError("the tokenizer begins Yes and No with the same token")
    return next_token_reader(_load(AutoModelForCausalLM, checkpoint), [*yes, *no])


def next_token_reader(model: Any, tokens: Sequence[int]) -> TokenReader:
    """An output for each of some tokens: its logit as the next one; no others of the vocabulary are computed."""
    head = model.get_output_embeddings()
    chosen = torch.nn.Linear(head.in_features, len(tokens), bias=head.bias is not None, device=head.weight.device)
    chosen.weight.data = head.weight.data[tokens]
    if head.bias is not None:
        chosen.bias.data = head.bias.data[tokens]
    model.set_output_embeddings(chosen)
    return TokenReader(model)


def log_ratio(checkpoint: Checkpoint) -> RatioReader:
    """One output a token: its log-probability under the model less that under the reference."""
    assert checkpoint.reference is not None
    models = (_load(AutoModelForCausalLM, checkpoint, path) for path in (checkpoint.path, checkpoint.reference))
    policy, reference = (TokenReader(model) for model in models)
    return RatioReader(policy, reference)


def one_label(checkpoint: Checkpoint) -> TokenReader:
    """One output a token, of a token classifier with a single label."""
    return TokenReader(_token_classifier(checkpoint, 1))


def one_label_and_likelihood(checkpoint: Checkpoint) -> LikelihoodReader:
    """Two outputs a token, of a token classifier with a single label: its logit, and the token's log-probability."""
    return LikelihoodReader(_token_classifier(checkpoint, 1))


def two_labels(checkpoint: Checkpoint) -> TokenReader:
    """Two outputs a token, of a token classifier: step wrong, step right."""
    return TokenReader(_token_classifier(checkpoint, 2))


def sequence_classifier(checkpoint: Checkpoint) -> TokenReader:
    """One or two outputs a token, of a sequence classifier.

    It is read token by token: what transformers pools depends on the padding token, and that may end a text too.

    Raises:
        TtsEvalError: If it doesn't read a sequence's last token through a linear layer, or has more labels.
    """
    model = _load(AutoModelForSequenceClassification, checkpoint)
    head = dict(model.named_children()).get("score")
    if head is None or model.config.num_labels > 2:
        raise TtsEvalError(
            f"the checkpoint is a {type(model).__name__} with {model.config.num_labels} labels and no decoder whose "
            "last token is scored with one label, or with two of which the second means right"
        )
    return TokenReader(model.base_model, head)


def _token_classifier(checkpoint: Checkpoint, labels: int) -> Any:
    model = _load(AutoModelForTokenClassification, checkpoint)
    if model.config.num_labels != labels:
        raise TtsEvalError(f"the checkpoint has {model.config.num_labels} labels a token instead of {labels}")
    return model


def _load(kind: Any, checkpoint: Checkpoint, path: str | None = None) -> Any:
    """Loads a model and makes sure that the checkpoint holds all its weights.

    Transformers would draw those that are missing at random, with a warning.
    """
    place = path or checkpoint.path
    if checkpoint.safetensors and only_pickled(place):
        raise ValueError(
            "its weights are a pickle, which can run any code when it is read: save them as safetensors, or add "
            "verifier_pickle=true if you trust it"
        )
    model, report = kind.from_pretrained(
        **source(place),
        **({} if place.endswith(".gguf") else {"use_safetensors": checkpoint.safetensors}),
        dtype=checkpoint.dtype,
        device_map=checkpoint.device,
        output_loading_info=True,
    )
    missing = sorted(report["missing_keys"], key=lambda name: (name.startswith("model."), name))  # heads first
    if missing:
        others = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise TtsEvalError(f"the checkpoint has no weights named {', '.join(missing[:3])}{others}")
    return model
