"""From a problem and its steps to the tokens that a verifier reads, and where it is read: one function a family.

Every family has its own way of marking the end of a step (docs/verifiers.md has the table). Steps come with their
closing delimiter; a family that writes delimiters of its own takes it off first.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from tts_eval.types import Problem, TtsEvalError


_TAG = re.compile(r"(^|\s)ки$")  # many a Russian word ends so too


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a verifier reads for one solution.

    Attributes:
        ids: Token ids of prompt and steps.
        positions: Index into `ids` of the token at which each step is read; one index for an outcome verifier.
        start: Index into `ids` of the solution's first token, where the family needs it.
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    start: int = 0


def render_steps(tokenizer: Any, prompt: str, steps: Sequence[str], delimiter: str) -> Rendered:
    """Renders for the verifiers that we train; training and inference both call this, so they can't drift apart.

    Args:
        tokenizer: The verifier's tokenizer.
        prompt: What the policy read; special tokens are added to it as the tokenizer does by itself, unless it begins
            with the start token: a chat template has written them already.
        steps: The solution's steps, each tokenised by itself. One that lacks the delimiter gets it.
        delimiter: What ends a step; not empty.

    Returns:
        The tokens, for each step the index of its last one, and the first step's first.

    Raises:
        TtsEvalError: If the prompt is no text.
    """
    if not isinstance(prompt, str):
        raise TtsEvalError(
            "a verifier of ours reads the prompt as text, but this base is sent chats as messages: use a base that "
            "takes text (hf, vllm, local-completions), or a verifier that shows the bare question (verifier_format=)"
        )
    start_token = tokenizer.bos_token
    ids = list(_tokenised(tokenizer, prompt, not (start_token and prompt.startswith(start_token))))
    start = len(ids)
    positions = []
    for step in steps:
        ids += _tokenised(tokenizer, step if step.endswith(delimiter) else step + delimiter, False)
        positions.append(len(ids) - 1)
    return Rendered(tuple(ids), tuple(positions), start)


@lru_cache(maxsize=2**16)
def _tokenised(tokenizer: Any, text: str, special: bool) -> tuple[int, ...]:
    """Tokens of a text; many solutions share prompt and steps, and a search renders each of them again and again."""
    if tokenizer.is_fast:  # what is around the tokenizer proper takes twice its time
        return tuple(tokenizer.backend_tokenizer.encode(text, add_special_tokens=special).ids)
    return tuple(tokenizer.encode(text, add_special_tokens=special))


def render_lines(tokenizer: Any, problem: Problem, steps: Sequence[str]) -> Rendered:
    """Skywork: the question behind the start token, then line by line, each line closed by the newline token.

    The space with which a policy goes on from its prompt is none of the first line's.

    Raises:
        TtsEvalError: If the tokenizer has no start token, or none for a newline.
    """
    newline = token_id(tokenizer, "\n")
    if tokenizer.bos_token is None:
        raise TtsEvalError("the tokenizer has no token that starts a text")
    ids = list(tokenizer.encode(tokenizer.bos_token + question_of(problem) + "\n"))
    positions = []
    first, *others = steps
    for step in (first.lstrip(" "), *others):
        for line in step.removesuffix("\n").split("\n"):
            ids += [*(tokenizer.encode(line) if line else []), newline]
        positions.append(len(ids) - 1)
    return Rendered(tuple(ids), tuple(positions))


def render_separated(
    tokenizer: Any, problem: Problem, steps: Sequence[str], *, separator: str, start_token: bool
) -> Rendered:
    """TRL and PURE: question and steps without special tokens, each step followed by the separator's tokens.

    Args:
        tokenizer: The verifier's tokenizer.
        problem: Its question is what is rendered.
        steps: The solution's steps.
        separator: Ends a step; nothing stands between question and first step.
        start_token: Whether the tokenizer's start token, if there is one, goes first.
    """
    separating = tokenizer.encode(separator, add_special_tokens=False)
    ids = tokenizer.encode(question_of(problem), add_special_tokens=False)
    if start_token and tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id, *ids]
    positions = []
    for step in steps:
        ids = [*ids, *tokenizer.encode(bare(step), add_special_tokens=False), *separating]
        positions.append(len(ids) - 1)
    return Rendered(tuple(ids), tuple(positions))


def render_tagged(tokenizer: Any, problem: Problem, steps: Sequence[str], *, tag: str) -> Rendered:
    """Math-Shepherd: `question Step 1: ... tag`, a line a step; read at the tag's own token.

    Raises:
        TtsEvalError: If the tokenizer has no such token.
    """
    lines = [f"{numbered(index, step)} {tag}" for index, step in enumerate(steps, start=1)]
    ids = tokenizer.encode(f"{question_of(problem)} " + "\n".join(lines))
    return _read_at(ids, token_id(tokenizer, tag))


def render_marked_chat(
    tokenizer: Any, problem: Problem, steps: Sequence[str], *, mark: str, system: str | None
) -> Rendered:
    """Qwen2.5-Math-PRM: a chat whose answer has a special token after each step; read at that token.

    Raises:
        TtsEvalError: If the tokenizer has no such token, or no chat template.
    """
    marking = token_id(tokenizer, mark)
    chat = [] if system is None else [_turn("system", system)]
    chat += [_turn("user", question_of(problem)), _turn("assistant", "".join(bare(step) + mark for step in steps))]
    ids = tokenizer.encode(_chat_text(tokenizer, chat), add_special_tokens=False)
    return _read_at(ids, marking)


def render_turns(tokenizer: Any, problem: Problem, steps: Sequence[str]) -> Rendered:
    """RLHFlow: each step a turn of the user's, answered by `+`; read at the token before the `+`.

    Raises:
        TtsEvalError: If the tokenizer has no chat template, or one that doesn't put turn behind turn.
    """
    chat: list[dict[str, str]] = []
    asked = []
    for step in steps:
        text = bare(step) if chat else f"{question_of(problem)} {bare(step)}"
        chat.append(_turn("user", text))
        asked.append(_chat_text(tokenizer, chat, add_generation_prompt=True))
        chat.append(_turn("assistant", "+"))
    text = _chat_text(tokenizer, chat)
    ids, starts = _with_starts(tokenizer, text)
    if not all(text.startswith(f"{part}+") and len(part) in starts for part in asked):
        raise TtsEvalError("the tokenizer's chat template leaves no token of its own to the answer '+' of a turn")
    return Rendered(ids, tuple(starts.index(len(part)) - 1 for part in asked))


def render_numbered_chat(tokenizer: Any, problem: Problem, steps: Sequence[str]) -> Rendered:
    """Implicit rewards: a chat whose answer is `Step 1: ...` and so on, a blank line apart; read at each step's end.

    Raises:
        TtsEvalError: If the tokenizer has no chat template, or one that changes the answer.
    """
    parts = [numbered(index, step) for index, step in enumerate(steps, start=1)]
    answer = "\n\n".join(parts)
    text = _chat_text(tokenizer, [_turn("user", question_of(problem)), _turn("assistant", answer)])
    first = text.rfind(answer)
    if first < 0:
        raise TtsEvalError("the tokenizer's chat template changes the answer, so its steps can't be found")
    ids, starts = _with_starts(tokenizer, text)
    ends = [first + len("\n\n".join(parts[: count + 1])) for count in range(len(parts))]
    return Rendered(ids, tuple(bisect_left(starts, end) - 1 for end in ends), bisect_left(starts, first))


def render_answer(tokenizer: Any, problem: Problem, steps: Sequence[str]) -> Rendered:
    """Sequence classifiers: question and whole answer as a chat, read at its last token.

    Published steps come without delimiters; a blank line takes their place.

    Raises:
        TtsEvalError: If the tokenizer has no chat template.
    """
    answer = "".join(step if step[-1:].isspace() else f"{step}\n\n" for step in steps).strip()
    chat = [_turn("user", question_of(problem)), _turn("assistant", answer)]
    ids = tokenizer.encode(_chat_text(tokenizer, chat), add_special_tokens=False)
    return Rendered(tuple(ids), (len(ids) - 1,))


def question_of(problem: Problem) -> str:
    """The bare question, or what the policy read where the task has none apart: of a chat the user's last message.

    Raises:
        TtsEvalError: If that is no text.
    """
    if problem.question is not None:
        return problem.question
    prompt: Any = problem.prompt
    if isinstance(prompt, str):
        return prompt
    try:
        turns = json.loads(*prompt)  # lm-eval's tuple of a chat's JSON
        question = [turn["content"] for turn in turns if turn["role"] == "user"][-1]
    except (TypeError, ValueError, LookupError):
        question = None
    if not isinstance(question, str):
        raise TtsEvalError(
            f"problem {problem.uid}: the verifier reads the question as text, but this base is sent chats as messages, "
            "and there is none of a user's that is text: use a base that takes text (hf, vllm, local-completions)"
        )
    return question


def bare(step: str) -> str:
    """A step without its delimiter, be it white space or Math-Shepherd's tag, with which some policies close steps."""
    return _TAG.sub("", step.strip()).strip()


def numbered(number: int, step: str) -> str:
    """A bare step that begins with `Step <number>:`."""
    text = bare(step)
    return text if text.startswith(f"Step {number}:") else f"Step {number}: {text}".rstrip()


def token_id(tokenizer: Any, text: str) -> int:
    """The one token that stands for a text.

    Raises:
        TtsEvalError: If the tokenizer has none.
    """
    token = tokenizer.encode(text, add_special_tokens=False)[-1]
    if tokenizer.decode([token]).strip() != text.strip():
        raise TtsEvalError(f"the tokenizer has no token {text!r}")
    return int(token)


def _read_at(ids: Sequence[int], token: int) -> Rendered:
    return Rendered(tuple(ids), tuple(index for index, other in enumerate(ids) if other == token))


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _chat_text(tokenizer: Any, chat: list[dict[str, str]], **options: bool) -> str:
    if tokenizer.chat_template is None:
        raise TtsEvalError("the tokenizer has no chat template")
    try:
        return str(tokenizer.apply_chat_template(chat, tokenize=False, **options))
    except TemplateError as error:  # a template may refuse a system message, or turns in another order
        raise TtsEvalError(f"the tokenizer's chat template refuses the format's chat ({error})") from error


def _with_starts(tokenizer: Any, text: str) -> tuple[tuple[int, ...], list[int]]:
    """Token ids, and the character at which each token starts."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return tuple(encoded["input_ids"]), [start for start, _ in encoded["offset_mapping"]]
