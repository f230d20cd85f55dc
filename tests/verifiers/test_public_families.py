"""Each public family against a direct computation of its rule: one sequence, no batch, no cache, no code of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toys import (
    OTHER,
    PROBLEM,
    SIZE,
    STEPS,
    llama,
    prefix,
    qwen,
    saved,
    saved_with_head,
    tokenizer,
    vocabulary,
)
from transformers import (
    AutoTokenizer,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    MistralConfig,
    MistralForCausalLM,
    Qwen2ForTokenClassification,
    Qwen2Model,
)

from tts_eval.types import Problem
from tts_eval.verifiers import load_verifier
from tts_eval.verifiers.family import finite_scores
from tts_eval.verifiers.formats import FORMATS
from tts_eval.verifiers.rendering import Rendered


BARE = [step.strip() for step in STEPS]


def scores(folder: Path, family: str | None, **options: Any) -> tuple[float, ...]:
    """Ours, in one batch with a longer and a shorter neighbour; the same alone, and when the solution grows."""
    verifier = load_verifier(str(folder), family, **options)
    if family is not None:
        assert (verifier.kind, verifier.aggregation) == (FORMATS[family].kind, FORMATS[family].aggregation)
    items = [(OTHER, prefix("7 - 1 = 6")), (PROBLEM, prefix(*STEPS)), (OTHER, prefix(*STEPS, *STEPS, *STEPS))]
    found = verifier.score(items)[1][0]
    scratch, growing = (load_verifier(str(folder), family, cache_bytes=size, **options) for size in (0, None))
    assert scratch.score(items[1:2])[0][0] == pytest.approx(found, abs=1e-5)
    for count in (1, 2, 3):
        item = (PROBLEM, prefix(*STEPS[:count]))
        ((extended, usage),) = growing.score([item])
        assert extended == pytest.approx(scratch.score([item])[0][0], abs=1e-4)
        assert count == 1 or (usage.reused_tokens or 0) > 0
    return found


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


def test_math_shepherd(tmp_path: Path) -> None:
    model = saved(tmp_path, MistralForCausalLM, MistralConfig(vocab_size=vocabulary(), sliding_window=32, **SIZE))
    tok = tokenizer()
    text = f"{PROBLEM.question} Step 1: {BARE[0]} ки\nStep 2: {BARE[1]} ки\nStep 3: {BARE[2]} ки"
    ids = tok.encode(text)
    assert ids[0] == tok.bos_token_id
    plus, minus, tag = (tok.encode(sign, add_special_tokens=False)[-1] for sign in ("+", "-", "ки"))
    probabilities = logits(model, ids)[:, [plus, minus]].softmax(-1)[:, 0]
    expected = [float(p) for p, token in zip(probabilities, ids) if token == tag]
    assert scores(tmp_path, "math-shepherd") == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", ["rlhflow-deepseek", "rlhflow-mistral"])
def test_rlhflow(tmp_path: Path, family: str) -> None:
    model = saved(tmp_path, LlamaForCausalLM, llama(tie_word_embeddings=True))
    tok = tokenizer()
    expected, chat = [], []
    for index, step in enumerate(BARE):
        chat += [{"role": "user", "content": f"{PROBLEM.question} {step}" if index == 0 else step}]
        chat += [{"role": "assistant", "content": "+"}]
        ids = tok.encode(tok.apply_chat_template(chat, tokenize=False), add_special_tokens=False)
        # The last three tokens: what comes before the plus, the plus, the end of the turn and its newline.
        assert tok.convert_ids_to_tokens(ids[-3:]) == ["+", "<|im_end|>", "Ċ"]
        choice = logits(model, ids)[-4, tok.convert_tokens_to_ids(["+", "-"])]
        expected.append(float(choice.softmax(-1)[0]))
    assert scores(tmp_path, family) == pytest.approx(expected, abs=1e-5)


def test_skywork(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base, head = Qwen2Model(qwen()).eval(), torch.nn.Linear(SIZE["hidden_size"], 1)
    saved_with_head(tmp_path, base, torch.nn.ModuleDict({"summary": head}), "v_head", starts=False)
    tok = AutoTokenizer.from_pretrained(tmp_path)
    ids = tok.encode("<s>" + str(PROBLEM.question) + "\n")
    assert ids.count(tok.bos_token_id) == 1  # Qwen's tokenizer adds none by itself
    newline, ends = tok.encode("\n")[-1], []
    for line in "".join(STEPS).split("\n"):  # the blank lines between our steps are steps of theirs
        ids += [*tok.encode(line), newline]
        ends.append(len(ids) - 1)
    with torch.no_grad():
        values = head(base(input_ids=torch.tensor([ids])).last_hidden_state[0])[:, 0].sigmoid()
    expected = [float(values[end]) for end in (ends[1], ends[3], ends[4])]
    assert scores(tmp_path, "skywork") == pytest.approx(expected, abs=1e-5)
    # A policy goes on from its prompt with a space, which isn't in the answer of a chat.
    ((spaced, _),) = load_verifier(str(tmp_path), "skywork").score([(PROBLEM, prefix(f" {STEPS[0]}", *STEPS[1:]))])
    assert spaced == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", ["qwen-prm", "reasonflux"])
def test_qwen_prm(tmp_path: Path, family: str) -> None:
    torch.manual_seed(0)
    size = SIZE["hidden_size"]
    base = Qwen2Model(qwen()).eval()
    head = torch.nn.Sequential(torch.nn.Linear(size, size), torch.nn.ReLU(), torch.nn.Linear(size, 2))
    saved_with_head(tmp_path, base, head, "score", starts=False)
    tok = AutoTokenizer.from_pretrained(tmp_path)
    system = "Please reason step by step, and put your final answer within \\boxed{}."
    chat = [{"role": "system", "content": system}] if family == "qwen-prm" else []
    chat += [{"role": "user", "content": PROBLEM.question}]
    chat += [{"role": "assistant", "content": "<extra_0>".join(BARE) + "<extra_0>"}]
    ids = tok.encode(tok.apply_chat_template(chat, tokenize=False))
    with torch.no_grad():
        values = head(base(input_ids=torch.tensor([ids])).last_hidden_state[0]).softmax(-1)[:, 1]
    mark = tok.encode("<extra_0>")[0]
    expected = [float(value) for value, token in zip(values, ids) if token == mark]
    assert scores(tmp_path, family) == pytest.approx(expected, abs=1e-5)


def test_implicit(tmp_path: Path) -> None:
    policy = saved(tmp_path / "policy", LlamaForCausalLM, llama(), seed=1)
    reference = saved(tmp_path / "reference", LlamaForCausalLM, llama(), seed=2)
    tok = tokenizer()
    answer = "\n\n".join(f"Step {number}: {step}" for number, step in enumerate(BARE, start=1))
    user = [{"role": "user", "content": PROBLEM.question}]
    asked = tok.apply_chat_template(user, tokenize=False, add_generation_prompt=True)
    text = tok.apply_chat_template([*user, {"role": "assistant", "content": answer}], tokenize=False)
    ids = tok.encode(text, add_special_tokens=False)
    start = len(tok.encode(asked, add_special_tokens=False))
    ratio = torch.zeros(len(ids))
    for sign, model in ((1, policy), (-1, reference)):
        logprobs = logits(model, ids).log_softmax(-1)
        for index in range(start, len(ids)):
            ratio[index] += sign * logprobs[index - 1, ids[index]]
    decoded = [tok.decode(ids[start : end + 1]) for end in range(len(ids))]
    expected = []
    for count in (1, 2, 3):
        so_far = answer[: len("\n\n".join(answer.split("\n\n")[:count]))]
        end = next(index for index, text in enumerate(decoded) if text.startswith(so_far))
        expected.append(float((0.001 * ratio[: end + 1].sum()).sigmoid()))
    found = scores(tmp_path / "policy", "implicit", reference=str(tmp_path / "reference"))
    assert found == pytest.approx(expected, abs=1e-6)
    assert max(found) - min(found) > 1e-3  # far more than the tolerance


@pytest.mark.parametrize(("family", "separator"), [("pure", "\n\n"), ("trl", "\n")])
def test_two_label_token_classifiers(tmp_path: Path, family: str, separator: str) -> None:
    model = saved(tmp_path, Qwen2ForTokenClassification, qwen(num_labels=2, classifier_dropout=0.5))
    tok = AutoTokenizer.from_pretrained(tmp_path)
    ids = tok.encode(PROBLEM.question, add_special_tokens=False)
    if family == "trl":
        ids = [tok.bos_token_id, *ids]
    expected = []
    for step in BARE:
        ids += tok.encode(step, add_special_tokens=False) + tok.encode(separator, add_special_tokens=False)
        expected.append(float(logits(model, ids)[-1].softmax(-1)[1]))
    assert scores(tmp_path, family) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("family", "one"), [("sequence-classifier", [17.0]), ("pure", [-9.0, 9.0])])
def test_solutions_that_are_as_good_as_certain_do_not_tie(family: str, one: list[float]) -> None:
    """In float32 the probabilities of both are 1.0."""
    outputs = torch.tensor([one, one]) * torch.tensor([[1.0], [1.3]])
    good, better = (
        finite_scores(FORMATS[family], PROBLEM, outputs, Rendered((1, 2), (position,))) for position in (0, 1)
    )
    assert good < better < (1.0,)


@pytest.mark.parametrize("kind", ["prm", "orm"])
def test_ours(tmp_path: Path, kind: str) -> None:
    config = llama(num_labels=1, tts_eval={"kind": kind, "step_delimiter": "\n\n"})
    model = saved(tmp_path, LlamaForTokenClassification, config)
    tok = tokenizer()
    ids, expected = tok.encode(PROBLEM.prompt), []
    for step in BARE:
        ids += tok.encode(f"{step}\n\n", add_special_tokens=False)
        expected.append(float(logits(model, ids)[-1].sigmoid()))
    verifier = load_verifier(str(tmp_path))
    assert verifier.kind == ("process" if kind == "prm" else "outcome")
    assert verifier.aggregation == "last"
    assert scores(tmp_path, None) == pytest.approx(expected if kind == "prm" else expected[-1:], abs=1e-5)


@pytest.mark.parametrize("labels", [1, 2])
def test_sequence_classifier(tmp_path: Path, labels: int) -> None:
    # The padding token of transformers' own pooling is the one that ends the text: the trap in that pooling.
    newline = tokenizer().encode("\n")[-1]
    model = saved(tmp_path, LlamaForSequenceClassification, llama(num_labels=labels, pad_token_id=newline))
    tok = tokenizer()
    chat = [{"role": "user", "content": PROBLEM.question}, {"role": "assistant", "content": "".join(STEPS)}]
    ids = tok.encode(tok.apply_chat_template(chat, tokenize=False), add_special_tokens=False)
    assert ids[-1] == newline
    with torch.no_grad():
        last = model.score(model.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1])
    expected = float(last.sigmoid() if labels == 1 else last.softmax(-1)[1])
    assert scores(tmp_path, "sequence-classifier") == pytest.approx([expected], abs=1e-5)


def test_a_whole_answer_has_its_steps_apart_though_they_come_without_delimiters(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForSequenceClassification, llama(num_labels=1))
    verifier = load_verifier(str(tmp_path), "sequence-classifier")
    (closed, _), (published, _) = verifier.score([(PROBLEM, prefix(*STEPS)), (PROBLEM, prefix(*BARE))])
    assert closed == published


def test_a_problem_without_a_question_of_its_own_is_rendered_by_its_prompt(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForTokenClassification, llama(num_labels=2))
    bare = Problem("p", str(PROBLEM.question), (), 100)
    verifier = load_verifier(str(tmp_path), "trl")
    (without, _), (with_question, _) = verifier.score([(bare, prefix(*STEPS)), (PROBLEM, prefix(*STEPS))])
    assert without == with_question


def test_default_aggregations_follow_the_kind_of_label() -> None:
    table = {name: (family.label, family.aggregation) for name, family in FORMATS.items()}
    assert table == {
        "math-shepherd": ("value", "min"),
        "rlhflow-deepseek": ("value", "mean"),
        "rlhflow-mistral": ("value", "mean"),
        "skywork": ("value", "last"),
        "qwen-prm": ("correctness", "prod"),
        "reasonflux": ("value", "last"),
        "implicit": ("log_ratio", "min"),
        "pure": ("correctness", "min"),
        "trl": ("value", "last"),
        "sequence-classifier": ("outcome", "last"),
    }
    # A correct last step doesn't make up for a wrong one before it.
    assert not {how for label, how in table.values() if label == "correctness"} & {"last", "mean", "max"}
