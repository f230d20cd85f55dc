"""Where steps end in tokens, and which tokenizer it was."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import ALPHABET, END, decode, run, tiny_engine, tiny_model
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from tts_eval.engines.stops import split_steps
from tts_eval.engines.tokens import encode, special_tokens, step_ends, vocabulary_hash
from tts_eval.types import Decoding, Prefix, Problem, Sample


def bytes_decode(ids: Sequence[int]) -> str:
    """A byte a token, as byte-level tokenizers write rare characters."""
    return bytes(ids).decode("utf-8", "replace")


@given(st.text(alphabet="ab\n€😀\ufffd", max_size=30))
def test_every_end_is_the_smallest_that_holds_its_steps(text: str) -> None:
    tokens = text.encode()
    steps = split_steps(text, "\n")
    ends = step_ends(bytes_decode, tokens, steps)
    assert len(ends) == len(steps)
    for index, end in enumerate(ends):
        assert end == len("".join(steps[: index + 1]).encode())


def test_a_token_that_reaches_into_the_next_step_belongs_to_the_first() -> None:
    pieces = ["a", ".\n\nB", "c\n", "\n", "d", "<end>"]

    def decode_pieces(ids: Sequence[int]) -> str:
        return "".join(pieces[index] for index in ids if pieces[index] != "<end>")

    assert step_ends(decode_pieces, range(6), ("a.\n\n", "Bc\n\n", "d")) == (2, 4, 6)
    assert step_ends(decode_pieces, range(6), ()) == ()


@pytest.mark.parametrize("until", ["step", "end"])
def test_the_engine_fills_them_from_root_and_prefix(until: str) -> None:
    engine = tiny_engine(tiny_model(), Decoding(temperature=1.0, seed=3, step_delimiter="\n", max_step_tokens=12))
    problem = Problem("p", "abc", ("ab",), 60)
    ((first, _),) = run(engine, [(problem, Sample((Prefix(),), 12, "step"))])
    going = tuple(prefix for prefix in first if prefix.finish is None)
    ((second, _),) = run(engine, [(problem, Sample(going, 4, until))])
    assert any(len(prefix.steps) > (2 if until == "end" else 1) for prefix in second)
    for prefix in (*first, *second):
        assert len(prefix.step_ends) == len(prefix.steps)
        assert prefix.step_ends[-1:] == ((len(prefix.tokens),) if prefix.steps else ())
        for index, end in enumerate(prefix.step_ends[:-1]):
            assert decode(prefix.tokens[:end]) == "".join(prefix.steps[: index + 1])


def test_a_vocabulary_is_known_by_its_tokens_and_ids() -> None:
    def named(vocabulary: dict[str, int]) -> str:
        return vocabulary_hash(SimpleNamespace(get_vocab=lambda: vocabulary))

    vocabulary = {token: index for index, token in enumerate(ALPHABET)}
    assert named(vocabulary) == named(dict(reversed(vocabulary.items())))
    assert len({named(vocabulary), named({**vocabulary, "x": END}), named({**vocabulary, "a": 1, "b": 0})}) == 3
    assert len(named(vocabulary)) == 64


def gemma_like() -> PreTrainedTokenizerFast:
    """Starts texts with a token, as its chat template does too, and has a blank line among its added tokens."""
    backend = Tokenizer(WordLevel({"<bos>": 0, "a": 1, "b": 2, "[UNK]": 3}, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    backend.add_special_tokens(["<bos>"])
    backend.add_tokens([AddedToken("\n\n", normalized=False)])
    backend.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", unk_token="[UNK]")


def test_an_added_token_that_is_text_is_not_special() -> None:
    tokenizer = gemma_like()
    assert "\n\n" in tokenizer.get_added_vocab()
    assert set(special_tokens(tokenizer)) == {"<bos>", "[UNK]"}


def test_a_prompt_has_one_start_token() -> None:
    tokenizer = gemma_like()
    assert encode(tokenizer, "a b") == encode(tokenizer, "<bos>a b") == [0, 1, 2]
