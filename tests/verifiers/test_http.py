"""Verifiers behind a server: rendered here, read there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_server import Stub, probability
from toys import OTHER, PROBLEM, STEPS, prefix, tokenizer

from tts_eval.model_adapters.verifiers import build_verifier
from tts_eval.types import Prefix, TtsEvalError, Usage, Verifier
from tts_eval.verifiers.formats import FORMATS, own_format
from tts_eval.verifiers.http import endpoints, read_outputs


@pytest.fixture
def stub(recording_stub: Stub) -> Stub:
    """The server, as it was when it started."""
    recording_stub.set(next=[], step_token=None)
    return recording_stub


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer().save_pretrained(path)
    return path


def connect(url: str, format: str | None, folder: Path, **changes: Any) -> Verifier:
    arguments = {"verifier": url, "verifier_format": format, "verifier_tokenizer": str(folder)}
    common: dict[str, Any] = {"verifier_reference": None, "noise": 0.0, "seed": 0}
    verifier = build_verifier(common | arguments | changes)
    assert verifier is not None
    return verifier


def expected(family: str, *steps: str) -> tuple[float, ...]:
    rendered = FORMATS[family].render(tokenizer(), PROBLEM, steps)
    return tuple(probability(rendered.ids[at], at) for at in rendered.positions)


@pytest.mark.parametrize("family", ["qwen-prm", "reasonflux", "pure", "trl"])
def test_steps_are_read_at_the_rendered_positions(family: str, stub: Stub, folder: Path) -> None:
    ((scores, cost),) = connect(f"{stub.url}/v1", family, folder).score([(PROBLEM, prefix(*STEPS))])
    assert scores == pytest.approx(expected(family, *STEPS))
    sent = stub.received()[-1]
    assert sent["task"] == "token_classify" and len(sent["input"]) == cost.verifier_tokens


def test_step_pooling_gives_the_steps_alone(stub: Stub, folder: Path) -> None:
    stub.set(step_token=tokenizer().convert_tokens_to_ids("<extra_0>"))
    ((scores, _),) = connect(f"{stub.url}/pooling", "qwen-prm", folder).score([(PROBLEM, prefix(*STEPS))])
    assert scores == pytest.approx(expected("qwen-prm", *STEPS))
    stub.set(step_token=tokenizer().convert_tokens_to_ids("<|im_start|>"))
    with pytest.raises(TtsEvalError, match=r"p: the verifier's engine gives 3 outputs for \d+ tokens with 2 read"):
        connect(stub.url, "qwen-prm", folder).score([(PROBLEM, prefix(*STEPS[:2]))])


def test_an_outcome_verifier_is_read_at_its_last_token(stub: Stub, folder: Path) -> None:
    verifier = connect(f"{stub.url}/v1/", "sequence-classifier", folder)
    ((scores, _),) = verifier.score([(PROBLEM, prefix(*STEPS))])
    assert (verifier.kind, scores) == ("outcome", pytest.approx(expected("sequence-classifier", *STEPS)))


def test_equal_solutions_are_read_once_and_one_without_steps_never(stub: Stub, folder: Path) -> None:
    before = stub.stats()["prompt_tokens"]
    items = [(PROBLEM, prefix(*STEPS)), (OTHER, prefix("a\n\n")), (PROBLEM, prefix(*STEPS)), (PROBLEM, Prefix())]
    first, other, again, empty = connect(stub.url, "pure", folder).score(items)
    assert first[0] == again[0] and empty[0] == () and len(other[0]) == 1
    read = stub.stats()["prompt_tokens"] - before
    cost = sum((cost for _, cost in (first, other, again, empty)), Usage())
    assert (cost.verifier_tokens, cost.reused_tokens) == (read, first[1].verifier_tokens)


def test_failed_tries_are_made_again_and_noise_is_put_on(stub: Stub, folder: Path) -> None:
    stub.set(next=["truncated", "500"])
    stub.set(next=["malformed", "500"])
    ((scores, _),) = connect(stub.url, "trl", folder, noise=1.0).score([(PROBLEM, prefix(*STEPS))])
    assert scores == pytest.approx(tuple(1 - one for one in expected("trl", *STEPS)))


def test_ours_without_likelihood_is_read_from_the_tokenizers_folder(stub: Stub, tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    own = {"kind": "prm", "step_delimiter": "\n\n"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "tts_eval": own}))
    ((scores, _),) = connect(stub.url, None, tmp_path).score([(PROBLEM, prefix("a\n\n", "b\n\n"))])
    rendered = own_format("prm", "\n\n").render(tokenizer(), PROBLEM, ("a\n\n", "b\n\n"))
    assert len(scores) == len(rendered.positions)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "tts_eval": {**own, "likelihood": 0.5}}))
    with pytest.raises(TtsEvalError, match=r"trained with --likelihood needs more.*load the model here"):
        connect(stub.url, None, tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verifier_format": "skywork"}, r"format skywork needs more than the classes.*load the model here"),
        ({"verifier_format": "nonsense"}, r"unknown verifier_format=nonsense; choose from"),
        ({"verifier_tokenizer": None}, r"name the tokenizer of its model by verifier_tokenizer="),
        ({"verifier_reference": "x"}, r"verifier_reference= is for a verifier that is loaded here"),
        ({"verifier_dtype": "float32"}, r"verifier_dtype= is for a verifier that is loaded here"),
        ({"verifier": "http://h/score"}, r"verifier=http://h/score: format trl is read at /pooling, not there"),
        ({"verifier": "http://"}, r"verifier=http:// is no address of a server"),
        ({"verifier": "micromath/prm"}, r"verifier_tokenizer= is for a verifier behind a server"),
        ({"verifier_engine": "vllm"}, r"verifier_engine= is for a verifier that is loaded here, not behind a server"),
        ({"verifier": None}, r"verifier_format= says how a verifier is used, but there is none"),
    ],
)
def test_what_cannot_be_is_refused_with_the_mend(changes: dict[str, Any], words: str, folder: Path) -> None:
    with pytest.raises(TtsEvalError, match=words):
        connect("http://h/v1", "trl", folder, **changes)


def test_endpoints() -> None:
    found = endpoints("http://a:1/v1|http://b/pooling|http://c/x/", FORMATS["trl"])
    assert found == ["http://a:1/pooling", "http://b/pooling", "http://c/x/pooling"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["data", "probs", "usage"]), inner),
)


@given(JSON | st.fixed_dictionaries({"data": st.lists(JSON, min_size=1, max_size=1)}, optional={"usage": JSON}))
def test_any_reply_is_read_or_refused(reply: Any) -> None:
    try:
        outputs = read_outputs(reply)
    except ValueError:
        return
    assert outputs.rows and all(isinstance(value, float) for row in outputs.rows for value in row)
