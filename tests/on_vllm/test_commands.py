"""The literal commands with vLLM: in process, and through `vllm serve`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import pytest
from serving import CONTEXT, NAME, Server
from transformers import LlamaForTokenClassification
from wide_toys import WIDE, llama, saved

from tts_eval.journal import Record, read_journal
from tts_eval.types import Usage


ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TASK = ROOT / "tasks/tts_demo/tts_demo.yaml"
BUDGET, STEP = 4, 24
PROBLEMS, TOKENS = 2, 64
STRATEGIES = {
    "tts-best-of-n": "",
    "tts-beam": f",width=2,max_step_tokens={STEP}",
    "tts-lookahead": f",width=2,lookahead=1,max_step_tokens={STEP}",
}


@dataclass(frozen=True)
class Run:
    """What a command has left behind."""

    records: tuple[Record, ...]

    @property
    def texts(self) -> list[str]:
        return [candidate.text for record in self.records for candidate in record.candidates]

    @property
    def usage(self) -> Usage:
        return reduce(add, (record.usage for record in self.records))


def lm_eval(model: str, base: str, output: Path, verifier: str, *, seed: int = 0) -> Run:
    """Runs two problems of the demo task by the `lm_eval` command."""
    arguments = f"{base},verifier={verifier},budget={BUDGET},seed={seed}{STRATEGIES[model]}"
    command = [
        *(BIN / "lm_eval", "--model", model, "--model_args", arguments, "--tasks", TASK),
        *("--limit", str(PROBLEMS), "--gen_kwargs", f"max_gen_toks={TOKENS}", "--output_path", output, "--log_samples"),
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = output.rglob("results_*.json")
    assert json.loads(results.read_text())["results"]["tts_demo"]["generations,none"] > 0
    (journal,) = output.rglob("candidates_*.jsonl")
    return Run(tuple(read_journal(journal)[1]))


def check(run: Run, *, stepwise: bool) -> None:
    """What holds of each run."""
    assert [len(record.candidates) for record in run.records] == [BUDGET] * PROBLEMS
    for record in run.records:
        # A search may well end with copies: equal prefixes have equal scores.
        assert stepwise or len({candidate.text for candidate in record.candidates}) > 1
        for candidate in record.candidates:
            assert candidate.tokens is not None and candidate.tokens <= TOKENS
            assert candidate.step_scores is not None and len(candidate.step_scores) == len(candidate.steps)
            assert "\n\nProblem:" not in candidate.text
            assert all(closed(step, stepwise) for step in candidate.steps[:-1])


def closed(step: str, stepwise: bool) -> bool:
    """Whether a step ends with the delimiter, or may have been cut by the limit: a token has a character at least."""
    return step.endswith("\n\n") or (stepwise and len(step) >= STEP)


def in_process(model: Path) -> str:
    options = ("dtype=float32", "enforce_eager=True", "enable_chunked_prefill=False", f"max_model_len={CONTEXT}")
    return ",".join((f"base=vllm,pretrained={model}", *options))


@pytest.fixture
def verifiers(smollm2: Path, tmp_path: Path) -> dict[str, str]:
    """A strategy's verifier: microMATH's, at home elsewhere but cheap; a language model; one that vLLM reads too."""
    folder = tmp_path / "random"
    saved(folder, LlamaForTokenClassification, llama(num_labels=2, **WIDE, max_position_embeddings=4096))
    options = "verifier_dtype=float32,verifier_enforce_eager=True"
    return {
        "tts-best-of-n": "micromath/prm",
        "tts-beam": f"{smollm2},verifier_format=generative",
        "tts-lookahead": f"{folder},verifier_format=trl,verifier_engine=vllm,{options}",
    }


@pytest.mark.timeout(700)
@pytest.mark.parametrize("model", STRATEGIES)
def test_in_process(model: str, verifiers: dict[str, str], smollm2: Path, tmp_path: Path) -> None:
    run = lm_eval(model, in_process(smollm2), tmp_path / "out", verifiers[model])
    check(run, stepwise=model != "tts-best-of-n")
    usage = run.usage
    assert usage.generations == PROBLEMS * BUDGET * (2 if model == "tts-lookahead" else 1)
    assert usage.verifier_tokens and usage.reused_tokens and usage.prefill_tokens
    assert bool(usage.lookahead_tokens) == (model == "tts-lookahead")


@pytest.fixture
def completions(server: Server, smollm2: Path) -> str:
    return f"base=local-completions,model={NAME},base_url={server.url}/v1/completions,tokenizer={smollm2}"


@pytest.mark.timeout(700)
@pytest.mark.parametrize("model", STRATEGIES)
def test_through_a_server(model: str, completions: str, server: Server, tmp_path: Path) -> None:
    before = server.counters()
    run = lm_eval(model, completions, tmp_path, "micromath/prm")
    counted = {name: value - before.get(name, 0.0) for name, value in server.counters().items()}
    check(run, stepwise=model != "tts-best-of-n")
    usage = run.usage
    assert usage.decode_tokens == counted["generation_tokens_total"]
    # The server counts the prompt for each of several samples. It doesn't say how much of it all but the last reused.
    assert usage.prefill_tokens and usage.reused_tokens and usage.verifier_reused_tokens is not None
    read = usage.prefill_tokens + usage.reused_tokens - usage.verifier_reused_tokens
    assert read == counted["prompt_tokens_total"]


@pytest.mark.timeout(700)
def test_seeds_give_other_samples(completions: str, tmp_path: Path) -> None:
    runs = [
        lm_eval("tts-best-of-n", completions, tmp_path / name, "micromath/prm", seed=seed)
        for name, seed in (("first", 1), ("again", 1), ("second", 2))
    ]
    first, again, second = (run.texts for run in runs)
    assert first == again
    assert not same(first, second)


def same(texts: Iterable[str], others: Iterable[str]) -> bool:
    """Whether most of the texts are among the others."""
    texts, others = list(texts), set(others)
    return sum(text in others for text in texts) > len(texts) / 2
