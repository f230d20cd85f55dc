"""Keyed randomness and drawing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from tts_eval.engines.keys import keyed_int
from tts_eval.engines.sampling import draw, uniforms


def independent(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(count))


def test_draws_follow_the_tempered_distribution() -> None:
    logits, temperature, count = torch.tensor([2.0, 0.5, -1.0, 0.0, 1.0]), 0.7, 20_000
    tokens, _ = draw(logits.expand(count, -1), torch.full((count,), temperature).double(), independent(count))
    expected = (logits.double() / temperature).softmax(0).numpy() * count
    assert chisquare(np.bincount(tokens.numpy(), minlength=5), expected).pvalue > 0.01


def test_logprobs_are_those_of_the_model_itself() -> None:
    logits = torch.randn(64, 11, generator=torch.Generator().manual_seed(1))
    tokens, logprobs = draw(logits, torch.full((64,), 0.3).double(), independent(64))
    assert torch.allclose(logprobs, logits.double().log_softmax(-1).gather(1, tokens[:, None])[:, 0])


def test_temperature_zero_is_greedy_for_its_row_alone() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.9], [0.0, 1.0, 0.9]])
    tokens, _ = draw(logits, torch.tensor([0.0, 1.0]).double(), torch.tensor([0.99, 0.99]).double())
    assert tokens.tolist() == [1, 2]


def test_a_token_without_probability_is_never_drawn() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf")]])
    for u in (0.0, 0.5, 1 - 1e-16):
        assert draw(logits, torch.ones(1).double(), torch.tensor([u], dtype=torch.float64))[0].tolist() == [1]


def test_streams_differ_by_seed_problem_and_path_and_by_nothing_else() -> None:
    keys = [
        (0, "a", (0,)),
        (1, "a", (0,)),
        (0, "b", (0,)),
        (0, "a", (1,)),
        (0, "a", (0, 0)),
        (0, "a", ()),
        (0, "a0", ()),
    ]
    streams = [keyed_int(*key) for key in keys]
    assert len(set(streams)) == len(keys)
    assert streams == [keyed_int(*key) for key in keys]
    assert all(0 <= keyed_int(*key, bits=32) < 2**32 for key in keys)


def test_numbers_of_a_stream_are_those_of_splitmix64() -> None:
    """First outputs for the seed 1234567, as in the public reference implementation."""
    reference = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert uniforms([1234567] * 4, range(4)).tolist() == [(number >> 11) / 2**53 for number in reference]


def test_streams_are_uniform_along_and_across_keys() -> None:
    along = uniforms([keyed_int(0, "p", (3,))] * 20_000, range(20_000))
    across = uniforms([keyed_int(0, "p", (index,)) for index in range(20_000)], [0] * 20_000)
    for numbers in (along, across):
        assert chisquare(np.histogram(numbers, 20, (0, 1))[0]).pvalue > 0.01
        assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03


@pytest.mark.parametrize("vocabulary", [134, 1000, 49152])
def test_a_row_is_drawn_as_if_it_were_alone(vocabulary: int) -> None:
    logits = 3 * torch.randn(23, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    temperatures, random = torch.linspace(0, 2, 23).double(), independent(23)
    tokens, logprobs = draw(logits, temperatures, random)
    for row in range(23):
        alone = draw(logits[row : row + 1], temperatures[row : row + 1], random[row : row + 1])
        assert (tokens[row], logprobs[row]) == alone  # to the last bit


def test_a_draw_inverts_the_cumulative_distribution_of_a_large_vocabulary() -> None:
    logits = 3 * torch.randn(64, 49152, generator=torch.Generator().manual_seed(1))
    random = independent(64)
    tokens, _ = draw(logits, torch.full((64,), 2.0).double(), random)
    cumulative = (logits.double() / 2).softmax(-1).cumsum(-1)
    assert tokens.tolist() == torch.searchsorted(cumulative, random[:, None], right=True)[:, 0].tolist()
