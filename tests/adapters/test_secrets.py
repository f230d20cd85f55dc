"""Which arguments hold secrets, and what is printed of them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tts_eval.model_adapters.secrets import HideSecrets, fill_in, refuse_secrets
from tts_eval.types import TtsEvalError


def filled(arguments: Any, secret: str) -> Any:
    """The arguments with a secret in the place of every {}."""
    if isinstance(arguments, dict):
        return {name: filled(value, secret) for name, value in arguments.items()}
    return arguments.format(secret)


@pytest.mark.parametrize(
    "arguments",
    [
        {"api_key": "{}"},
        {"openai_api_key": "{}"},
        {"hf_token": "{}"},
        {"token": "{}"},
        {"header": {"Authorization": "Bearer {}"}},
        {"header": {"X-Goog-Api-Key": "{}"}},
        {"header": {"Ocp-Apim-Subscription-Key": "{}"}},
        {"header": {"CF-Access-Client-Secret": "{}"}},
        {"header": {"X-Custom": "Bearer {}"}},
        {"base_url": "https://h/v1?subscription-key={}"},
        {"base_url": "https://me:{}@h/v1"},
        {"verifier": "http://a/v1|https://{}@h/v1"},
    ],
)
def test_secrets_are_refused_unless_they_are_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(TtsEvalError, match=r"in --model_args holds a secret") as refused:
        refuse_secrets(filled(arguments, "sk-1"))
    assert "sk-1" not in str(refused.value)
    refuse_secrets(filled(arguments, "${KEY}"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"eos_token": "</s>", "think_end_token": "</think>", "pad_token": "x", "add_bos_token": True},
        {"tokenizer": "folder", "pretrained": "org/monkey", "revision": "main", "verifier_tokenizer": "x"},
        {"base_url": "http://localhost:8000/v1/completions", "header": {"X-Route": "a"}},
    ],
)
def test_what_holds_none_passes(arguments: dict[str, Any]) -> None:
    refuse_secrets(arguments)


def test_what_was_filled_in_is_starred_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KEY", "very-secret-1")
    url = fill_in("https://h/v1?key=${GATEWAY_KEY}")
    record = logging.LogRecord("lm_eval", logging.WARNING, "f.py", 1, "Passed base_url=%s", (url,), None)
    assert HideSecrets().filter(record)
    assert record.getMessage() == "Passed base_url=https://h/v1?key=***"
