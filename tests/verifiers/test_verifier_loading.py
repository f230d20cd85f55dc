from __future__ import annotations

import json
from pathlib import Path

import pytest
from toys import PROBLEM, STEPS, llama, prefix, saved, tokenizer
from transformers import LlamaForCausalLM, LlamaForTokenClassification

from tts_eval.types import TtsEvalError
from tts_eval.verifiers import load_verifier


@pytest.mark.parametrize(
    ("mark", "family"),
    [("<extra_0>", "qwen-prm"), ("<extra_0>", "reasonflux"), ("ки", "math-shepherd")],
)
def test_a_tokenizer_without_the_mark_of_a_step(tmp_path: Path, mark: str, family: str) -> None:
    saved(tmp_path, LlamaForCausalLM, llama(), without=(mark,))
    message = f"the tokenizer has no token '{mark}', so .* is not of format {family}: give verifier_format=, one of"
    with pytest.raises(TtsEvalError, match=message):
        load_verifier(str(tmp_path), family)


@pytest.mark.parametrize("family", ["rlhflow-deepseek", "qwen-prm", "implicit", "sequence-classifier"])
def test_a_tokenizer_without_a_chat_template(tmp_path: Path, family: str) -> None:
    saved(tmp_path, LlamaForCausalLM, llama(), chat=False)
    reference = str(tmp_path) if family == "implicit" else None
    with pytest.raises(TtsEvalError, match=f"no chat template, so .* is not of format {family}"):
        load_verifier(str(tmp_path), family, reference=reference)


def test_a_chat_template_that_changes_the_answer(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForCausalLM, llama())
    tok = tokenizer()
    tok.chat_template = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
    tok.save_pretrained(tmp_path)
    with pytest.raises(TtsEvalError, match="chat template changes the answer"):
        load_verifier(str(tmp_path), "implicit", reference=str(tmp_path))
    tok.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}:{% endif %}"
    tok.save_pretrained(tmp_path)
    with pytest.raises(TtsEvalError, match=r"leaves no token of its own to the answer '\+'"):
        load_verifier(str(tmp_path), "rlhflow-mistral")


@pytest.mark.parametrize(
    ("family", "weight"),
    [
        ("qwen-prm", "score.0.bias, score.0.weight, score.2.bias and 7 more"),
        ("skywork", "v_head.summary.bias, v_head.summary.weight, "),
        ("trl", "score.bias, score.weight"),
        ("pure", "score.bias, score.weight"),
        ("sequence-classifier", "score.weight"),
    ],
)
def test_a_head_is_never_drawn_at_random(tmp_path: Path, family: str, weight: str) -> None:
    """Transformers only warns when a checkpoint lacks the head that it is asked for."""
    saved(tmp_path, LlamaForCausalLM, llama())
    with pytest.raises(TtsEvalError, match=f"has no weights named {weight}.*, so .* is not of format {family}"):
        load_verifier(str(tmp_path), family)


def test_another_number_of_labels(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForTokenClassification, llama(num_labels=3))
    with pytest.raises(TtsEvalError, match="has 3 labels a token instead of 2, so"):
        load_verifier(str(tmp_path), "trl")


def test_a_format_must_be_known_or_found(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForTokenClassification, llama(num_labels=1))
    for family in (None, "ours"):
        with pytest.raises(TtsEvalError, match=r"doesn't say how it is read.* one of ours, .* pure, trl"):
            load_verifier(str(tmp_path), family)
    with pytest.raises(TtsEvalError, match="unknown verifier_format=qwen; choose from ours, math-shepherd"):
        load_verifier(str(tmp_path), "qwen")


def test_what_our_config_says_is_checked(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForTokenClassification, llama(num_labels=1, tts_eval={"kind": "PRM", "step_delimiter": "\n"}))
    with pytest.raises(TtsEvalError, match=r"config\.json: tts_eval\.kind must be prm or orm"):
        load_verifier(str(tmp_path))


def test_a_reference_belongs_to_implicit_rewards(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForCausalLM, llama())
    with pytest.raises(TtsEvalError, match="format implicit: name the model that it was tuned from by verifier_refer"):
        load_verifier(str(tmp_path), "implicit")
    with pytest.raises(TtsEvalError, match="format math-shepherd: nothing is compared here, drop verifier_reference="):
        load_verifier(str(tmp_path), "math-shepherd", reference=str(tmp_path))


def test_a_folder_that_is_not_there_or_not_whole(tmp_path: Path) -> None:
    with pytest.raises(TtsEvalError, match="can't read the verifier"):
        load_verifier(str(tmp_path / "absent"))
    with pytest.raises(TtsEvalError, match="can't load the tokenizer"):
        load_verifier(str(tmp_path / "absent"), "trl")
    saved(tmp_path, LlamaForTokenClassification, llama(num_labels=2))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(TtsEvalError, match=r"can't load .* in format trl: .* no file named model.safetensors"):
        load_verifier(str(tmp_path), "trl")


def test_what_remote_code_would_be_asked_for_is_not_run(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForTokenClassification, llama(num_labels=2))
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModelForTokenClassification": "evil.Remote", "AutoConfig": "evil.Config"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit('remote code ran')")
    assert len(load_verifier(str(tmp_path), "trl").score([(PROBLEM, prefix(*STEPS))])[0][0]) == 3


def test_a_chat_template_that_refuses_a_system_message(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForCausalLM, llama())
    tok = tokenizer()
    tok.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tok.save_pretrained(tmp_path)
    with pytest.raises(TtsEvalError, match=r"template refuses the format's chat \(no system role\), so .* qwen-prm"):
        load_verifier(str(tmp_path), "qwen-prm")
