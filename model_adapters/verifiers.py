"""The verifier of a run: from an adapter's arguments to the model that scores."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tts_eval.micro.members import resolve
from tts_eval.model_adapters.secrets import fill_in, refuse_secrets
from tts_eval.model_adapters.servers import DEADLINE
from tts_eval.types import TtsEvalError


if TYPE_CHECKING:
    from tts_eval.verifiers.family import LoadedVerifier


log = logging.getLogger(__name__)

DTYPES = ("auto", "float32", "bfloat16", "float16")
"""The types that a verifier's weights may be loaded in; `auto` is the checkpoint's."""

_OPTIONS = ("verifier_format", "verifier_reference", "verifier_tokenizer", "verifier_dtype", "noise")
_ADDRESSES = ("http://", "https://")
_PREFIX = "verifier_"


def vllm_options(given: Mapping[str, Any], ours: Container[str]) -> dict[str, Any]:
    """What says how vLLM runs a verifier: `verifier_max_model_len=` and the like, each named as an option of vLLM's.

    Args:
        given: Everything of `--model_args`.
        ours: The names of our own arguments.

    Raises:
        TtsEvalError: If one holds a secret.
    """
    if given.get("verifier_engine") != "vllm":
        return {}
    options = {name: value for name, value in given.items() if name.startswith(_PREFIX) and name not in ours}
    refuse_secrets(options)
    return options


def build_verifier(
    arguments: Mapping[str, Any], options_of_vllm: Mapping[str, Any] = MappingProxyType({})
) -> LoadedVerifier | None:
    """Loads the verifier that the arguments name, or None if they name none.

    Args:
        arguments: Ours.
        options_of_vllm: How vLLM runs it, if it does.

    Raises:
        TtsEvalError: If it can't be loaded, or options of a verifier come without one.
    """
    in_vllm = arguments.get("verifier_engine") == "vllm"
    options = _given(arguments)
    if arguments["verifier"] is None:
        if options or in_vllm:
            name = next(iter(options), "verifier_engine")
            raise TtsEvalError(f"{name}= says how a verifier is used, but there is none: add verifier=")
        return None
    verifier = _load(arguments, options, options_of_vllm)
    theirs, ours = verifier.step_delimiter, arguments.get("step_delimiter")  # a command that only verifies has none
    if None not in (theirs, ours) and theirs != ours:
        log.warning(
            "tts-eval: the verifier was trained on steps that end with %r, and here they end with %r: give the former "
            "as step_delimiter= in --model_args",
            theirs,
            ours,
        )
    return verifier


def _load(
    arguments: Mapping[str, Any], options: Mapping[str, Any], options_of_vllm: Mapping[str, Any]
) -> LoadedVerifier:
    """From a server, by vLLM or by transformers."""
    in_vllm = arguments.get("verifier_engine") == "vllm"
    if str(arguments["verifier"]).startswith(_ADDRESSES):
        if in_vllm:
            raise TtsEvalError("verifier_engine= is for a verifier that is loaded here, not behind a server: drop it")
        return _served(arguments, options)
    if "verifier_tokenizer" in options:
        raise TtsEvalError("verifier_tokenizer= is for a verifier behind a server, verifier=http://...: drop it")
    if in_vllm:
        return _in_vllm(arguments, options_of_vllm)
    from tts_eval.verifiers import load_verifier

    reference = arguments["verifier_reference"]
    return load_verifier(
        resolve(arguments["verifier"]),
        arguments["verifier_format"],
        reference=None if reference is None else resolve(reference),
        noise=arguments["noise"],
        seed=arguments["seed"],
        dtype=arguments["verifier_dtype"] or "auto",
        cache_bytes=cache_bytes(arguments),
        safetensors=not arguments["verifier_pickle"],
    )


def _served(arguments: Mapping[str, Any], options: Mapping[str, Any]) -> LoadedVerifier:
    """A verifier behind a server."""
    for name in ("verifier_reference", "verifier_dtype"):
        if name in options:
            raise TtsEvalError(f"{name}= is for a verifier that is loaded here, not behind a server: drop it")
    if "verifier_tokenizer" not in options:
        raise TtsEvalError(
            f"verifier={arguments['verifier'].partition('?')[0]} is a server: solutions are rendered here, so name the "
            "tokenizer of its model by verifier_tokenizer="
        )
    from tts_eval.verifiers.loading import connect_verifier

    return connect_verifier(
        fill_in(arguments["verifier"]),
        arguments["verifier_format"],
        tokenizer=resolve(options["verifier_tokenizer"]),
        noise=arguments["noise"],
        seed=arguments["seed"],
        deadline=arguments.get("deadline", DEADLINE),
    )


def _in_vllm(arguments: Mapping[str, Any], options: Mapping[str, Any]) -> LoadedVerifier:
    """A verifier that vLLM reads here."""
    if arguments["verifier_reference"] is not None:
        raise TtsEvalError("verifier_reference= is for a format that vLLM can't read: drop verifier_engine=vllm")
    from tts_eval.verifiers.loading import vllm_verifier

    return vllm_verifier(
        resolve(arguments["verifier"]),
        arguments["verifier_format"],
        options={
            "dtype": arguments["verifier_dtype"] or "auto",
            **{name.removeprefix(_PREFIX): value for name, value in options.items()},
        },
        noise=arguments["noise"],
        seed=arguments["seed"],
        safetensors=not arguments["verifier_pickle"],
    )


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a verifier that are given; a command may lack some of them."""
    return {name: arguments[name] for name in _OPTIONS if arguments.get(name)}


def cache_bytes(arguments: Mapping[str, Any]) -> int | None:
    """What `cache_gb=` leaves the policy, and as much the verifier, to keep of prefixes between two steps."""
    gigabytes = arguments.get("cache_gb")  # a command that only verifies has no such argument
    return None if gigabytes is None else int(gigabytes * 1e9)


def verifier_identity(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """What decides the scores of a run, for its journal."""
    if arguments["verifier"] is None:
        return None
    return {"name": arguments["verifier"], **_given(arguments)}
