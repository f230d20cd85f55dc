"""What a batch holds, and the loss on it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice

import makers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.training.batches import collate, encode, endless_batches, labelled, pieces
from tts_eval.training.data import TrainingExample
from tts_eval.training.scorer import soft_cross_entropy
from tts_eval.types import TtsEvalError


EXAMPLE = TrainingExample("3?", "3?\n", ("ab\n", "c\n", "de"), (0.25, None, 0.75), 1.0, "file:7")


def test_the_loss_of_soft_labels_by_hand() -> None:
    p, y = 0.8, 0.25
    logits = torch.tensor([[math.log(p / (1 - p)), 5.0]])
    loss = soft_cross_entropy(logits, torch.tensor([[y, math.nan]]))
    assert loss.item() == pytest.approx(-(y * math.log(p) + (1 - y) * math.log(1 - p)), rel=1e-5)


def test_a_soft_label_is_not_cast_to_an_integer() -> None:
    """As integers all labels below 1 are 0, and the best prediction of 0.75 would be 0."""
    at = [soft_cross_entropy(torch.tensor([x]), torch.tensor([0.75])).item() for x in (0.0, math.log(3), 4.0)]
    assert at[1] < min(at[0], at[2])


def test_a_prm_learns_every_labelled_step_at_its_last_token() -> None:
    (encoded,) = encode([EXAMPLE], makers.tokenizer(), "prm", "\n")
    batch = collate([encoded])
    text = "3?\nab\nc\nde\n"  # one token a character
    assert batch.ids[0].tolist() == makers.tokenizer()(text)["input_ids"]
    places = (~batch.targets[0].isnan()).nonzero()[:, 0].tolist()
    assert places == [5, 10] and batch.targets[0, places].tolist() == [0.25, 0.75]
    assert labelled([encoded]) == 2


def test_what_the_tokenizer_cannot_write_is_left_out_unless_it_is_most() -> None:
    foreign = replace(EXAMPLE, steps=("é\n", "c\n", "de"))
    assert len(encode([EXAMPLE, foreign], makers.tokenizer(), "prm", "\n")) == 1
    with pytest.raises(TtsEvalError, match=r"file:7: a step has characters that the backbone's tokenizer doesn't know"):
        encode([EXAMPLE, foreign, foreign], makers.tokenizer(), "prm", "\n")


def test_an_orm_learns_the_outcome_at_the_last_token_only() -> None:
    (encoded,) = encode([EXAMPLE], makers.tokenizer(), "orm", "\n")
    targets = collate([encoded]).targets[0]
    assert targets[10] == 1.0 and targets.isnan().sum() == len(targets) - 1


def test_a_batch_tells_the_solution_from_the_prompt_and_from_padding() -> None:
    both = [EXAMPLE, replace(EXAMPLE, prompt="33?\n", steps=("ab\n",), labels=(1.0,))]
    batch = collate(encode(both, makers.tokenizer(), "prm", "\n"))
    assert batch.solution.tolist() == [[0] * 3 + [1] * 8, [0] * 4 + [1] * 3 + [0] * 4]


def test_labels_end_before_the_solution_does() -> None:
    (encoded,) = encode([replace(EXAMPLE, labels=(0.5, 0.5, None))], makers.tokenizer(), "prm", "\n")
    batch = collate([encoded])
    assert batch.targets.shape == batch.ids.shape == (1, 11)
    assert (~batch.targets.isnan()).sum() == 2


def test_padding_has_no_label_and_no_mask() -> None:
    short = replace(EXAMPLE, steps=("a",), labels=(0.5,))
    batch = collate(encode([short, EXAMPLE], makers.tokenizer(), "prm", "\n"))
    assert batch.mask.sum(1).tolist() == [5, 11]
    assert batch.targets[0, 5:].isnan().all() and not batch.solution[0, 5:].any()


def test_what_has_no_label_of_the_kind_is_left_out() -> None:
    unlabelled = [replace(EXAMPLE, labels=(None,) * 3, outcome=None), replace(EXAMPLE, steps=(), labels=())]
    assert not encode(unlabelled, makers.tokenizer(), "prm", "\n")
    assert not encode(unlabelled, makers.tokenizer(), "orm", "\n")


def test_a_step_that_the_tokenizer_cant_write_is_refused() -> None:
    encode([replace(EXAMPLE, prompt="%?\n")], makers.tokenizer(), "prm", "\n")  # in the prompt it is the policy's own
    with pytest.raises(TtsEvalError, match="file:7: a step has characters"):
        encode([replace(EXAMPLE, steps=("a\n", "%\n", "b"))], makers.tokenizer(), "prm", "\n")


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 12), st.integers(0, 3))
def test_an_epoch_has_each_example_at_most_once(lengths: list[int], batch_size: int, seed: int) -> None:
    epoch = max(1, len(lengths) // batch_size)
    batches = list(islice(endless_batches(lengths, batch_size, seed), 2 * epoch))
    for half in (batches[:epoch], batches[epoch:]):
        seen = [i for batch in half for i in batch]
        assert len(set(seen)) == len(seen) == min(len(lengths), epoch * batch_size)
    assert batches == list(islice(endless_batches(lengths, batch_size, seed), 2 * epoch))


def test_epochs_and_seeds_differ() -> None:
    lengths = [1] * 64
    first, second = (batch for batch in islice(endless_batches(lengths, 64, 0), 2))
    assert first != second and first != next(endless_batches(lengths, 64, 1))


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 64))
def test_pieces_fit(lengths: list[int], batch_tokens: int) -> None:
    texts = ["a" * (length - 1) for length in lengths]
    examples = [replace(EXAMPLE, prompt="", steps=(text,), labels=(1.0,)) for text in texts]
    encoded = encode(examples, makers.tokenizer(), "prm", "\n")
    cut = list(pieces(encoded, batch_tokens))
    assert [example for piece in cut for example in piece] == encoded
    for piece in cut:
        assert len(piece) == 1 or len(piece) * max(len(example.ids) for example in piece) <= batch_tokens
