"""Training runs: what is learnt, what is written, what is refused, and what an interruption changes."""

from __future__ import annotations

import csv
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import makers
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification, GPT2Config, GPT2LMHeadModel

from tts_eval.training import TrainingConfig, TrainingResult, checkpoints, train_verifier
from tts_eval.training.backbone import backbone_of, publish
from tts_eval.training.batches import collate, encode
from tts_eval.training.data import read_training_data, split_by_question
from tts_eval.training.loop import Trainer, since_best
from tts_eval.training.optimizers import optimizers_of
from tts_eval.training.scorer import Scorer
from tts_eval.types import Prefix, Problem, TtsEvalError
from tts_eval.verifiers import load_verifier


class Killed(BaseException):
    """Stands for a signal that nothing catches."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingConfig, TrainingResult]:
    """A PRM that had time to learn the rule."""
    folder = tmp_path_factory.mktemp("trained")
    data = (makers.write(folder / "l.jsonl", makers.label_rows(questions=80)),)
    config = makers.config(folder, data=data, epochs=4, learning_rate=1e-2, eval_every=9)
    return config, train_verifier(config)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_prm_learns_a_simple_rule(trained: tuple[TrainingConfig, TrainingResult]) -> None:
    config, result = trained
    assert result.best.validation_loss < 0.3 < result.curve[0].validation_loss
    assert result.best.validation_auroc is not None and result.best.validation_auroc > 0.9
    assert (result.solutions, result.held_out, result.too_long) == (576, 64, 0)
    with (config.output / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [row.step for row in result.curve]
    assert float(rows[-1]["validation_auroc"]) == result.curve[-1].validation_auroc
    assert (config.output / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert not (config.output / "checkpoints").exists()


def test_the_verifier_says_what_it_is(trained: tuple[TrainingConfig, TrainingResult]) -> None:
    config, _ = trained
    saved = json.loads((config.output / "config.json").read_text())
    assert saved["tts_eval"] == {"kind": "prm", "step_delimiter": "\n"}
    assert (saved["classifier_dropout"], saved["attention_dropout"]) == (0.05, 0.05)
    card = (config.output / "README.md").read_text()
    assert "PRM" in card and "verifier=PATH" in card and "l.jsonl" in card and str(config.output.parent) not in card


def gpt2() -> GPT2LMHeadModel:
    """Its positions are learnt, and it has dropout in all places, under names of its own."""
    shape = {"vocab_size": len(makers.ALPHABET), "n_positions": 48, "n_embd": 16, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=None, eos_token_id=None))


def test_dropout_is_before_the_head_and_on_attention_weights_only() -> None:
    model = backbone_of(gpt2(), makers.tokenizer(), 0.3).model
    modules = model.base_model.named_modules()
    trunk = {name.rpartition(".")[2]: module.p for name, module in modules if isinstance(module, torch.nn.Dropout)}
    assert trunk == {"attn_dropout": 0.3, "drop": 0.0, "resid_dropout": 0.0, "dropout": 0.0}
    assert model.dropout.p == 0.3


def test_muon_gets_no_embeddings(tmp_path: Path) -> None:
    scorer = Scorer(backbone_of(gpt2(), makers.tokenizer(), 0.0).model, likelihood=False)
    muon, adamw = optimizers_of(scorer, makers.config(tmp_path, optimizer="muon"))
    names = {parameter: name for name, parameter in scorer.network.named_parameters()}
    matrices, others = ({names[p] for p in optimizer.param_groups[0]["params"]} for optimizer in (muon, adamw))
    assert {name.split(".")[1] for name in matrices} == {"h"} and len(matrices) == 4
    assert matrices | others == set(names.values()) and not matrices & others


def test_muon_in_fp16_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate steps each of two optimizers with the one scale of the loss, and would unscale the second twice."""
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
    with pytest.raises(TtsEvalError, match="--optimizer muon: can't train in fp16; set ACCELERATE_MIXED_PRECISION=bf1"):
        train_verifier(makers.config(tmp_path, optimizer="muon"))


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".new-x").mkdir()
    (tmp_path / ".new-x" / "model.safetensors").touch()
    publish(makers.policy(), makers.tokenizer(), tmp_path)
    assert not list(tmp_path.glob(".new-*")) and (tmp_path / "model.safetensors").stat().st_size


@pytest.mark.parametrize("kind", ["prm", "orm"])
def test_a_loaded_verifier_scores_what_training_saw(
    kind: Any, trained: tuple[TrainingConfig, TrainingResult], tmp_path: Path
) -> None:
    """One function renders for both; a separator between prompt and step 1 can't come or go in between."""
    config = trained[0]
    if kind == "orm":
        config = makers.config(tmp_path, kind="orm", max_steps=2)
        train_verifier(config)
    examples = read_training_data(config.data).examples[:6]
    items = [(Problem(e.source + str(i), e.prompt, (), 9), Prefix(steps=e.steps)) for i, e in enumerate(examples)]
    found = load_verifier(str(config.output)).score(items)
    model = AutoModelForTokenClassification.from_pretrained(config.output).eval()
    batch = collate(encode(examples, makers.tokenizer(), kind, "\n"))
    with torch.no_grad():
        logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits[..., 0]
    for (scores, _), row, targets in zip(found, logits, batch.targets):
        assert scores == pytest.approx(row[~targets.isnan()].sigmoid().tolist(), abs=1e-6)
        assert len(scores) == (3 if kind == "prm" else 1)


def test_the_best_weights_are_kept_and_training_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = itertools.chain([0.5, 0.3, 0.4, 0.4], itertools.repeat(0.35))
    snapshots = []
    evaluate = Trainer._evaluate

    def scripted(self: Trainer, step: int, train_loss: float) -> Any:
        snapshots.append({key: value.clone() for key, value in self._learner.network.state_dict().items()})
        return replace(evaluate(self, step, train_loss), validation_loss=next(losses))

    monkeypatch.setattr(Trainer, "_evaluate", scripted)
    result = train_verifier(makers.config(tmp_path, eval_every=1, patience=3, epochs=9))
    assert [row.step for row in result.curve] == [1, 2, 3, 4, 5] and result.best.step == 2
    kept = weights(result.output)
    assert all(torch.equal(kept[key], snapshots[1][key]) for key in kept)


@pytest.mark.parametrize("dies_after", [0, 1, 2])
def test_killed_and_resumed_gives_the_same_weights(
    dies_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = makers.config(tmp_path, max_steps=10)
    train_verifier(config)
    broken = replace(config, output=tmp_path / "broken", resume=True)
    saves = itertools.count()
    save = checkpoints.Checkpoints.save

    def killed(self: Any, curve: Any) -> None:
        if next(saves) == dies_after:
            raise Killed
        save(self, curve)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save", killed)
        with pytest.raises(Killed):
            train_verifier(broken)
    if dies_after:
        with pytest.raises(TtsEvalError, match=r"learning_rate is 0\.003 there and 0\.1 here"):
            train_verifier(replace(broken, learning_rate=0.1))
    train_verifier(replace(broken, batch_tokens=10_000))  # one piece a batch, as before
    assert same(config.output, broken.output)
    assert (config.output / "curve.csv").read_text() == (broken.output / "curve.csv").read_text()


def test_killed_after_the_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoints.Checkpoints.save

    def killed(self: Any, curve: Any) -> None:
        save(self, curve)
        raise Killed

    config = makers.config(tmp_path, max_steps=1, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save", killed)
        with pytest.raises(Killed):
            train_verifier(config)
    train_verifier(config)
    assert (config.output / "curve.csv").read_text().splitlines()[1].startswith("1,")


def test_a_seed_decides_everything(tmp_path: Path) -> None:
    config = makers.config(tmp_path, max_steps=2)
    outputs = [tmp_path / name for name in ("a", "b", "c")]
    for output, seed in zip(outputs, (0, 0, 1)):
        train_verifier(replace(config, output=output, seed=seed))
    assert same(outputs[0], outputs[1]) and not same(outputs[0], outputs[2])


def test_a_batch_may_be_cut_into_pieces(tmp_path: Path) -> None:
    """Labels differ in number from piece to piece; the gradient is that of the whole batch all the same."""
    rows = makers.label_rows(questions=12)
    for row in rows[1:]:
        for solution in row["solutions"][::2]:
            solution.update(steps=solution["steps"][:1], labels=solution["labels"][:1])
    data = (makers.write(tmp_path / "l.jsonl", rows),)
    config = makers.config(tmp_path, data=data, max_steps=3, dropout=0.0)
    train_verifier(config)
    pieces = replace(config, output=tmp_path / "pieces", batch_tokens=40)
    train_verifier(pieces)
    whole, cut = weights(config.output), weights(pieces.output)
    assert all(torch.allclose(whole[key], cut[key], atol=1e-4) for key in whole)


def test_a_likelihood_needs_an_output_layer_that_is_kept(tmp_path: Path) -> None:
    with pytest.raises(TtsEvalError, match="tie_word_embeddings"):
        train_verifier(makers.config(tmp_path, likelihood=True))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_score_with_likelihood_is_that_of_a_separate_computation(tmp_path: Path, optimizer: str) -> None:
    policy = makers.policy(tie_word_embeddings=True)
    config = makers.config(tmp_path, likelihood=True, max_steps=4, optimizer=optimizer)
    train_verifier(config, (policy, makers.tokenizer()))
    weight = json.loads((config.output / "config.json").read_text())["tts_eval"]["likelihood"]
    assert weight not in (0.0, 0.5)  # learnt
    classifier = AutoModelForTokenClassification.from_pretrained(config.output).eval()
    trunk = makers.policy(tie_word_embeddings=True)
    trunk.model.load_state_dict(classifier.base_model.state_dict())
    trunk.eval()
    problem, steps = Problem("p", "3?\n", (), 20), ("abc\n", "dxe\n", "fgh")
    ids = torch.tensor([makers.tokenizer()("3?\nabc\ndxe\nfgh\n")["input_ids"]])
    with torch.no_grad():
        logits = classifier(input_ids=ids).logits[0, :, 0]
        logprobs = trunk(input_ids=ids).logits[0].log_softmax(-1)
    own = [float(logprobs[i - 1, ids[0, i]]) for i in range(ids.shape[1])]
    expected = [float(torch.sigmoid(logits[end] + weight * sum(own[3 : end + 1]))) for end in (6, 10, 14)]
    whole, cut = (Prefix(steps=steps[:count]) for count in (3, 2))
    verifier = load_verifier(str(config.output))
    ((scores, _),) = verifier.score([(problem, whole)])
    assert scores == pytest.approx(expected, abs=1e-5)
    pieces = load_verifier(str(config.output))
    pieces.score([(problem, cut)])
    ((extended, cost),) = pieces.score([(problem, whole)])
    assert extended == pytest.approx(expected, abs=1e-4)
    assert cost.verifier_tokens == 4 + 1  # the new tokens, and the one before them for the first one's probability


def test_a_policy_in_memory_is_as_good_as_one_on_disk(tmp_path: Path) -> None:
    config = makers.config(tmp_path, max_steps=2)
    policy = makers.policy()
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    train_verifier(config, (policy, makers.tokenizer()))
    assert all(torch.equal(value, before[key]) for key, value in policy.state_dict().items())
    trunk = AutoModelForTokenClassification.from_pretrained(config.output).base_model.state_dict()
    moved = [(trunk[key] - value).abs().max().item() for key, value in policy.base_model.state_dict().items()]
    assert 0 < max(moved) < 0.02  # two steps away from where it started


def test_the_learning_rate(tmp_path: Path) -> None:
    config = makers.config(tmp_path, learning_rate=1.0, warmup=0.2, schedule="constant")
    assert [config.learning_rate_at(step, 10) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]
    linear = replace(config, schedule="linear")
    assert [linear.learning_rate_at(step, 10) for step in (1, 5, 9)] == pytest.approx([0.9, 0.5, 0.1])


def test_since_best() -> None:
    assert since_best([]) == 0


def test_labels_of_another_tokenizer(tmp_path: Path) -> None:
    data = (makers.write(tmp_path / "l.jsonl", makers.label_rows(tokenizer="0" * 64)),)
    config = makers.config(tmp_path, data=data, max_steps=1)
    with pytest.raises(TtsEvalError, match=r"l\.jsonl: its labels were made by a policy with another token.*--any_"):
        train_verifier(config)
    train_verifier(replace(config, any_tokenizer=True))


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(TtsEvalError, match=r"training loss is nan at step 1, with learning rate .*lower --lear"):
        train_verifier(makers.config(tmp_path, learning_rate=math.inf, schedule="constant"))
    assert not (tmp_path / "verifier").exists()


def test_the_last_good_weights_survive_a_loss_that_is_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = [3e-3] * 5 + [math.inf] * 2
    monkeypatch.setattr(TrainingConfig, "learning_rate_at", lambda self, step, total: rates[step])
    with pytest.raises(TtsEvalError, match=r"loss is nan at step 6.*best verifier before that is kept"):
        train_verifier(makers.config(tmp_path, max_steps=8))
    assert all(value.isfinite().all() for value in weights(tmp_path / "verifier").values())


def test_too_long_solutions_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = makers.label_rows()
    rows[1]["solutions"][0]["steps"][0] = "a" * 200 + "\n"
    config = makers.config(tmp_path, data=(makers.write(tmp_path / "l.jsonl", rows),), max_steps=1)
    result = train_verifier(config)
    assert result.too_long == 1 and result.solutions + result.held_out == 319
    assert "1 longer than the backbone's context left out" in capsys.readouterr().err


def test_nothing_but_too_long_solutions(tmp_path: Path) -> None:
    makers.policy(context=8).save_pretrained(tmp_path / "narrow")
    makers.tokenizer().save_pretrained(tmp_path / "narrow")
    with pytest.raises(TtsEvalError, match="no solution is left to train on: 320 are longer than the backbone"):
        train_verifier(makers.config(tmp_path, backbone=str(tmp_path / "narrow")))


def test_human_ratings_know_no_outcome(tmp_path: Path) -> None:
    step = {"completions": [{"text": "a", "rating": 1}], "chosen_completion": 0}
    rows = [{"question": {"problem": f"{i}?"}, "label": {"steps": [step]}} for i in range(4)]
    data = (makers.write(tmp_path / "p.jsonl", rows),)
    config = makers.config(tmp_path, kind="orm", data=data, prompt="{{problem}}\n")
    with pytest.raises(TtsEvalError, match="too few solutions of which it is known whether they end right"):
        train_verifier(config)
    train_verifier(replace(config, kind="prm", step_delimiter="\n"))


def test_label_files_with_different_delimiters(tmp_path: Path) -> None:
    files = [
        makers.write(tmp_path / f"{i}.jsonl", makers.label_rows(questions=4, step_delimiter=delimiter))
        for i, delimiter in enumerate(("\n", "\n\n"))
    ]
    with pytest.raises(TtsEvalError, match=r"different step delimiters \('\\n', '\\n\\n'\)"):
        train_verifier(makers.config(tmp_path, data=tuple(files)))


@pytest.mark.parametrize("backbone", ["absent/folder", "tests"])
def test_a_backbone_that_is_none(backbone: str, tmp_path: Path) -> None:
    with pytest.raises(TtsEvalError, match=f"--backbone {backbone}: "):
        train_verifier(makers.config(tmp_path, backbone=backbone))


def test_an_output_that_is_taken(tmp_path: Path, trained: tuple[TrainingConfig, TrainingResult]) -> None:
    (tmp_path / "verifier").mkdir()
    (tmp_path / "verifier" / "notes.txt").touch()
    with pytest.raises(TtsEvalError, match="isn't empty; --resume goes on"):
        train_verifier(makers.config(tmp_path))
    with pytest.raises(TtsEvalError, match="holds a finished verifier"):
        train_verifier(replace(trained[0], resume=True))


def test_no_held_out_question_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[str]] = {"train": set(), "validation": set()}
    init = Trainer.__init__

    def watched(self: Trainer, config: Any, accelerator: Any, backbone: Any, train: Any, validation: Any) -> None:
        seen["train"] |= {example.question for example in train}
        seen["validation"] |= {example.question for example in validation}
        init(self, config, accelerator, backbone, train, validation)

    monkeypatch.setattr(Trainer, "__init__", watched)
    config = makers.config(tmp_path, max_steps=1)
    train_verifier(config)
    assert len(seen["train"]) == 36 and len(seen["validation"]) == 4
    assert not seen["train"] & seen["validation"]
    _, held_out = split_by_question(read_training_data(config.data).examples, 0.1)
    assert seen["validation"] == {example.question for example in held_out}
