"""Training of microMATH's policies, a few steps of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tts_eval.micro import pretrain as module
from tts_eval.micro.pretrain import RECIPES, Progress, micro_tokenizer, pretrain
from tts_eval.types import TtsEvalError


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


def test_the_same_seed_gives_the_same_weights_killed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        pretrain("base", tmp_path / name, steps=8, seed=0)
    assert equal(weights(tmp_path / "first"), weights(tmp_path / "second"))
    pretrain("base", tmp_path / "other", steps=8, seed=1)
    assert not equal(weights(tmp_path / "first"), weights(tmp_path / "other"))

    monkeypatch.setattr(module, "_SAVE_EVERY", 3)
    loss = module._loss

    def killed(*arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return loss(*arguments)

    calls: list[int] = []
    monkeypatch.setattr(module, "_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain("base", tmp_path / "killed", steps=8, seed=0)
    with pytest.raises(TtsEvalError, match="is of a run with other steps or another seed"):
        pretrain("base", tmp_path / "killed", steps=8, seed=1)
    pretrain("base", tmp_path / "killed", steps=8, seed=0)
    assert len(calls) == 6 + 5  # from step 3 on
    assert equal(weights(tmp_path / "first"), weights(tmp_path / "killed"))
    assert not (tmp_path / "killed/checkpoint").exists()


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = module._loss
    monkeypatch.setattr(module, "_loss", lambda *arguments: loss(*arguments) * float("nan"))
    with pytest.raises(TtsEvalError, match="the loss is nan at step 50: lower the learning rates"):
        pretrain("base", tmp_path, steps=60, seed=0)


def test_what_is_saved_loads(tmp_path: Path) -> None:
    pretrain("base", tmp_path, steps=1, seed=0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.get_vocab() == micro_tokenizer().get_vocab()
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.eos_token_id == tokenizer.eos_token_id


def test_large_is_about_14_times_base() -> None:
    tokenizer = micro_tokenizer()
    base, large = (
        sum(p.numel() for p in AutoModelForCausalLM.from_config(module._config(RECIPES[name], tokenizer)).parameters())
        for name in ("base", "large")
    )
    assert 13 <= large / base <= 15


def test_batches_go_on_where_they_stopped() -> None:
    tokenizer = micro_tokenizer()
    every = module._batches(tokenizer, 0, Progress(100, 0))
    first = [next(every) for _ in range(40)]
    later = module._batches(tokenizer, 0, Progress(100, 0, step=30))
    assert [next(later) for _ in range(10)] == first[30:]
