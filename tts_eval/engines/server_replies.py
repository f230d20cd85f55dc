"""What an OpenAI-compatible server is asked and answers, read with care: it may say anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tts_eval.engines.stops import whole_characters


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for one prefix.

    Attributes:
        prompt: What the policy reads, as the problem has it.
        text: The solution so far, which it goes on with.
        n: How many samples.
        most: Longest sample, in tokens.
        temperature: 0 is greedy.
        stop: Strings that end a sample, the most important first.
        seed: Of the first sample; None sends none.
    """

    prompt: Any
    text: str
    n: int
    most: int
    temperature: float
    stop: tuple[str, ...]
    seed: int | None


@dataclass(frozen=True, slots=True)
class Served:
    """What a server can do, and how it is asked.

    Attributes:
        payload: The body of a request.
        goes_on: Whether it goes on from the beginning of an answer.
        turns: Whether it takes turns of a chat and renders them itself.
        count_tokens: Tokens in a text, or None where there is no tokenizer.
        context: Most tokens, of prompt and solution together; None if unknown.
        seeds: Whether every request carries a seed.
        native_n: Whether several samples of one prefix are one request.
        end_string: A stop string that is the model's end, not the task's.
        thoughts_end: What closes thoughts that come before an answer and aren't part of it.
    """

    payload: Callable[[Ask], dict[str, Any]]
    goes_on: bool
    turns: bool = False
    count_tokens: Callable[[Any], int] | None = None
    context: int | None = None
    seeds: bool = True
    native_n: bool = True
    end_string: str | None = None
    thoughts_end: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """One sample.

    Attributes:
        text: What was written, without the string that stopped it.
        cut: Whether the token limit ended it.
        told: Whether the server says which string stopped it, if one did.
        stop: That string; None if it was the model's end token, or isn't told.
        tokens: Tokens written, or None where the server doesn't tell them sample by sample.
    """

    text: str
    cut: bool
    told: bool
    stop: str | None
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's reply.

    Attributes:
        pieces: The samples, at least one; some servers give fewer than were asked for.
        read: Tokens of the prompt, or None where the server doesn't count.
        cached: Those of them that it had read before.
        written: Tokens of all samples, or None.
    """

    pieces: tuple[Piece, ...]
    read: int | None
    cached: int
    written: int | None


_STOPPED_BY = ("stop_reason", "matched_stop")
"""Where vLLM and SGLang say what stopped a sample: a string, or null or a token id for the model's own end."""


def read_answer(reply: Any) -> Answer:
    """Reads the reply of `/completions` or `/chat/completions`.

    Raises:
        ValueError: If it is none, or says that writing failed.
    """
    usage = _get(reply, "usage", dict, {})
    written = _count(usage, "completion_tokens")
    choices = _get(reply, "choices", list, [])
    if not choices or not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("it has no choices")
    ordered = sorted(choices, key=lambda choice: _get(choice, "index", int, 0))
    pieces = tuple(_piece(choice, written if len(ordered) == 1 else None) for choice in ordered)
    details = _get(usage, "prompt_tokens_details", dict, {})
    read = _count(usage, "prompt_tokens")
    cached = _count(details, "cached_tokens") or 0
    return Answer(pieces, read, min(cached, read or 0), written)


def _piece(choice: dict[str, Any], tokens: int | None) -> Piece:
    if "message" in choice:
        message = _get(choice, "message", dict, {})
        text = _get(message, "content", str, "")  # null where nothing but thoughts was written
    elif isinstance(choice.get("text"), str):
        text = choice["text"]
    else:
        raise ValueError("a choice has neither text nor message")
    finish = _get(choice, "finish_reason", str, "stop")
    if finish in ("abort", "error"):
        raise ValueError(f"the server gave up writing: finish_reason {finish}")
    told = [choice[name] for name in _STOPPED_BY if name in choice]
    stop = told[0] if told and isinstance(told[0], str) else None
    return Piece(whole_characters(text), finish == "length", bool(told), stop, tokens)


def _get(holder: Any, name: str, kind: type, default: Any) -> Any:
    """A field of a JSON object; the default where it is absent or null."""
    if not isinstance(holder, dict):
        raise ValueError("it is no JSON object")
    value = holder.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"its {name} is no {kind.__name__}")
    return value


def _count(holder: dict[str, Any], name: str) -> int | None:
    value: int | None = _get(holder, name, int, None)
    if value is not None and not 0 <= value < 2**63:
        raise ValueError(f"its {name} is out of range")
    return value


def first_of(text: str, strings: Sequence[str]) -> str | None:
    """The string that a text begins with, if any."""
    return next((string for string in strings if text.startswith(string)), None)
