"""Verifiers that vLLM reads, in this process and behind `vllm serve`, beside the same models read by transformers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from serving import Server
from transformers import LlamaForSequenceClassification, LlamaForTokenClassification, Qwen2Model
from vllm.config import PoolerConfig
from wide_toys import CONTEXT, OTHER, PROBLEM, STEPS, WIDE, llama, prefix, qwen, saved, saved_with_head, tokenizer

from tts_eval.micro.members import resolve
from tts_eval.model_adapters.verifiers import build_verifier
from tts_eval.types import Prefix, TtsEvalError, Verifier
from tts_eval.verifiers import load_verifier
from tts_eval.verifiers.loading import vllm_verifier


ON_CPU = {"dtype": "float32", "enforce_eager": True, "max_model_len": CONTEXT}


@contextmanager
def in_vllm(folder: Path, family: str | None, **options: Any) -> Iterator[Verifier]:
    verifier = vllm_verifier(str(folder), family, options={**ON_CPU, **options})
    try:
        yield verifier
    finally:
        verifier._model.llm_engine.engine_core.shutdown()  # type: ignore[attr-defined]


@contextmanager
def served(folder: Path, family: str, *options: str) -> Iterator[Verifier]:
    arguments = {"verifier_format": family, "verifier_tokenizer": str(folder), "verifier_reference": None}
    more = ("--runner", "pooling", "--max-model-len", str(CONTEXT), *options)
    with Server(Path(sys.executable).with_name("vllm"), folder, folder / "log", *more) as server:
        verifier = build_verifier({"verifier": f"{server.url}/v1", "noise": 0.0, "seed": 0, **arguments})
        assert verifier is not None
        yield verifier


def require_equal(found: Verifier, expected: Verifier) -> None:
    """Scores of steps and wholes, alone and among others, and what was read for them."""
    assert (found.kind, found.aggregation) == (expected.kind, expected.aggregation)
    whole = prefix(*STEPS)
    items = [(OTHER, prefix("7 - 1 = 6")), (PROBLEM, whole), (OTHER, whole), (PROBLEM, whole)]
    ours, theirs = found.score(items), expected.score(items)
    for (scores, _), (others, _) in zip(ours, theirs, strict=True):
        assert scores == pytest.approx(others, abs=1e-4)
    assert len({scores for scores, _ in ours}) == 3
    read = sum((cost.verifier_tokens or 0) + (cost.reused_tokens or 0) for _, cost in ours)
    assert read == sum((cost.verifier_tokens or 0) + (cost.reused_tokens or 0) for _, cost in theirs)
    assert ours[3][1].verifier_tokens == 0
    assert found.score([]) == []


@pytest.mark.parametrize("family", ["trl", "pure"])
def test_classes_of_tokens(family: str, tmp_path: Path) -> None:
    saved(tmp_path, LlamaForTokenClassification, llama(num_labels=2, **WIDE))
    with in_vllm(tmp_path, family) as verifier:
        require_equal(verifier, load_verifier(str(tmp_path), family))
        long = Prefix(steps=tuple(f"Step {index} says that it goes on.\n" for index in range(40)))
        with pytest.raises(TtsEvalError, match=rf"the verifier's context is {CONTEXT}"):
            verifier.score([(PROBLEM, long)])


@pytest.mark.parametrize("kind", ["prm", "orm"])
def test_ours_without_likelihood(kind: str, tmp_path: Path) -> None:
    saved(tmp_path, LlamaForTokenClassification, llama(num_labels=1, **WIDE))
    file, own = tmp_path / "config.json", {"kind": kind, "step_delimiter": "\n\n"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tts_eval": own}))
    with in_vllm(tmp_path, None) as verifier:
        require_equal(verifier, load_verifier(str(tmp_path)))


@pytest.fixture
def rewards(tmp_path: Path) -> tuple[Path, int]:
    """A process reward model after Qwen's, and the token at which it has its rewards."""
    torch.manual_seed(0)
    size = WIDE["hidden_size"]
    head = torch.nn.Sequential(torch.nn.Linear(size, size), torch.nn.ReLU(), torch.nn.Linear(size, 2))
    saved_with_head(tmp_path, Qwen2Model(qwen(**WIDE)).eval(), head, "score", starts=False)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["auto_map"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["Qwen2ForProcessRewardModel"]}))
    # vLLM's own is that of Qwen's vocabulary.
    return tmp_path, tokenizer().convert_tokens_to_ids("<extra_0>")


def test_step_pooling(rewards: tuple[Path, int]) -> None:
    folder, mark = rewards
    pooler = PoolerConfig(task="token_classify", step_tag_id=mark)
    with in_vllm(folder, "qwen-prm", pooler_config=pooler) as verifier:
        require_equal(verifier, load_verifier(str(folder), "qwen-prm"))


@pytest.mark.timeout(700)
def test_step_pooling_on_a_server(rewards: tuple[Path, int]) -> None:
    folder, mark = rewards
    pooler = json.dumps({"task": "token_classify", "step_tag_id": mark})
    with served(folder, "qwen-prm", "--pooler-config", pooler) as verifier:
        require_equal(verifier, load_verifier(str(folder), "qwen-prm"))


@pytest.mark.timeout(700)
def test_classes_of_tokens_on_a_server(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForTokenClassification, llama(num_labels=2, **WIDE))
    with served(tmp_path, "trl") as verifier:
        require_equal(verifier, load_verifier(str(tmp_path), "trl"))


@pytest.mark.timeout(700)
def test_a_class_of_the_whole_on_a_server(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForSequenceClassification, llama(num_labels=1, **WIDE))
    with served(tmp_path, "sequence-classifier") as verifier:
        require_equal(verifier, load_verifier(str(tmp_path), "sequence-classifier"))


def test_a_class_of_the_whole(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForSequenceClassification, llama(num_labels=1, **WIDE))
    with in_vllm(tmp_path, "sequence-classifier") as verifier:
        require_equal(verifier, load_verifier(str(tmp_path), "sequence-classifier"))


def test_what_vllm_cannot_read_is_refused() -> None:
    with pytest.raises(TtsEvalError, match=r"a verifier trained with --likelihood needs more than the classes"):
        vllm_verifier(resolve("micromath/prm"), None)
    with pytest.raises(TtsEvalError, match=r"format skywork needs more than the classes.*without verifier_engine="):
        vllm_verifier(resolve("micromath/prm"), "skywork")
