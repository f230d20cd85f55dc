"""Where a row's text ends: stop strings found as the tokens arrive, and cutting a text into steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence


Decode = Callable[[tuple[int, ...]], str]


class StopFinder:
    """Tells whether a row's text has just come to hold one of some strings, or ends for another reason.

    Most tokens can be passed over: only one whose own text holds the last character of a stop string can complete it.

    Args:
        decode: Token ids to text.
        strings: The stop strings.
        end_tokens: Tokens that end a text by themselves.

    Attributes:
        end_tokens: The same.
        harmless: Tokens that were seen and never end anything.
    """

    def __init__(self, decode: Decode, strings: Sequence[str], end_tokens: frozenset[int] = frozenset()):
        self.end_tokens = end_tokens
        self.harmless: set[int] = set()
        self._decode = decode
        self._strings = tuple(strings)
        self._last_characters = {string[-1] for string in strings} | {"\ufffd"}
        # A token adds a character at least, but for the pieces of a split character: twice the length is ample.
        self._reach = 2 * max(map(len, strings), default=0) + 4

    def found(self, tokens: tuple[int, ...]) -> bool:
        """Whether the last of `tokens` ends the text or completes a stop string."""
        token = tokens[-1]
        if token in self.end_tokens:
            return True
        if token in self.harmless or self._is_harmless(token):
            self.harmless.add(token)
            return False
        tail = self._decode(tokens[-self._reach :])
        before = len(self._decode(tokens[-self._reach : -1]).rstrip("\ufffd"))
        # An earlier one, as a delimiter at the start of a step, is none that this token completes.
        return any(tail.find(string, max(0, before + 1 - len(string))) >= 0 for string in self._strings)

    def _is_harmless(self, token: int) -> bool:
        # U+FFFD is a piece of a character, and may be one of a stop string. Twice as well, since some tokenizers leave
        # out the space at the start of a text.
        return self._last_characters.isdisjoint(self._decode((token,)) + self._decode((token, token)))


def cut_at(text: str, strings: Sequence[str]) -> str:
    """`text` up to the first of some strings in it."""
    return text[: min((at for at in map(text.find, strings) if at >= 0), default=len(text))]


def split_steps(text: str, delimiter: str) -> tuple[str, ...]:
    """Cuts a solution after every run of `delimiter`; joined, the steps are the text again.

    A step holds something besides white space: delimiters in a row, or at the start, don't make steps of their own.

    Args:
        text: A whole solution.
        delimiter: What separates steps, such as a newline (the paper's) or a blank line.
    """
    *closed, rest = text.split(delimiter)
    steps: tuple[str, ...] = ()
    for step in (*(piece + delimiter for piece in closed), rest):
        steps = add_step(steps, step)
    return steps


def add_step(steps: tuple[str, ...], step: str) -> tuple[str, ...]:
    """Appends a step; white space makes none of its own but goes to the step before it, or after it at the start."""
    if steps and not (step.strip() and steps[-1].strip()):
        return (*steps[:-1], steps[-1] + step)
    return (*steps, step) if step else ()


def whole_characters(text: str) -> str:
    """A text that any file can hold: where a server cut a character in two, halves of a pair of surrogates go."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
