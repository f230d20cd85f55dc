"""From the name of a model and of a format to a verifier."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from transformers import AutoTokenizer, PreTrainedConfig

from tts_eval.schema import from_json
from tts_eval.types import Problem, TtsEvalError
from tts_eval.verifiers.family import LoadedVerifier
from tts_eval.verifiers.formats import FORMATS, OWN, Format, own_format
from tts_eval.verifiers.generative import VERDICT, LogitGenerativeVerifier
from tts_eval.verifiers.heads import Checkpoint, source
from tts_eval.verifiers.hf import HFVerifier
from tts_eval.verifiers.noise import NoisyVerifier
from tts_eval.verifiers.served import ServedVerifier, task_of


_PUBLIC = {**FORMATS, VERDICT.name: VERDICT}


@dataclass(frozen=True, slots=True)
class _OwnConfig:
    """What `tts-eval train` writes into config.json under `tts_eval`."""

    kind: Literal["prm", "orm"]
    step_delimiter: str
    likelihood: float | None = None
    history: bool | None = None


def load_verifier(
    name_or_path: str,
    format: str | None = None,
    *,
    reference: str | None = None,
    noise: float = 0.0,
    seed: int = 0,
    device: str | None = None,
    dtype: str = "auto",
    batch_tokens: int = 16384,
    cache_bytes: int | None = None,
    safetensors: bool = True,
) -> LoadedVerifier:
    """Loads a verifier (section 2).

    Args:
        name_or_path: A folder, a name on the hub, or a GGUF file.
        format: The family: `ours`, `generative` or a key of `FORMATS`; None where the model was trained by
            `tts-eval train`.
        reference: The model that an `implicit` one was tuned from.
        noise: Share of scores to be turned around.
        seed: The run's seed, which decides the scores that are.
        device: Where it goes, as transformers' `device_map`; None takes a GPU if there is one.
        dtype: Type of the weights; `auto` takes the checkpoint's.
        batch_tokens: Most tokens of one forward pass.
        cache_bytes: Memory for what has been read; None takes a quarter of what is free on a GPU, else 1 GiB.
        safetensors: Whether weights are read from safetensors alone; a pickle can run any code when it is read.

    Raises:
        TtsEvalError: If the format is unknown, not given where it is needed, or not that of the model; if the model
            can't be loaded.
    """
    family = _family(name_or_path, format)
    if (reference is not None) != (family.label == "log_ratio"):
        mend = "name the model that it was tuned from by" if reference is None else "nothing is compared here, drop"
        raise TtsEvalError(f"{name_or_path} in format {family.name}: {mend} verifier_reference=")
    tokenizer = _tokenizer(name_or_path)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        family.render(tokenizer, Problem("", "1 + 1", (), 1), ("2\n",))
        reader = family.load(Checkpoint(name_or_path, tokenizer, reference, device, dtype, safetensors))
    except TtsEvalError as error:
        raise TtsEvalError(
            f"{error}, so {name_or_path} is not of format {family.name}: give verifier_format=, one of {_names()}"
        ) from error
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise TtsEvalError(f"can't load {name_or_path} in format {family.name}: {_first_line(error)}") from error
    read = HFVerifier(reader, tokenizer, family, batch_tokens=batch_tokens, cache_bytes=cache_bytes)
    return _noisy(LogitGenerativeVerifier(read) if family is VERDICT else read, noise, seed)


def connect_verifier(
    url: str, format: str | None, *, tokenizer: str, noise: float = 0.0, seed: int = 0, deadline: float = 1800.0
) -> LoadedVerifier:
    """Makes a verifier whose model a server reads.

    Args:
        url: The server's root, its `/v1` or its endpoint; several replicas with `|` between them.
        format: As in `load_verifier`; None where the tokenizer's folder is that of a verifier from `tts-eval train`.
        tokenizer: A folder or a name on the hub.
        noise: Share of scores to be turned around.
        seed: The run's seed, which decides the scores that are.
        deadline: Seconds after which a request isn't tried again.

    Raises:
        TtsEvalError: If the format is unknown, or can't be read by a server; if the tokenizer can't be loaded, or
            isn't one of the format.
    """
    from tts_eval.replicas import Replicas
    from tts_eval.verifiers.http import HTTPVerifier, endpoints

    family = _family(tokenizer, format)
    urls = endpoints(url, family)
    loaded = _tokenizer_for(family, tokenizer, "verifier_tokenizer")
    mend = "put user and password into verifier=, as in http://user:${PASSWORD}@host/v1 with PASSWORD exported"
    replicas = Replicas(urls, headers={}, deadline=deadline, key_mend=mend, limits="deadline= in --model_args says")
    verifier = HTTPVerifier(replicas, loaded, family)
    return _noisy(verifier, noise, seed)


def vllm_verifier(
    name_or_path: str,
    format: str | None,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    noise: float = 0.0,
    seed: int = 0,
    safetensors: bool = True,
) -> LoadedVerifier:
    """Makes a verifier whose model vLLM reads in this process.

    Args:
        name_or_path: A folder or a name on the hub.
        format: As in `load_verifier`.
        options: Of vLLM's `LLM`.
        noise: Share of scores to be turned around.
        seed: The run's seed, which decides the scores that are.
        safetensors: Whether weights are read from safetensors alone.

    Raises:
        TtsEvalError: If there is no vLLM here; if the format is unknown, isn't the model's, or can't be read by vLLM;
            if the model can't be loaded.
    """
    try:
        from tts_eval.verifiers.vllm import VLLMVerifier
    except ImportError as error:
        raise TtsEvalError(
            f"verifier_engine=vllm: vLLM can't be imported ({error}): install 'tts-eval[vllm]', or drop the argument"
        ) from error
    family = _family(name_or_path, format)
    task_of(family)  # refuses what no tokenizer would mend
    tokenizer = _tokenizer_for(family, name_or_path, "verifier")
    return _noisy(VLLMVerifier(name_or_path, tokenizer, family, options, safetensors=safetensors), noise, seed)


def _family(path: str, format: str | None) -> Format:
    return _own(path) if format in (None, OWN) else _public(str(format))


def _tokenizer_for(family: Format, path: str, argument: str) -> Any:
    """A tokenizer, refused if a family's solutions can't be rendered with it."""
    tokenizer = _tokenizer(path)
    try:
        family.render(tokenizer, Problem("", "1 + 1", (), 1), ("2\n",))
    except TtsEvalError as error:
        raise TtsEvalError(f"{error}, so {argument}={path} is not of format {family.name}") from error
    return tokenizer


def _noisy(verifier: HFVerifier | LogitGenerativeVerifier | ServedVerifier, noise: float, seed: int) -> LoadedVerifier:
    if noise == 0:
        return verifier
    return NoisyVerifier(verifier, share=noise, seed=seed, label=verifier.label)


def _public(name: str) -> Format:
    if name not in _PUBLIC:
        raise TtsEvalError(f"unknown verifier_format={name}; choose from {_names()}")
    return _PUBLIC[name]


def _own(path: str) -> Format:
    try:
        config: dict[str, Any] = PreTrainedConfig.get_config_dict(path)[0]
    except (OSError, ValueError) as error:
        raise TtsEvalError(f"can't read the verifier {path}: {_first_line(error)}") from error
    if "tts_eval" not in config:
        raise TtsEvalError(
            f"the config.json of {path} doesn't say how it is read, as that of a verifier from tts-eval train would: "
            f"give verifier_format=, one of {_names()}"
        )
    own: _OwnConfig = from_json(_OwnConfig, config["tts_eval"], f"{path}/config.json: tts_eval")
    return own_format(own.kind, own.step_delimiter, own.likelihood, history=bool(own.history))


def _tokenizer(path: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(**source(path))
    except (OSError, ValueError) as error:
        raise TtsEvalError(f"can't load the tokenizer of the verifier {path}: {_first_line(error)}") from error


def _names() -> str:
    return ", ".join((OWN, *_PUBLIC))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
