"""Keys and passwords among the arguments: they stay in the environment, and are written nowhere.

lm-eval prints all of `--model_args` and writes them into its results. So an argument may only name the environment
variable that holds a secret, `${NAME}`, which is filled in when the base model is made.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tts_eval.types import TtsEvalError


_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SECRET = re.compile(
    r"(?:.*[_-])?(?:(?:api|access)?key|secret|password|authorization|cookie|credentials?|sig|signature)"
    r"|(?:.*[_-])?(?:api|access|auth|bearer|hf|hub|secret|session|private|security)[_-]?token|token",
    re.IGNORECASE,
)
"""Names of arguments, headers and parts of a URL whose values are secrets; `eos_token` and its like are none."""

_SCHEME = re.compile(r"(?:Bearer|Basic)\s+", re.IGNORECASE)

_STARS = "***"

_filled: set[str] = set()


def refuse_secrets(arguments: Mapping[str, Any]) -> None:
    """Refuses arguments that hold a secret instead of naming the variable that does.

    Raises:
        TtsEvalError: Names the argument.
    """
    for place, _ in _secrets(arguments):
        raise TtsEvalError(
            f"{place} in --model_args holds a secret, which lm-eval would write into its results: set the environment "
            "variable OPENAI_API_KEY, or another one and write '${NAME}' in the secret's place"
        )


def fill_in(value: Any) -> Any:
    """A value, or a whole mapping of arguments, with the environment's variables in the place of `${NAME}`.

    Raises:
        TtsEvalError: If there is no such variable.
    """
    if isinstance(value, Mapping):
        return {key: fill_in(inner) for key, inner in value.items()}
    return _VARIABLE.sub(_variable, value) if isinstance(value, str) else value


def _variable(match: re.Match[str]) -> str:
    name = match.group(1)
    if name not in os.environ:
        raise TtsEvalError(f"--model_args name ${{{name}}}, but there is no such environment variable: export it")
    _filled.add(os.environ[name])
    return os.environ[name]


def without_secrets(text: str) -> str:
    """A text for people, with what came from the environment starred out."""
    for secret in filter(None, (*_filled, os.environ.get("OPENAI_API_KEY"))):
        text = text.replace(secret, _STARS)
    return text


class HideSecrets(logging.Filter):
    """Stars out secrets in what lm-eval prints: of its arguments before they are refused, and what was filled in."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass, changed if need be."""
        given = record.args if isinstance(record.args, tuple) else (record.args,)
        secrets = [secret for one in given if isinstance(one, Mapping) for _, secret in _secrets(one)]
        plain = record.getMessage()
        text = without_secrets(plain)
        for secret in secrets:
            text = text.replace(secret, _STARS)
        if text != plain:
            record.msg, record.args = text, ()
        return True


def _secrets(arguments: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """Yields (place, secret) of what is written out."""
    for name, value in arguments.items():
        place = within or f"{name}="
        if isinstance(value, Mapping):
            yield from _secrets(value, place)
        elif isinstance(value, str):
            secret = _SECRET.fullmatch(str(name)) or _SCHEME.match(value)
            found = [value] if secret else _secrets_of_urls(value)
            bare = (_SCHEME.sub("", one) for one in found)
            yield from ((place, one) for one in bare if _VARIABLE.sub("", one))


def _secrets_of_urls(text: str) -> list[str]:
    found = []
    for url in text.split("|") if "://" in text else ():
        try:
            parts = urlsplit(url)
            found += [value for name, value in parse_qsl(parts.query) if _SECRET.fullmatch(name)]
            secret = parts.password or parts.username  # a user without a password is a token
            found += [secret] if secret else []
        except ValueError:
            continue  # no URL, and refused as such later
    return found
