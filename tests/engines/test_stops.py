"""Stop strings found token by token, and cutting text into steps."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from tts_eval.engines.stops import Decode, StopFinder, cut_at, split_steps


PIECES = ["a", "b", "\n", "\n\n", "ab", "b\n", "\nP", "ro", "b:", ":", " "]


def decode(ids: Sequence[int]) -> str:
    return "".join(PIECES[token] for token in ids)


def decode_without_first_space(ids: Sequence[int]) -> str:
    """As Llama 2's tokenizer does."""
    return decode(ids).removeprefix(" ")


@given(
    st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=30),
    st.lists(st.sampled_from(["\n\n", "ab", "\nPro", "bb:", "a b", "b "]), min_size=1, max_size=3),
    st.sampled_from([decode, decode_without_first_space]),
)
@example([PIECES.index(piece) for piece in (" ", "b", " ")], ["b "], decode_without_first_space)
def test_a_stop_string_is_found_at_the_token_that_completes_it(
    tokens: list[int], strings: list[str], decoder: Decode
) -> None:
    finder = StopFinder(decoder, strings)
    for end in range(1, len(tokens) + 1):
        before, text = decoder(tokens[: end - 1]), decoder(tokens[:end])
        ends = [at + len(string) for string in strings for at in range(len(text)) if text.startswith(string, at)]
        assert finder.found(tokens[:end]) == any(len(before) < at <= len(text) for at in ends)


def test_the_text_is_cut_before_the_first_stop_string() -> None:
    assert cut_at("a b: ab", ["b:", "ab"]) == "a "
    assert cut_at("nothing", ["b:", "ab"]) == "nothing"
    assert cut_at("all", []) == "all"


@given(st.text(alphabet="ab\n ", max_size=30), st.sampled_from(["\n", "\n\n"]))
def test_steps_joined_are_the_text_and_none_is_blank(text: str, delimiter: str) -> None:
    steps = split_steps(text, delimiter)
    assert "".join(steps) == text
    assert all(step.strip() for step in steps) or len(steps) <= 1
    assert all(delimiter in step for step in steps[:-1])


def test_steps_keep_their_delimiters() -> None:
    assert split_steps("one\n\ntwo\n\n\n\nthree", "\n\n") == ("one\n\n", "two\n\n\n\n", "three")
    assert split_steps("\n\none", "\n\n") == ("\n\none",)
    assert split_steps("", "\n\n") == ()
