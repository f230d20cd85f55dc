"""From an lm-eval model of an OpenAI-compatible server to our engine for it (docs/servers.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from lm_eval.models.api_models import JsonChatStr

from tts_eval.types import Decoding, Engine, TtsEvalError


CHAT_BASES = ("local-chat-completions", "openai-chat-completions")
"""Bases that take the turns of a chat."""

SERVER_BASES = ("local-completions", "openai-completions", *CHAT_BASES)
"""Bases behind an OpenAI-compatible server."""

NOT_DECISIVE = ("base_url", "num_concurrent", "timeout", "max_retries", "verify_certificate", "ca_cert_path", "header")
"""Arguments of a base that say how its server is reached, and decide no sample: a run may go on with others."""

_AS_THE_MODEL_HAS_IT = {"top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1}
"""Nothing but the temperature changes what is drawn: else servers take the model's generation_config.json, or defaults
of their own, and samples are others than the same model's elsewhere. OpenAI's have these defaults, and know no others.
"""

_OPENAIS_MOST_STOPS = 4
_CONCURRENCY = 64
_TRIES = 15
DEADLINE = 1800.0
"""Seconds after which a request isn't tried again, unless `deadline=` says otherwise."""


def server_engine(
    name: str,
    base: Any,
    decoding: Decoding,
    counter: Callable[[Any], int] | None,
    given: Mapping[str, Any],
    ours: Mapping[str, Any],
) -> Engine:
    """Makes the engine that samples from a base's server.

    Args:
        name: The base's name.
        base: The base model: it knows the server's address, key and payload.
        decoding: How the run samples.
        counter: Counts a text's tokens, or None without a tokenizer.
        given: The base's arguments, as the user gave them: lm-eval's defaults suit one request at a time.
        ours: Our arguments; the options of a server that are absent have their defaults.

    Raises:
        TtsEvalError: If there is no address, or no key where there must be one.
    """
    from tts_eval.engines.server import ServerEngine
    from tts_eval.engines.server_replies import Served
    from tts_eval.replicas import Replicas, split_urls

    prefill = bool(ours.get("prefill", False))
    replicas = Replicas(
        split_urls(str(given.get("base_url") or base.base_url or "")),
        headers=headers_of(base),
        concurrency=max(1, int(given.get("num_concurrent", _CONCURRENCY))),
        timeout=base.timeout,
        tries=int(given.get("max_retries", _TRIES)),
        deadline=float(ours.get("deadline", DEADLINE)),
        verify=(base.ca_cert_path or True) if base.verify_certificate else False,
    )
    served = Served(
        payload=_payload(name, base, counter is not None, prefill),
        goes_on=name not in CHAT_BASES or prefill,
        turns=name in CHAT_BASES,
        count_tokens=counter,
        # Bases that send text leave it to the server to refuse a prompt.
        context=base.max_length if base.tokenized_requests else None,
        seeds=bool(ours.get("send_seed", True)),
        native_n=bool(ours.get("native_n", True)),
        end_string=base._eos_string,
        thoughts_end=base.think_end_token if name in CHAT_BASES else None,
    )
    return ServerEngine(replicas, served, decoding)


def first_url(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A server base's arguments with one URL where there may be several: lm-eval asks one server."""
    if "base_url" not in arguments:
        return dict(arguments)
    from tts_eval.replicas import split_urls

    return {**arguments, "base_url": split_urls(str(arguments["base_url"]))[0]}


def headers_of(base: Any) -> dict[str, str]:
    """What a base sends with each request, its key among it.

    Raises:
        TtsEvalError: If it needs a key and there is none.
    """
    try:
        headers = {str(name): str(value) for name, value in base.header.items()}
    except ValueError as error:
        raise TtsEvalError(
            "the server wants a key, and there is none: set the environment variable OPENAI_API_KEY"
        ) from error
    return {name: value for name, value in headers.items() if value.strip() != "Bearer"}


def _payload(name: str, base: Any, tokenized: bool, prefill: bool) -> Callable[[Any], dict[str, Any]]:
    """Makes bodies as the base makes them, with what it can't say put in."""

    def contents(ask: Any) -> Any:
        if name in CHAT_BASES:
            return _turns(ask.prompt, ask.text)
        if not isinstance(ask.prompt, str):
            raise TtsEvalError(
                "the endpoint takes text, and there is no tokenizer here to make text of a chat: add tokenizer= and "
                "tokenizer_backend=huggingface to --model_args, or use base=local-chat-completions"
            )
        text = ask.prompt + ask.text
        return base.tok_encode(text) if tokenized and base.tokenized_requests else text

    def payload(ask: Any) -> dict[str, Any]:
        stop = list(ask.stop)[: _OPENAIS_MOST_STOPS if name.startswith("openai") else None]
        asked = {"max_gen_toks": ask.most, "temperature": ask.temperature, "until": stop}
        if ask.n > 1:
            asked["n"] = ask.n
        body: dict[str, Any] = base._create_payload(
            contents(ask), generate=True, gen_kwargs=asked, seed=ask.seed, eos=base._eos_string
        )
        if not name.startswith("openai"):
            body |= _AS_THE_MODEL_HAS_IT
        if prefill and body["messages"][-1]["role"] == "assistant":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        empty = [key for key in ("stop", "seed") if not body.get(key) and body.get(key) != 0]
        return {key: value for key, value in body.items() if key not in empty}

    return payload


def _turns(prompt: Any, text: str) -> list[dict[str, Any]]:
    """The turns of a chat, a partial answer last."""
    if not isinstance(prompt, JsonChatStr):
        raise TtsEvalError("a chat endpoint takes turns, and this prompt is text: add --apply_chat_template")
    turns: list[dict[str, Any]] = json.loads(prompt.prompt)
    if not text:
        return turns
    if turns[-1]["role"] == "assistant":  # the beginning of every answer
        return [*turns[:-1], {**turns[-1], "content": turns[-1]["content"] + text}]
    return [*turns, {"role": "assistant", "content": text}]
