"""The step-wise strategies as lm-eval sees them: their arguments, what they refuse, and what they write down."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForTokenClassification, PreTrainedTokenizerFast

from tts_eval.journal import Record, read_journal
from tts_eval.micro.problems import draw_problem
from tts_eval.model_adapters.step_search import Beam, Dvts, Lookahead, Rebase, StepSearch
from tts_eval.types import Prefix, Problem, TtsEvalError
from tts_eval.verifiers import load_verifier


ROOT = Path(__file__).parents[2]
MODELS = {"pretrained": "micromath/base", "verifier": "micromath/prm", "temperature": 1.0, "step_delimiter": "\\n"}
NO_MODEL = {"base": "dummy", "model": "none"}
STRATEGIES: list[tuple[type[StepSearch], dict[str, Any]]] = [
    (Beam, {"width": 2}),
    (Lookahead, {"width": 2, "lookahead": 1}),
    (Dvts, {"width": 2}),
    (Rebase, {}),
]
PROMPTS = {f"u{seed}": f"{draw_problem(random.Random(seed), 'Algebra', 3).problem}\n" for seed in range(2)}

any_strategy = pytest.mark.parametrize(("kind", "own"), STRATEGIES, ids=[kind.NAME for kind, _ in STRATEGIES])


def adapter(kind: type[StepSearch], **arguments: Any) -> StepSearch:
    return kind({**MODELS, "budget": 4, **arguments}, {"device": "cpu"})


def search(kind: type[StepSearch], path: Path, **arguments: Any) -> list[Record]:
    """The records of two problems."""
    generation = {"until": ["\n\n"], "max_gen_toks": 60}
    requests = [
        Instance("generate_until", {"unique_id": uid}, (prompt, generation), 0, ("t", 0, 1))
        for uid, prompt in PROMPTS.items()
    ]
    adapter(kind, **arguments, journal=str(path)).generate_until(requests, disable_tqdm=True)
    return read_journal(path)[1]


def total(records: list[Record], *columns: str) -> int:
    return sum(getattr(record.usage, column) for record in records for column in columns)


@any_strategy
def test_a_verifier_is_a_must(kind: type[StepSearch], own: Mapping[str, Any]) -> None:
    with pytest.raises(TtsEvalError, match=f"{kind.NAME} searches against a verifier: add verifier="):
        adapter(kind, **own, verifier=None)


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (Beam, {"width": 0}, "width=0 should be a whole number of at least 1, or sqrt: change it in --model_args"),
        (Beam, {"width": "x"}, "width=x should be a whole number of at least 1, or sqrt"),
        (Dvts, {"width": 2.5}, "width=2.5 should be a whole number of at least 1, or sqrt"),
        (Lookahead, {}, "the argument lookahead= is missing"),
        (Lookahead, {"lookahead": -1.0}, "lookahead=-1.0 should be a whole number of at least 0"),
        (Rebase, {"softmax_temperature": 0}, "softmax_temperature=0 should be a number of at least 1e-06"),
        (Beam, {"max_steps": 0}, "max_steps=0 should be a whole number of at least 1"),
        (Beam, {"max_step_tokens": "many"}, "max_step_tokens=many should be a whole number of at least 1"),
        (Beam, {"widht": 4}, "did you mean width="),
        (Beam, {"budget": None}, "budget=None should be a whole number of at least 1"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_it_should_be(
    kind: type[StepSearch], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(TtsEvalError, match=words):
        adapter(kind, **arguments)


@pytest.mark.parametrize(
    ("budget", "width", "expected"),
    [(16, "sqrt", 4), (10, "sqrt", 3), (1, "sqrt", 1), (3, 4, 4), (16, 4.0, 4)],
)
def test_the_width_is_a_number_or_the_root_of_the_budget(budget: int, width: Any, expected: int) -> None:
    assert adapter(Beam, **NO_MODEL, budget=budget, width=width).width == expected


@any_strategy
@pytest.mark.parametrize(
    "base",
    [
        NO_MODEL,
        {"base": "local-chat-completions", "model": "m", "base_url": "http://127.0.0.1:9", "tokenizer_backend": "none"},
    ],
    ids=["text", "chat"],
)
def test_a_base_that_cannot_go_on_from_a_prefix_is_refused_with_the_mend(
    kind: type[StepSearch], own: Mapping[str, Any], base: dict[str, Any]
) -> None:
    searching = kind({"verifier": "micromath/prm", "budget": 4, **own, **base})
    request = Instance("generate_until", {"unique_id": "u"}, ("1+1\n", {"until": ["Q:"]}), 0, ("t", 0, 1))
    with pytest.raises(TtsEvalError, match=r"can't go on from a partial.*tts-best-of-n.*base=hf"):
        searching.generate_until([request], disable_tqdm=True)


@any_strategy
@pytest.mark.parametrize(("stop", "delimiter"), [("\n\n", "\n\n"), ("\n", "\n\n"), ("##", "\n##\n")])
def test_a_stop_string_within_the_delimiter_is_refused(
    kind: type[StepSearch], own: Mapping[str, Any], stop: str, delimiter: str
) -> None:
    """Each solution would end before its first step does, and the search be best-of-N."""
    searching = adapter(kind, **NO_MODEL, **own, step_delimiter=delimiter)
    request = Instance("generate_until", {"unique_id": "u"}, ("1+1\n", {"until": ["Q:", stop]}), 0, ("t", 0, 1))
    words = f"task t ends a solution at {stop!r}, which is part of step_delimiter={delimiter!r}, so no step would ever"
    with pytest.raises(TtsEvalError, match=f"{re.escape(words)}.*choose another step_delimiter=.*until="):
        searching.generate_until([request], disable_tqdm=True)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Beam, {"width": 2}),
        (Beam, {"width": "sqrt"}),
        (Beam, {"aggregation": "min"}),
        (Beam, {"max_steps": 7}),
        (Beam, {"max_step_tokens": 7}),
        (Beam, {"step_delimiter": ";"}),
        (Lookahead, {"lookahead": 2}),
        (Lookahead, {"width": 2}),
        (Dvts, {"width": 2}),
        (Rebase, {"softmax_temperature": 0.5}),
    ],
)
def test_what_decides_the_candidates_is_the_runs_identity(kind: type[StepSearch], change: dict[str, Any]) -> None:
    own = NO_MODEL | ({"lookahead": 1} if kind is Lookahead else {})
    one, other = adapter(kind, **own).identity(), adapter(kind, **(own | change)).identity()
    (name,) = change
    assert one["strategy"]["name"] == kind.NAME
    assert one["strategy"].pop(name) != other["strategy"].pop(name)
    assert one == other


def test_what_only_costs_or_is_decided_late_is_no_part_of_it() -> None:
    other = adapter(Beam, **NO_MODEL, cache_gb=0.1, selection="best_of_n", journal="elsewhere.jsonl")
    assert other.identity() == adapter(Beam, **NO_MODEL).identity()


def test_the_journal_of_another_width_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    search(Beam, path, width=4)
    with pytest.raises(TtsEvalError, match=r"strategy.width is 4 there and 2 here"):
        search(Beam, path, width=2)


@any_strategy
def test_less_cache_costs_reading_and_nothing_else(
    kind: type[StepSearch], own: Mapping[str, Any], tmp_path: Path
) -> None:
    cached = search(kind, tmp_path / "cached.jsonl", **own)
    uncached = search(kind, tmp_path / "uncached.jsonl", **own, cache_gb=0)
    for one, other in zip(cached, uncached, strict=True):
        assert [candidate.text for candidate in one.candidates] == [candidate.text for candidate in other.candidates]
        for mine, theirs in zip(one.candidates, other.candidates, strict=True):
            assert mine.step_scores == pytest.approx(theirs.step_scores, abs=1e-4)
    assert total(cached, "prefill_tokens") < total(uncached, "prefill_tokens")
    assert total(cached, "verifier_tokens") < total(uncached, "verifier_tokens")
    as_if_uncached = [
        total(records, "prefill_tokens", "reused_tokens") - total(records, "verifier_reused_tokens")
        for records in (cached, uncached)
    ]
    assert as_if_uncached[0] == as_if_uncached[1]


@any_strategy
def test_the_ledger_of_a_record(kind: type[StepSearch], own: Mapping[str, Any], tmp_path: Path) -> None:
    for record in search(kind, tmp_path / "j.jsonl", **own, max_steps=3, max_step_tokens=20):
        usage = record.usage
        assert record.budget == len(record.candidates) == 4
        assert all(len(candidate.steps) <= 3 for candidate in record.candidates)
        assert usage.generations == 4 * (1 + own.get("lookahead", 0))
        assert usage.decode_tokens >= usage.lookahead_tokens
        assert (usage.lookahead_tokens > 0) == (kind is Lookahead)
        # What was written at most: every step of every place.
        assert usage.decode_tokens - usage.lookahead_tokens <= 4 * 3 * 20
        assert usage.verifier_tokens > 0 and usage.verifier_reused_tokens <= usage.reused_tokens


@pytest.fixture(scope="module")
def byte_verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random process verifier of ours, whose tokens are bytes."""
    backend = Tokenizer(BPE({letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}, []))
    backend.pre_tokenizer, backend.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": 256, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    config = LlamaConfig(**size, **tokens, num_labels=1, initializer_range=0.5)
    config.tts_eval = {"kind": "prm", "step_delimiter": "\n"}
    folder = tmp_path_factory.mktemp("bytes")
    LlamaForTokenClassification(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    return folder


@any_strategy
def test_a_verifier_may_have_another_tokenizer(
    kind: type[StepSearch], own: Mapping[str, Any], byte_verifier: Path, tmp_path: Path
) -> None:
    """It is given text, cut at the ends of steps."""
    verifier = load_verifier(str(byte_verifier))
    for record in search(kind, tmp_path / "j.jsonl", **own, verifier=str(byte_verifier)):
        problem = Problem(record.uid, PROMPTS[record.uid], (), 60)
        assert max(len(candidate.steps) for candidate in record.candidates) > 1
        for candidate in record.candidates:
            ((scores, _),) = verifier.score([(problem, Prefix(steps=candidate.steps))])
            assert candidate.step_scores == pytest.approx(scores, abs=1e-4)


@pytest.mark.timeout(900)
def test_the_literal_command_on_a_real_model(smollm2: Path, tmp_path: Path) -> None:
    arguments = {"pretrained": smollm2, "verifier": smollm2, "verifier_format": "generative"}
    arguments |= {"budget": 4, "width": 2, "max_step_tokens": 12}
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("lm_eval")), "--model", "tts-beam", "--limit", "1"),
            *("--model_args", ",".join(f"{key}={value}" for key, value in arguments.items())),
            *("--tasks", str(ROOT / "tasks/tts_demo/tts_demo.yaml"), "--gen_kwargs", "max_gen_toks=24"),
            *("--log_samples", "--output_path", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (journal,) = tmp_path.rglob("candidates_*.jsonl")
    ((record,), (results,)) = read_journal(journal)[1], tmp_path.rglob("results_*.json")
    assert json.loads(results.read_text())["results"]["tts_demo"]["generations,none"] == 4
    assert len(record.candidates) == 4
    for candidate in record.candidates:
        assert candidate.tokens is not None and candidate.tokens <= 24
        assert candidate.step_scores is not None and len(candidate.step_scores) == len(candidate.steps)
        assert all(0 < score < 1 for score in candidate.step_scores)
    assert record.usage.reused_tokens > record.usage.prefill_tokens
