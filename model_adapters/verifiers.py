"""The verifier of a run: from an adapter's arguments to the model that scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tts_eval.micro.members import resolve
from tts_eval.model_adapters.servers import DEADLINE
from tts_eval.types import TtsEvalError, Verifier


_OPTIONS = ("verifier_format", "verifier_reference", "verifier_tokenizer", "noise")
_ADDRESSES = ("http://", "https://")


def build_verifier(arguments: Mapping[str, Any]) -> Verifier | None:
    """Loads the verifier that the arguments name, or None if they name none.

    Raises:
        TtsEvalError: If it can't be loaded, or options of a verifier come without one.
    """
    options = _given(arguments)
    if arguments["verifier"] is None:
        if options:
            raise TtsEvalError(f"{next(iter(options))}= says how a verifier is used, but there is none: add verifier=")
        return None
    if str(arguments["verifier"]).startswith(_ADDRESSES):
        return _served(arguments, options)
    if "verifier_tokenizer" in options:
        raise TtsEvalError("verifier_tokenizer= is for a verifier behind a server, verifier=http://...: drop it")
    from tts_eval.verifiers import load_verifier

    reference = arguments["verifier_reference"]
    return load_verifier(
        resolve(arguments["verifier"]),
        arguments["verifier_format"],
        reference=None if reference is None else resolve(reference),
        noise=arguments["noise"],
        seed=arguments["seed"],
        cache_bytes=cache_bytes(arguments),
        safetensors=not arguments.get("verifier_pickle", False),
    )


def _served(arguments: Mapping[str, Any], options: Mapping[str, Any]) -> Verifier:
    """A verifier behind a server."""
    if "verifier_reference" in options:
        raise TtsEvalError("verifier_reference= is for a verifier that is loaded here, not behind a server: drop it")
    if "verifier_tokenizer" not in options:
        raise TtsEvalError(
            f"verifier={arguments['verifier'].partition('?')[0]} is a server: solutions are rendered here, so name the "
            "tokenizer of its model by verifier_tokenizer="
        )
    from tts_eval.verifiers.loading import connect_verifier

    return connect_verifier(
        arguments["verifier"],
        arguments["verifier_format"],
        tokenizer=resolve(options["verifier_tokenizer"]),
        noise=arguments["noise"],
        seed=arguments["seed"],
        deadline=arguments.get("deadline", DEADLINE),
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
