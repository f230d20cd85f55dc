"""Keyed randomness and drawing."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import chisquare

from tts_eval.engines.sampling import draw, keyed_generator, keyed_int


def uniforms(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(count))


def test_draws_follow_the_tempered_distribution() -> None:
    logits, temperature, count = torch.tensor([2.0, 0.5, -1.0, 0.0, 1.0]), 0.7, 20_000
    tokens, _ = draw(logits.expand(count, -1), torch.full((count,), temperature).double(), uniforms(count))
    expected = (logits.double() / temperature).softmax(0).numpy() * count
    assert chisquare(np.bincount(tokens.numpy(), minlength=5), expected).pvalue > 0.01


def test_logprobs_are_those_of_the_model_itself() -> None:
    logits = torch.randn(64, 11, generator=torch.Generator().manual_seed(1))
    tokens, logprobs = draw(logits, torch.full((64,), 0.3).double(), uniforms(64))
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
    first = [keyed_generator(*key).random() for key in keys]
    assert len(set(first)) == len(keys)
    assert first == [keyed_generator(*key).random() for key in keys]
    assert all(0 <= keyed_int(*key, bits=32) < 2**32 for key in keys)
