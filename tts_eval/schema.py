"""Reads JSON values into dataclasses and checks every one: the annotations are the schema."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tts_eval.types import TtsEvalError


_JSON_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a finite number",
    bool: "true or false",
    tuple: "a list",
    list: "a list",
    dict: "an object",
}

_DEEPEST = 32
"""Levels of lists and objects in a value that may be anything: a strategy's parameters need three."""

_hints = functools.cache(get_type_hints)


def from_json(wanted: Any, value: Any, where: str = "") -> Any:
    """Turns a JSON value into an annotated type.

    Args:
        wanted: A dataclass, `str` (Unicode), `int`, `float` (finite), `bool`, `tuple[T, ...]`, `Mapping`, a `Literal`
            of strings, `T | None` or `Any`.
        value: What `json.loads` returned.
        where: The value's place in the line, for messages.

    Returns:
        A value of type `wanted`. Unknown keys of an object are ignored; a field that may be None may be absent.

    Raises:
        TtsEvalError: Names the place where a value is missing or wrong.
    """
    if wanted is str and type(value) is str:
        return _unicode(value, where)
    if wanted in (int, bool) and type(value) is wanted:
        return value
    if wanted is Any:
        return _any(value, where)
    if is_dataclass(wanted) and isinstance(value, dict):
        return _object(wanted, value, where)
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (UnionType, Union):  # `Literal[...] | None` is the latter
        return None if value is None else from_json(inner[0], value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(from_json(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if wanted is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:  # no NaN is
        return float(value)
    if origin is Mapping and isinstance(value, dict):
        return _any(value, where)
    if origin is Literal and value in inner:
        return value
    expected = " or ".join(inner) if origin is Literal else _JSON_NAMES.get(origin or wanted, "an object")
    raise TtsEvalError(f"{where} must be {expected}, not {_shown(value)}")


def _unicode(text: str, where: str) -> str:
    """Refuses what no file and no terminal can hold: half of a pair of surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TtsEvalError(f"{where} is no Unicode text: {error.reason}") from error
    return text


def _any(value: Any, where: str, depth: int = 0) -> Any:
    """Checks every part of a value of no declared type."""
    if depth > _DEEPEST:
        raise TtsEvalError(f"{where[:60]}... is nested too deeply")
    if isinstance(value, dict):
        for key, inner in value.items():
            _any(inner, f"{where}.{_unicode(key, where)}", depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _any(inner, f"{where}[{index}]", depth + 1)
    elif isinstance(value, (str, float)):
        from_json(type(value), value, where)
    return value


def _shown(value: Any) -> str:
    return _JSON_NAMES[type(value)] if isinstance(value, (dict, list)) else json.dumps(value)[:60]


def _object(cls: Any, row: Mapping[str, Any], where: str) -> Any:
    values = {}
    for field in fields(cls):
        key = f"{where}.{field.name}" if where else field.name
        if field.name not in row and field.default is not None:
            raise TtsEvalError(f"{key} is missing")
        values[field.name] = from_json(_hints(cls)[field.name], row.get(field.name), key)
    return cls(**values)
