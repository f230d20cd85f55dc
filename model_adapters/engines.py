"""Builds the base model and the engine that samples from it."""

from __future__ import annotations

import difflib
import logging
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import get_model, model_registry

from tts_eval.micro.members import resolve
from tts_eval.model_adapters.arguments import parameters_of
from tts_eval.model_adapters.secrets import fill_in
from tts_eval.model_adapters.servers import SERVER_BASES, first_url, server_engine
from tts_eval.types import Decoding, Engine, TtsEvalError


HF_BASES = ("hf", "hf-auto", "huggingface")
"""Bases whose model is a transformers model in this process."""

VLLM_BASES = ("vllm", "vllm-vlm")
"""Bases whose model vLLM runs in this process."""

SEEDED_BASES = ("vllm-vlm", "litellm", "litellm-chat", "litellm-chat-completions", "azure-openai-chat-completions")
"""Bases sampled through lm-eval that take a `seed` among a request's generation arguments; without it all but the
first have one for all samples."""

CONSTANT_BASES = ("dummy",)
"""Bases that say the same to everything, by design."""

_AS_THE_MODEL_HAS_IT = {"top_k": 0, "top_p": 1.0, "min_p": None, "typical_p": 1.0, "repetition_penalty": 1.0}
"""Nothing but the temperature changes what transformers' own loop draws: else it leaves out all but the 50 likeliest
tokens, or what the model's generation_config.json recommends."""


log = logging.getLogger(__name__)


def base_class(name: str) -> type[LM]:
    """Looks up an lm-eval model.

    Raises:
        TtsEvalError: If there is none of that name.
    """
    try:
        return get_model(name)
    except (ImportError, ValueError) as error:
        if name in model_registry:
            raise TtsEvalError(
                f"base={name} can't be imported: {' '.join(str(error).split())}; install what it needs, such as "
                "'tts-eval[hf]', 'tts-eval[vllm]' or 'lm-eval[api]'"
            ) from error
        near = difflib.get_close_matches(name, model_registry.keys(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(sorted(model_registry.keys()))}"
        raise TtsEvalError(f"base={name}: lm-eval has no such model; {hint}") from error


def base_parameters(name: str) -> set[str]:
    """The names of all arguments that a base declares, but for a `seed` that nothing here would use.

    Each request to a server, and to vLLM, carries a seed of its own, made of the run's; so there `seed=` is the run's.

    Raises:
        TtsEvalError: If there is no base of that name.
    """
    seeded = name == "vllm" or name in SERVER_BASES
    return parameters_of(base_class(name)) - ({"seed"} if seeded else set())


def build_base(name: str, arguments: Mapping[str, Any], additional: Mapping[str, Any] | None) -> LM:
    """Makes the base model from its own arguments, untouched but for three conveniences.

    `pretrained=` may be a GGUF file, or name one of the models that ship with us; `base_url=` may be several.

    Args:
        name: An lm-eval model.
        arguments: Its arguments.
        additional: What lm-eval adds: batch size and device.

    Raises:
        TtsEvalError: If the model can't be made; the message holds its own words.
    """
    arguments = first_url(arguments) if name in SERVER_BASES else dict(arguments)
    if "pretrained" in arguments:
        arguments["pretrained"] = resolve(str(arguments["pretrained"]))
    path = Path(str(arguments.get("pretrained", "")))
    if name in HF_BASES and path.suffix == ".gguf" and "gguf_file" not in arguments:
        if not path.is_file():
            raise TtsEvalError(f"pretrained={path}: no such file; give the path of a GGUF file or of a model folder")
        arguments |= {"pretrained": str(path.parent), "gguf_file": path.name}
    if name in (*HF_BASES, *VLLM_BASES):
        _require_no_thoughts(name, arguments)
    if name in HF_BASES and arguments.get("mixed_precision_dtype") is not None:
        dtype = arguments["mixed_precision_dtype"]
        raise TtsEvalError(
            f"mixed_precision_dtype={dtype}: a policy computes in the type of its weights: give dtype={dtype} instead"
        )
    if name in (*HF_BASES, *VLLM_BASES) and "gguf_file" not in arguments:
        _require_safetensors(name, arguments)
    try:
        return base_class(name).create_from_arg_obj(fill_in(arguments), dict(additional or {}))
    except pickle.UnpicklingError as error:
        raise TtsEvalError(
            f"the base model {name} can't be made from {_shown(arguments)}: its pickle holds something else than "
            "tensors, which is never read: save the weights as safetensors"
        ) from error
    except (OSError, ValueError, TypeError, RuntimeError, ImportError, KeyError) as error:
        raise TtsEvalError(
            f"the base model {name} can't be made from {_shown(arguments)}: {type(error).__name__}: {str(error)[:600]} "
            "(check the path and the arguments; TTS_EVAL_TRACEBACK=1 shows where it failed)"
        ) from error


def build_engine(
    name: str,
    base: LM,
    decoding: Decoding,
    max_rows: int | None,
    kept_bytes: int | None = None,
    *,
    given: Mapping[str, Any] = MappingProxyType({}),
    ours: Mapping[str, Any] = MappingProxyType({}),
) -> Engine:
    """Makes the engine that suits a base model: token ids where its model is at hand, its server, or lm-eval's client.

    Args:
        name: The base's name.
        base: The base model.
        decoding: How the run samples.
        max_rows: Most samples in one batch; None leaves it to the engine.
        kept_bytes: Memory for prefixes that a search may go on from; None leaves it to the engine.
        given: The base's arguments as the user gave them.
        ours: Our arguments.
    """
    if name in SERVER_BASES:
        return server_engine(name, base, decoding, token_counter(base), fill_in(given), ours)
    if name == "vllm":
        return _vllm_engine(base, decoding)
    refusal = None
    if name in HF_BASES and base.backend == "causal":
        try:
            return _hf_engine(base, decoding, max_rows, kept_bytes)
        except TtsEvalError as error:
            refusal = str(error)
            log.warning("tts-eval: %s; it is sampled through lm-eval instead, with randomness that isn't keyed", error)
    _leave_as_the_model_has_it(base)
    from tts_eval.engines.text import TextEngine

    def generate(pairs: list[tuple[str, dict[str, Any]]]) -> list[str]:
        try:
            return base.generate_until([_request(*pair) for pair in pairs])
        except Exception as error:  # whatever a server or its client raises
            raise TtsEvalError(
                f"the base model {name} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]} (check "
                "base_url= and the server; what is done is kept, so the same command goes on; "
                "TTS_EVAL_TRACEBACK=1 shows where)"
            ) from error

    # Bases that send text leave it to the server to refuse a prompt; the others cut it at max_length.
    cuts = getattr(base, "tokenized_requests", True)
    counter = token_counter(base)
    return TextEngine(
        generate,
        decoding=decoding,
        count_tokens=counter,
        takes_seed=name in SEEDED_BASES,
        context=base.max_length if counter is not None and cuts else None,
        constant=name in CONSTANT_BASES,
        refusal=refusal,
        **({} if max_rows is None else {"batch": max_rows}),
    )


def _hf_engine(base: Any, decoding: Decoding, max_rows: int | None, kept_bytes: int | None) -> Engine:
    from tts_eval.engines.hf import HFEngine
    from tts_eval.engines.tokens import decoder, special_tokens

    generation = base.model.generation_config
    ends = {base.tokenizer.eos_token_id, *_as_list(generation.eos_token_id if generation else None)} - {None}
    return HFEngine(
        base.model,
        encode=base.tok_encode,
        decode=decoder(base.tokenizer),
        end_tokens=ends,
        special_tokens=special_tokens(base.tokenizer),
        context=base.max_length,
        decoding=decoding,
        max_rows=max_rows,
        kept_bytes=kept_bytes,
    )


def _leave_as_the_model_has_it(base: LM) -> None:
    """Has transformers' own loop, where a base samples by it, draw from the model's whole distribution."""
    generation = getattr(getattr(base, "model", None), "generation_config", None)
    if generation is not None:
        for name, value in _AS_THE_MODEL_HAS_IT.items():
            setattr(generation, name, value)


def _vllm_engine(base: Any, decoding: Decoding) -> Engine:
    if base.data_parallel_size > 1:
        raise TtsEvalError(
            f"data_parallel_size={base.data_parallel_size}: lm-eval would load the model anew for every batch of "
            "requests; use tensor_parallel_size= instead, or start one `vllm serve` a device and name them all in "
            "base=local-completions,base_url="
        )
    from tts_eval.engines.tokens import decoder, special_tokens
    from tts_eval.engines.vllm import VLLMEngine

    return VLLMEngine(
        base.model.llm_engine,
        encode=base.tok_encode,
        decode=decoder(base.tokenizer),
        special_tokens=special_tokens(base.tokenizer),
        context=base.max_length,
        decoding=decoding,
        lora=base.lora_request,
    )


def token_counter(base: LM) -> Callable[[Any], int] | None:
    """Counts a text's tokens as a base does; None where its tokenizer isn't at hand."""
    # A base without a tokenizer at hand has `tokenizer` None, or none at all, or one that fetches it from the hub; some
    # have tiktoken's or a server's.
    try:
        tokenizer: Any = base.tokenizer
    except (AttributeError, OSError):
        return None
    if tokenizer is None:
        return None
    from transformers import PreTrainedTokenizerBase

    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return None

    def count(text: Any) -> int:
        # Chat bases wrap a prompt in a tuple of its own, which holds it as `prompt`.
        return len(tokenizer.encode(text if isinstance(text, str) else text.prompt, add_special_tokens=False))

    return count


def _request(prompt: str, arguments: dict[str, Any]) -> Instance:
    return Instance("generate_until", {}, (prompt, arguments), 0, ("", 0, 1))


def _require_no_thoughts(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuses what has lm-eval cut thoughts off: here they would stay in the solution, and its verifier read them."""
    for argument in ("think_end_token", "enable_thinking"):
        if arguments.get(argument):
            raise TtsEvalError(
                f"{argument}={arguments[argument]}: base={name} leaves thoughts in its solutions: drop it, or serve "
                "the model and give base=local-chat-completions,think_end_token=..., which cuts them off"
            )


def _require_safetensors(name: str, arguments: dict[str, Any]) -> None:
    """Reads no pickle unless the user asks, by the base's own argument: reading one can run any code."""
    from tts_eval.verifiers.heads import only_pickled

    model = str(arguments.get("pretrained", ""))
    if name in HF_BASES:
        mend, asked = "use_safetensors=false", not arguments.setdefault("use_safetensors", True)
    else:
        mend, asked = "load_format=pt", "load_format" in arguments
        if not Path(model).exists():  # a name on the hub, of which vLLM would take a pickle where there is nothing else
            arguments.setdefault("load_format", "safetensors")
    if not asked and only_pickled(model):
        raise TtsEvalError(
            f"pretrained={model} holds its weights as a pickle, which can run any code when it is read: save them as "
            f"safetensors, or add {mend} to --model_args if you trust it"
        )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _shown(arguments: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in arguments.items()) or "no arguments"
