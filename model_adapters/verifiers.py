"""The verifier of a run: from an adapter's arguments to the model that scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tts_eval.micro.members import resolve
from tts_eval.types import TtsEvalError, Verifier


_OPTIONS = ("verifier_format", "verifier_reference", "noise")


def build_verifier(arguments: Mapping[str, Any]) -> Verifier | None:
    """Loads the verifier that the arguments name, or None if they name none.

    Raises:
        TtsEvalError: If it can't be loaded, or options of a verifier come without one.
    """
    if arguments["verifier"] is None:
        needless = [name for name in _OPTIONS if arguments[name]]
        if needless:
            raise TtsEvalError(f"{needless[0]}= says how a verifier is used, but there is none: add verifier=")
        return None
    from tts_eval.verifiers import load_verifier

    reference = arguments["verifier_reference"]
    return load_verifier(
        resolve(arguments["verifier"]),
        arguments["verifier_format"],
        reference=None if reference is None else resolve(reference),
        noise=arguments["noise"],
        seed=arguments["seed"],
        cache_bytes=cache_bytes(arguments),
    )


def cache_bytes(arguments: Mapping[str, Any]) -> int | None:
    """What `cache_gb=` leaves the policy, and as much the verifier, to keep of prefixes between two steps."""
    gigabytes = arguments.get("cache_gb")  # a command that only verifies has no such argument
    return None if gigabytes is None else int(gigabytes * 1e9)


def verifier_identity(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """What decides the scores of a run, for its journal."""
    if arguments["verifier"] is None:
        return None
    return {"name": arguments["verifier"], **{name: arguments[name] for name in _OPTIONS if arguments[name]}}
