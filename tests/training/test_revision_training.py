"""Training runs of revision models: what is kept and chosen, what is refused, and what an interruption changes."""

from __future__ import annotations

import csv
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import makers
import pytest
import revising
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    MptConfig,
    MptForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from tts_eval.cli import main
from tts_eval.training import RevisionConfig, RevisionResult, checkpoints, revision
from tts_eval.training.backbone import load_language_model
from tts_eval.training.choice import Candidate, choose
from tts_eval.training.loop import Trainer
from tts_eval.training.revision import folder_of, train_revision
from tts_eval.training.revision_data import RevisionQuestion, RevisionRun
from tts_eval.training.trial import Trial
from tts_eval.types import Prefix, Problem, TtsEvalError, Usage
from tts_eval.verifiers import load_verifier


class Killed(BaseException):
    """Stands for a signal that nothing catches."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RevisionConfig, RevisionResult]:
    config = revising.config(tmp_path_factory.mktemp("trained"), epochs=12, learning_rate=1e-2, eval_every=20)
    return config, train_revision(config)


def test_it_learns_to_revise(trained: tuple[RevisionConfig, RevisionResult]) -> None:
    config, result = trained
    assert result.curve[-1].validation_loss < 1.2 < 1.4 < result.curve[0].validation_loss
    assert (result.solutions, result.held_out, result.too_long) == (168, 16, 0)
    assert [int(row["step"]) for row in read_csv(config.output / "curve.csv")] == [20, 40, 60]
    assert (config.output / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_every_evaluation_is_kept_and_says_what_it_is(trained: tuple[RevisionConfig, RevisionResult]) -> None:
    config, result = trained
    kept = [folder_of(config.output, row.step) for row in result.curve]
    assert sorted((config.output / "checkpoints").iterdir()) == kept and not (config.output / "state").exists()
    for folder in (config.output, *kept):
        said = json.loads((folder / "config.json").read_text())["tts_eval"]
        assert said == {"kind": "revision", "separator": "\n\n", "window": 4, "step_delimiter": "\n"}
        assert AutoTokenizer.from_pretrained(folder).eos_token == "<e>"
    assert same(config.output, folder_of(config.output, result.best.step))


def test_the_choice_is_the_best_past_the_lowest_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 2 would have been the best on-policy, but is before the minimum; of 4, 6 and 8 it is 6."""
    losses = iter([0.5, 0.3, 0.4, 0.4])
    found = iter([(0.9, 0.1, 0.3), (0.0, 0.4, 0.4), (0.2, 0.5, 0.1)])
    evaluate = Trainer._evaluate

    def scripted(self: Trainer, step: int, train_loss: float) -> Any:
        return replace(evaluate(self, step, train_loss), validation_loss=next(losses))

    monkeypatch.setattr(Trainer, "_evaluate", scripted)
    monkeypatch.setattr(Trial, "accuracies", lambda self, engine: next(found))
    config = revising.config(tmp_path, epochs=9, patience=2, policy_length=3)
    result = train_revision(config)
    assert [row.step for row in result.curve] == [2, 4, 6, 8]
    assert (result.best.step, result.best.validation_loss) == (6, 0.4)
    assert same(config.output, folder_of(config.output, 6)) and not same(config.output, folder_of(config.output, 4))
    rows = [",".join(row.values()) for row in read_csv(config.output / "choice.csv")]
    assert rows == ["4,0.3,0.2,0.9,0.1,0.3,0", "6,0.4,0.4,0.0,0.4,0.4,1", "8,0.4,0.3,0.2,0.5,0.1,0"]
    card = (config.output / "README.md").read_text()
    assert "| 6, chosen | 0.4000 | 0.400 | 0.000 | 0.400 | 0.400 |" in card and "| 4 | 0.3000 | 0.200 |" in card
    assert str(tmp_path) not in card


def test_of_equal_candidates_the_earliest() -> None:
    tied = [Candidate(step, 0.5, (0.1, 0.4)) for step in (30, 10, 20)]
    assert choose(tied).step == 10


@pytest.mark.parametrize("dies", ["before the first checkpoint", "after it", "while it tries candidates"])
def test_killed_and_resumed_gives_the_same_model(dies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = revising.config(tmp_path, max_steps=6)
    train_revision(config)
    broken = replace(config, output=tmp_path / "broken", resume=True)
    saves = itertools.count()
    save, accuracies = checkpoints.Checkpoints.save, Trial.accuracies

    def killed_saving(self: Any, curve: Any) -> None:
        if next(saves) == ["before the first checkpoint", "after it"].index(dies):
            raise Killed
        save(self, curve)

    def killed_trying(self: Any, engine: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if dies == "while it tries candidates":
            patch.setattr(Trial, "accuracies", killed_trying)
        else:
            patch.setattr(checkpoints.Checkpoints, "save", killed_saving)
        with pytest.raises(Killed):
            train_revision(broken)
    assert Trial.accuracies is accuracies
    train_revision(broken)
    assert same(config.output, broken.output)
    for name in ("curve.csv", "choice.csv"):
        assert (config.output / name).read_text() == (broken.output / name).read_text()


def test_a_seed_decides_everything(tmp_path: Path) -> None:
    config = revising.config(tmp_path, max_steps=2)
    outputs = [tmp_path / name for name in ("a", "b", "c")]
    for output, seed in zip(outputs, (0, 0, 1)):
        train_revision(replace(config, output=output, seed=seed))
    assert same(outputs[0], outputs[1]) and not same(outputs[0], outputs[2])


class Writer:
    """An engine that answers right in the first chain's first attempt and after a 0, and 0 elsewhere."""

    tokens_written = None

    def __init__(self) -> None:
        self._queue: list[Any] = []

    def check(self, problem: Problem) -> None: ...

    def submit(self, ticket: int, problem: Problem, request: Any) -> None:
        prompts = request.prompts or (problem.prompt,) * len(request.prefixes)
        places = [(prompt, (*p.path, c)) for prompt, p in zip(prompts, request.prefixes) for c in range(request.n)]
        texts = ["\\boxed{1}" if "0" in prompt or path == (0,) else "\\boxed{0}" for prompt, path in places]
        reply = tuple(Prefix(path, (text,), finish="eos") for (_, path), text in zip(places, texts))
        self._queue.append((ticket, reply, Usage()))

    def poll(self) -> Any:
        answered, self._queue = self._queue, []
        return answered

    def release(self, ticket: int) -> None: ...


def test_accuracies_by_place_in_the_chain() -> None:
    """By hand: one chain is right, wrong, right, the other wrong, right, wrong; with both in sight it stays right."""
    run = RevisionRun("", "\n", ("\n\n",), 9)
    questions = [RevisionQuestion(f"{i}", Problem(f"q/{i}", "?", (), 9), "1", (), 0.0) for i in range(3)]
    trial = Trial(questions, run, chains=2, length=3, window=1, separator="\n", seed=0)
    assert trial.accuracies(Writer()) == (0.5, 0.5, 0.5)
    assert replace(trial, window=2).accuracies(Writer()) == (0.5, 0.5, 1.0)
    assert replace(trial, chains=1).accuracies(Writer()) == (1.0, 0.0, 1.0)


def test_problems_of_several_files_may_have_the_same_uid() -> None:
    run = RevisionRun("", "\n", ("\n\n",), 9)
    questions = [RevisionQuestion(gold, Problem("0", gold, (), 9), gold, (), 0.0) for gold in ("1", "2")]
    trial = Trial(questions, run, chains=1, length=2, window=1, separator="\n", seed=0)
    assert trial.accuracies(Writer()) == (0.5, 0.0)  # both first attempts are 1, both second ones 0


def test_a_question_of_several_files_is_tried_once(tmp_path: Path) -> None:
    run = RevisionRun("", "\n", ("\n\n",), 9)
    held_out = [RevisionQuestion(f"{i}", Problem(f"{i}", "?", (), 9), "1", (), 0.5) for i in range(3)]
    again = [replace(one, solved=0.1) for one in held_out]
    for most in (3, 6):
        trial = revision._trial(revising.config(tmp_path, policy_questions=most), run, [*held_out, *again])
        assert sorted(trial.questions, key=lambda one: one.question) == held_out


def test_only_held_out_questions_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[str]] = {}
    init, accuracies = Trainer.__init__, Trial.accuracies

    def watched(self: Trainer, config: Any, accelerator: Any, learner: Any, train: Any, validation: Any) -> None:
        seen["train"], seen["validation"] = ({one.question for one in part} for part in (train, validation))
        init(self, config, accelerator, learner, train, validation)

    def tried(self: Trial, engine: Any) -> Any:
        seen["tried"] = {one.question for one in self.questions}
        return accuracies(self, engine)

    monkeypatch.setattr(Trainer, "__init__", watched)
    monkeypatch.setattr(Trial, "accuracies", tried)
    train_revision(revising.config(tmp_path, max_steps=1, validation=0.2, policy_questions=3))
    assert len(seen["tried"]) == 3 and len(seen["validation"]) in (4, 5)
    assert not seen["train"] & (seen["validation"] | seen["tried"])


def test_a_longer_context(tmp_path: Path) -> None:
    config = revising.config(tmp_path, context=96, window=9, max_steps=1)
    train_revision(config)
    assert AutoConfig.from_pretrained(config.output).max_position_embeddings == 96
    assert AutoTokenizer.from_pretrained(config.output).model_max_length == 96


def test_positions_that_are_learnt_reach_no_further(tmp_path: Path) -> None:
    folder = tmp_path / "gpt2"
    shape = {"vocab_size": len(revising.ALPHABET), "n_positions": 48, "n_embd": 16, "n_layer": 1, "n_head": 2}
    GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=None, eos_token_id=revising.END)).save_pretrained(folder)
    revising.tokenizer().save_pretrained(folder)
    config = revising.config(tmp_path, backbone=str(folder), max_steps=1)
    with pytest.raises(TtsEvalError, match="--context 96: only a model with plain rotary positions"):
        train_revision(replace(config, context=96))
    train_revision(config)


def test_positions_without_a_limit(tmp_path: Path) -> None:
    shape = {"vocab_size": len(revising.ALPHABET), "d_model": 16, "n_layers": 1, "n_heads": 2}
    MptForCausalLM(MptConfig(**shape, eos_token_id=revising.END)).save_pretrained(tmp_path / "mpt")
    revising.tokenizer().save_pretrained(tmp_path / "mpt")
    train_revision(revising.config(tmp_path, backbone=str(tmp_path / "mpt"), window=99, max_steps=1))


def test_a_rotation_by_the_longest_row_is_tried_below_it(tmp_path: Path) -> None:
    shape = {"vocab_size": len(revising.ALPHABET), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    rope["original_max_position_embeddings"] = 128
    config = Phi3Config(
        **shape, num_attention_heads=2, num_key_value_heads=2, eos_token_id=revising.END, pad_token_id=0,
        max_position_embeddings=4096, original_max_position_embeddings=128, rope_parameters=rope,
    )
    Phi3ForCausalLM(config).save_pretrained(tmp_path / "phi")
    revising.tokenizer().save_pretrained(tmp_path / "phi")
    train_revision(revising.config(tmp_path, backbone=str(tmp_path / "phi"), max_steps=1))


def test_there_is_no_dropout(tmp_path: Path) -> None:
    """OPT's is in no module, and the default is 0.1."""
    shape = {"vocab_size": len(revising.ALPHABET), "hidden_size": 16, "ffn_dim": 32, "word_embed_proj_dim": 16}
    config = OPTConfig(**shape, num_hidden_layers=1, num_attention_heads=2, eos_token_id=revising.END)
    OPTForCausalLM(config).save_pretrained(tmp_path)
    revising.tokenizer().save_pretrained(tmp_path)
    model = load_language_model(str(tmp_path), None).model.train()
    ids = torch.arange(20)[None]
    assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_context_that_is_too_short_for_the_window(tmp_path: Path) -> None:
    needs = "may need 81 tokens .a prompt of 3, 9 attempts of 6 with a separator of 2, a next one of 6., but .* is 48:"
    with pytest.raises(TtsEvalError, match=needs):
        train_revision(revising.config(tmp_path, window=9))
    assert not (tmp_path / "model").exists()


def test_rest_em_takes_separator_and_window_of_its_chains(tmp_path: Path) -> None:
    chain = [revising.attempt("aa", "0", False), revising.attempt("bb", "1", True)]
    data = (makers.write(tmp_path / "c.jsonl", revising.chain_rows([chain] * 4)),)
    config = revising.config(tmp_path, data=data, recipe="rest-em", separator=None, max_steps=1)
    result = train_revision(config)
    said = json.loads((config.output / "config.json").read_text())["tts_eval"]
    assert (said["separator"], said["window"], result.solutions) == ("\n0\n", 2, 44)
    assert "ReST-EM" in (config.output / "README.md").read_text()


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    config = revising.config(tmp_path, max_steps=1)
    with pytest.raises(TtsEvalError, match="--policy_length 1: a chain without a revision"):
        train_revision(replace(config, policy_length=1))
    data = (makers.write(tmp_path / "p.jsonl", revising.pair_rows(tokenizer="0" * 64)),)
    with pytest.raises(TtsEvalError, match=r"p\.jsonl: its attempts were made by a policy with another tokenizer"):
        train_revision(replace(config, data=data))
    with pytest.raises(TtsEvalError, match="its tokenizer has no end token"):
        train_revision(replace(config, backbone=str(makers.policy_folder(tmp_path / "endless")), any_tokenizer=True))
    data = (makers.write(tmp_path / "p.jsonl", revising.pair_rows(pairs=0)),)
    with pytest.raises(TtsEvalError, match="no pair is left to train on: too few questions with a correct solution"):
        train_revision(replace(config, data=data))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").touch()
    with pytest.raises(TtsEvalError, match="holds a finished revision model"):
        train_revision(config)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A revision model, and on it a verifier that sees the history; its config says so."""
    folder, model = revising.policy_folder(tmp_path / "policy"), tmp_path / "model"
    pairs = makers.write(tmp_path / "pairs.jsonl", revising.pair_rows())
    train = ["train", "revision", "--backbone", str(folder), "--data", str(pairs), "--output", str(model)]
    options = ["--separator", r"\n\n", "--max_steps", "1", "--policy_questions", "2", "--policy_length", "2"]
    assert main([*train, *options]) == 0
    said = capsys.readouterr()
    assert re.search(r"model: step 1 kept, validation loss \d\.\d+; correct by attempt .*: 0\.000 0\.000\n$", said.out)
    assert "168 pairs of 21 questions to train on, 16 of 2 to validate on" in said.err
    chain = [revising.attempt("aa", "0", False), revising.attempt("bb", "1", True)]
    chains = makers.write(tmp_path / "chains.jsonl", revising.chain_rows([chain] * 4))
    train = ["train", "orm", "--history", "--backbone", str(model), "--data", str(chains)]
    assert main([*train, "--max_steps", "1", "--output", str(tmp_path / "orm")]) == 0
    said_there = json.loads((tmp_path / "orm" / "config.json").read_text())["tts_eval"]
    assert said_there == {"kind": "orm", "step_delimiter": "\n", "history": True}
    assert load_verifier(str(tmp_path / "orm")).kind == "outcome"
    assert revision.SEPARATOR != "\n\n"
