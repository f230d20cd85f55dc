"""`tts-revise`: chains of revisions over any lm-eval model (Snell et al. 2024, section 4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.api_models import JsonChatStr

from tts_eval.journal import Record
from tts_eval.micro.members import resolve
from tts_eval.model_adapters.arguments import Argument, flag, one_of, split_arguments, text, whole
from tts_eval.model_adapters.base import SearchLM
from tts_eval.model_adapters.engines import HF_BASES, base_parameters, token_counter
from tts_eval.model_adapters.files import prompting
from tts_eval.model_adapters.records import Question
from tts_eval.revision import SEPARATOR, revision_prompt
from tts_eval.schema import from_json
from tts_eval.search import WINDOW, Revision, revise
from tts_eval.selection import EVERY_SELECTION
from tts_eval.types import Problem, Search, TtsEvalError


REQUEST = "Check this solution for mistakes. Then write the whole solution again, corrected, in the form asked for."
"""What the user of a chat says to an attempt; the paper has none, since its models are trained to revise."""

_SHAPE = ("chains", "length", "ratio")

Chat = Sequence[Mapping[str, str]]
"""Messages, each with `role` and `content`."""


@dataclass(frozen=True, slots=True)
class Trained:
    """How a model of `tts-eval train revision` revises, as its config.json says under `tts_eval`.

    Attributes:
        separator: What follows an earlier attempt.
        window: Most earlier attempts that it was trained to see.
    """

    separator: str
    window: int


def _ratio(value: Any) -> Fraction:
    """A cast to a positive fraction: `0.25`, or `1/4`."""
    try:
        ratio = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        ratio = Fraction(0)
    if ratio <= 0:
        raise ValueError("a number above 0, such as 0.25 or 1/4")
    return ratio


class Revise(SearchLM):
    """Chains of attempts, each of which sees the ones before it."""

    NAME = "revise"
    ARGUMENTS: ClassVar[Mapping[str, Argument]] = {
        **SearchLM.ARGUMENTS,
        "chains": Argument(whole(1), None),
        "length": Argument(whole(1), None),
        "ratio": Argument(_ratio, None),
        "window": Argument(whole(1), None),
        "template": Argument(one_of("plain", "chat"), None),
        "separator": Argument(text, None),
        "revision_request": Argument(text, None),
        "history": Argument(flag, None),
        "selection": Argument(one_of(*EVERY_SELECTION), None),
    }
    PARAMETERS = (
        *SearchLM.PARAMETERS,
        *("chains", "length", "window", "template", "separator", "revision_request", "history"),
    )

    def __init__(
        self,
        model_args: Mapping[str, Any],
        additional: Mapping[str, Any] | None = None,
        *,
        like: SearchLM | None = None,
    ):
        """See `SearchLM`.

        Raises:
            TtsEvalError: Besides what every adapter refuses, if length x chains can't be the budget, or arguments of
                another template or of a missing verifier are given.
        """
        known = base_parameters(str(model_args.get("base", self.ARGUMENTS["base"].default)))
        asked, _ = split_arguments(model_args, self.ARGUMENTS, known)
        length, chains = shape_of(asked["budget"], {name: asked[name] for name in _SHAPE if asked[name] is not None})
        if asked["history"] and asked["verifier"] is None:
            raise TtsEvalError("history= says what a verifier sees, but there is none: add verifier=")
        super().__init__(model_args, additional, like=like)
        self._chats: dict[Any, Chat] = {}
        self._trained = trained_as(self._base_name, self._base, self._base_arguments)
        window = WINDOW if self._trained is None else self._trained.window
        seen = self._verifier is not None and self._verifier.history
        self.arguments |= {"chains": chains, "length": length}
        self._fill(window=window, history=seen)

    @property
    def side_by_side(self) -> int:
        """The chains: attempts of one chain wait for each other."""
        chains: int = self.arguments["chains"]
        return chains

    def _fill(self, **defaults: Any) -> None:
        """Sets the arguments that the user left open."""
        self.arguments |= {name: value for name, value in defaults.items() if self.arguments[name] is None}

    def _choose_selection(self) -> None:
        if self._verifier is not None:
            self._fill(selection="hierarchical")
        super()._choose_selection()

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The base model's; the chat is remembered, so that a revision can be further turns of it."""
        rendered = super().apply_chat_template(chat_history, add_generation_prompt)
        self._chats[rendered] = list(chat_history)
        return rendered

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """See `SearchLM.generate_until`; only now it is known whether prompts are chats."""
        self._choose_template()
        return super().generate_until(requests, disable_tqdm)

    def _choose_template(self) -> None:
        chatting = bool(self._chats or prompting().get("apply_chat_template"))
        self._fill(template="chat" if chatting and self._trained is None else "plain")
        template = self.arguments["template"]
        needless, other = ("separator", "plain") if template == "chat" else ("revision_request", "chat")
        if self.arguments[needless] is not None:
            raise TtsEvalError(
                f"{needless}= belongs to template={other}, but this run has {template}: drop {needless}="
            )
        if template == "chat":
            self._fill(revision_request=REQUEST)
        else:
            self._fill(separator=SEPARATOR if self._trained is None else self._trained.separator)

    def _search_all(
        self, questions: list[Question], done: int, disable_tqdm: bool
    ) -> Iterator[tuple[Question, Record]]:
        """Refuses what would not fit before anything is computed."""
        count = token_counter(self._base)
        # A base that sends text leaves it to its server to refuse a prompt.
        if count is not None and getattr(self._base, "tokenized_requests", True):
            for question in questions:
                self._require_room(question.problem, count)
        yield from super()._search_all(questions, done, disable_tqdm)

    def _require_room(self, problem: Problem, count: Callable[[Any], int]) -> None:
        """Refuses a problem whose longest revision, a full window and one attempt more, does not fit the context."""
        seen, most = min(self.arguments["window"], self.arguments["length"] - 1), problem.max_tokens
        context = self._base.max_length
        bare = count(self._revision(problem)([""] * seen))
        if bare + (seen + 1) * most > context:
            fitting = max(0, (context - bare) // most - 1)
            window = f"lower window= to {fitting} in --model_args, or " if fitting else ""
            raise TtsEvalError(
                f"problem {problem.uid}: a revision may see {seen} attempts of {most} tokens after {bare} tokens of "
                f"prompt and write {most} more, {bare + (seen + 1) * most} in all, but the context is {context}: "
                f"{window}lower max_gen_toks in --gen_kwargs to {max(1, (context - bare) // (seen + 1))}"
            )

    def _revision(self, problem: Problem) -> Revision:
        """How the attempts at a problem become the prompt of the next one."""
        separator, request = self.arguments["separator"], self.arguments["revision_request"]
        if self.arguments["template"] == "chat":
            chat = self._chat_of(problem)
            return lambda attempts: self._rendered(revised_chat(chat, attempts, request))
        if isinstance(problem.prompt, JsonChatStr):
            # What a chat endpoint takes is messages: the attempts follow the text of the last.
            *before, last = self._chat_of(problem)
            return lambda attempts: self._rendered(
                [*before, {**last, "content": revision_prompt(last["content"], attempts, separator)}]
            )
        return lambda attempts: revision_prompt(problem.prompt, attempts, separator)

    def _chat_of(self, problem: Problem) -> Chat:
        if problem.prompt not in self._chats:
            raise TtsEvalError(
                f"problem {problem.uid}: template=chat goes on with the chat that lm-eval renders, but this prompt is "
                "none of this run: add --apply_chat_template (without --cache_requests), or use template=plain"
            )
        return self._chats[problem.prompt]

    def _rendered(self, chat: Chat) -> str:
        # A last message of the assistant's is the beginning of an answer, which the model goes on with.
        goes_on = chat[-1]["role"] == "assistant"
        return super().apply_chat_template([dict(message) for message in chat], add_generation_prompt=not goes_on)

    def search(self, problem: Problem) -> Search:
        """See `tts_eval.search.revise`."""
        return revise(
            self.arguments["chains"],
            self.arguments["length"],
            self._revision(problem),
            window=self.arguments["window"],
            scored=self._verifier is not None,
            history=self.arguments["history"],
        )


def shape_of(budget: int, given: Mapping[str, Any]) -> tuple[int, int]:
    """The shape of a run: attempts in a chain, and chains; their product is the budget.

    Args:
        budget: N.
        given: What the user says of the shape: one of `chains`, `length` and `ratio` (length / chains).

    Returns:
        Length and chains.

    Raises:
        TtsEvalError: If not exactly one is given, or no shape of that budget has it.
    """
    if len(given) != 1:
        said = " and ".join(f"{name}={value}" for name, value in given.items()) or "nothing"
        raise TtsEvalError(
            f"budget={budget} is to be shared out, length x chains, and {said} is said of how: give one of chains=, "
            "length= and ratio= (length / chains)"
        )
    ((name, wanted),) = given.items()
    shapes = [(budget // chains, chains) for chains in range(budget, 0, -1) if budget % chains == 0]
    measured = {
        shape: {"chains": Fraction(shape[1]), "length": Fraction(shape[0]), "ratio": Fraction(*shape)}[name]
        for shape in shapes
    }
    for shape, value in measured.items():
        if value == wanted:
            return shape
    below = sorted((shape for shape in shapes if measured[shape] < wanted), key=measured.__getitem__)[-1:]
    above = sorted((shape for shape in shapes if measured[shape] > wanted), key=measured.__getitem__)[:1]
    near = " or ".join(f"{length}x{chains} ({name}={measured[length, chains]})" for length, chains in below + above)
    raise TtsEvalError(
        f"{name}={wanted} doesn't go with budget={budget}: length x chains must be the budget; the nearest shapes are "
        f"{near}: change it in --model_args"
    )


def trained_as(base_name: str, base: LM, arguments: Mapping[str, Any]) -> Trained | None:
    """How a base model was trained to revise; None if it wasn't by us, or only a server knows.

    Args:
        base_name: lm-eval's name of the base.
        base: The base model.
        arguments: Its arguments, of which `pretrained` may be a folder.

    Raises:
        TtsEvalError: If its config.json lacks a part.
    """
    if base_name in HF_BASES:
        config = base.config.to_dict()
    else:
        path = Path(resolve(str(arguments.get("pretrained")))) / "config.json"
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    own = config.get("tts_eval", {})
    if own.get("kind") != "revision":
        return None
    trained: Trained = from_json(Trained, own, f"config.json of {arguments['pretrained']}: tts_eval")
    return trained


def revised_chat(chat: Chat, attempts: Sequence[str], request: str) -> Chat:
    """Turns earlier attempts into turns of a chat: each is the assistant's answer, and the user asks for another.

    Args:
        chat: The problem's own; its last message may be the beginning of every answer (lm-eval's `gen_prefix`).
        attempts: Earlier attempts, the oldest first.
        request: What the user says to each.
    """
    begun = [message for message in chat[-1:] if message["role"] == "assistant"]
    beginning = "".join(message["content"] for message in begun)
    turns = list(chat[: len(chat) - len(begun)])
    for attempt in attempts:
        turns.append({"role": "assistant", "content": beginning + attempt})
        turns.append({"role": "user", "content": request})
    return [*turns, *begun]
