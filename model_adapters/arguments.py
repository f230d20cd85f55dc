"""Our arguments among the base model's: which are whose, what they may be.

All of them come flat in `--model_args`, already cast by lm-eval (`-1` is -1.0 by then, `1e2` is 100.0), so each is cast
again here.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tts_eval.model_adapters.secrets import refuse_secrets
from tts_eval.types import TtsEvalError


@dataclass(frozen=True)
class Argument:
    """One argument of an adapter.

    Attributes:
        cast: Turns what lm-eval hands over into the value, or raises ValueError with what it should be.
        default: The value where the user gives none; `REQUIRED` if the user must.
    """

    cast: Callable[[Any], Any]
    default: Any


REQUIRED = object()

_SHAPING = ("top_p", "top_k", "min_p", "repetition_penalty")
"""What else could shape the distribution that is drawn from; here nothing but the temperature does."""


def whole(least: int) -> Callable[[Any], int]:
    """A cast to a whole number of at least `least`."""

    def cast(value: Any) -> int:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if isinstance(value, bool) or not number.is_integer() or number < least:
            raise ValueError(f"a whole number of at least {least}")
        return int(number)

    return cast


def number(least: float, most: float = math.inf) -> Callable[[Any], float]:
    """A cast to a finite number of at least `least` and at most `most`."""

    def cast(value: Any) -> float:
        try:
            result = float(value)
        except (TypeError, ValueError, OverflowError):
            result = float("nan")
        if isinstance(value, bool) or not least <= result <= most or math.isinf(result):
            raise ValueError(f"a number of at least {least:g}" + (f" and at most {most:g}" if most < math.inf else ""))
        return result

    return cast


def text(value: Any) -> str:
    r"""A cast to text in which `\n` and `\t`, as a shell hands them over, are the characters they stand for."""
    if not str(value):
        raise ValueError("a text that is not empty")
    return str(value).replace("\\n", "\n").replace("\\t", "\t")


def flag(value: Any) -> bool:
    """A cast that only takes true and false, as lm-eval reads them."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def one_of(*names: str) -> Callable[[Any], str]:
    """A cast that only takes one of `names`."""

    def cast(value: Any) -> str:
        if value not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return str(value)

    return cast


def parameters_of(base: type) -> set[str]:
    """The names of all arguments that a base model declares, in its own constructor and its parents'."""
    own = (vars(parent)["__init__"] for parent in base.__mro__[:-1] if "__init__" in vars(parent))
    declared = (inspect.signature(init).parameters for init in own)
    return {name for parameters in declared for name in parameters} - {"self", "args", "kwargs"}


def split_arguments(
    given: Mapping[str, Any], arguments: Mapping[str, Argument], base_parameters: set[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Takes our arguments out of what the user gave.

    An argument that the base model declares too is the base's; ours of that name is then written `tts_<name>`.

    Args:
        given: Everything of `--model_args`.
        arguments: Ours.
        base_parameters: What the base model declares.

    Returns:
        Our values, defaults filled in; and the rest, untouched, for the base model.

    Raises:
        TtsEvalError: If one of ours is missing, has an impossible value, or seems to be misspelt; if one would shape
            samples as nothing here does; if any holds a secret.
    """
    refuse_secrets(given)
    spelt = {f"tts_{name}" if name in base_parameters else name: name for name in arguments}
    spelt |= {f"tts_{name}": name for name in arguments}
    ours: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in given.items():
        if key in spelt:
            ours[spelt[key]] = _cast(key, value, arguments[spelt[key]])
        else:
            if key not in base_parameters:
                _refuse_unused(key, list(spelt))
            rest[key] = value
    for name, argument in arguments.items():
        if name not in ours and argument.default is REQUIRED:
            raise TtsEvalError(f"the argument {name}= is missing: add it to --model_args")
        ours.setdefault(name, argument.default)
    return ours, rest


def _cast(key: str, value: Any, argument: Argument) -> Any:
    try:
        return argument.cast(value)
    except ValueError as error:
        raise TtsEvalError(f"{key}={value} should be {error}: change it in --model_args") from error


def _refuse_unused(key: str, known: list[str]) -> None:
    """Refuses what no base would mean by a name that it doesn't declare."""
    if key in _SHAPING:
        raise TtsEvalError(
            f"{key}= can't be set, since only the temperature shapes what is drawn: drop it from --model_args"
        )
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if near:
        raise TtsEvalError(f"unknown argument {key}= in --model_args: did you mean {near[0]}=?")
