"""Prefixes kept across steps, by policy and verifier, on real models: the same solutions, and the same scores."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from searching import METHODS, Results, assert_same, load_engine, search_all, total
from transformers import AutoTokenizer, LlamaConfig, LlamaForTokenClassification

from tts_eval.micro.members import resolve
from tts_eval.micro.problems import generate
from tts_eval.types import Decoding, Problem
from tts_eval.verifiers import load_verifier


@pytest.mark.parametrize("method", METHODS)
def test_on_micromath_cached_equals_uncached(method: str) -> None:
    decoding = Decoding(temperature=1.0, step_delimiter="\n")
    problems = [Problem(p.unique_id, f"{p.problem}\n", ("\n\n",), 160) for p in islice(generate("test", "kept"), 8)]

    def results(kept: int | None) -> Results:
        engine = load_engine(resolve("micromath/base"), decoding, kept_bytes=kept)
        verifier = load_verifier(resolve("micromath/prm"), cache_bytes=kept)
        return search_all(engine, [(p, METHODS[method](8, 10)) for p in problems], verifier)

    cached, uncached = results(None), results(0)
    assert_same(cached, uncached)
    if method != "best-of-n":
        assert total(cached).prefill_tokens < total(uncached).prefill_tokens
        assert total(cached).verifier_tokens < total(uncached).verifier_tokens


@pytest.fixture(scope="module")
def verifier_folder(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first layers of SmolLM2 with a random head, for the sake of numbers rather than of their meaning."""
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(smollm2, num_hidden_layers=6, layer_types=None, num_labels=1)
    model = LlamaForTokenClassification.from_pretrained(smollm2, config=config)
    model.config.tts_eval = {"kind": "prm", "step_delimiter": "\n"}
    folder = tmp_path_factory.mktemp("verifier")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(smollm2).save_pretrained(folder)
    return folder


@pytest.mark.timeout(900)
def test_on_smollm2_cached_equals_uncached(smollm2: Path, verifier_folder: Path) -> None:
    decoding = Decoding(temperature=0.8, step_delimiter="\n", max_step_tokens=3)
    p = Problem("p", "Tom has 3 apples and buys 4 more.", (), 8)

    def results(kept: int | None) -> list[Results]:
        engine = load_engine(smollm2, decoding, kept_bytes=kept)
        verifier = load_verifier(str(verifier_folder), cache_bytes=kept)
        return [search_all(engine, [(p, make(4, 3))], verifier) for make in METHODS.values()]

    for cached, uncached in zip(results(None), results(0), strict=True):
        assert_same(cached, uncached)
