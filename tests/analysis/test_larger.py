"""The larger model's run: whose answers are read, and by which name a problem is found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tts_eval.analysis.larger import read_plain_run
from tts_eval.types import TtsEvalError


TIME = "2026-01-01T00-00-00.000000"


def write_samples(folder: Path, name: str, *samples: dict[str, Any]) -> None:
    (folder / f"samples_{name}.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))


def sample(prompt_hash: str, right: float, **others: Any) -> dict[str, Any]:
    return {"doc": {}, "doc_hash": "d", "prompt_hash": prompt_hash, "exact_match": right, **others}


def test_a_problem_without_unique_id_goes_by_its_prompt_as_in_our_journals(tmp_path: Path) -> None:
    named = sample("c", 1.0, doc={"unique_id": 7})
    unnamed = sample("d", 0.0, doc={"unique_id": None})
    write_samples(tmp_path, f"gsm8k_{TIME}", sample("a", 1.0), sample("b", 0.0), named, unnamed)
    assert read_plain_run(tmp_path, "gsm8k").correct == {"a": 1.0, "b": 0.0, "7": 1.0, "d": 0.0}


def test_another_task_s_samples_aren_t_this_one_s(tmp_path: Path) -> None:
    write_samples(tmp_path, f"gsm8k_{TIME}", sample("a", 1.0))
    write_samples(tmp_path, f"gsm8k_cot_{TIME}", sample("a", 0.0))
    assert read_plain_run(tmp_path, "gsm8k").correct == {"a": 1.0}
    assert read_plain_run(tmp_path, "gsm8k_cot").correct == {"a": 0.0}
    with pytest.raises(TtsEvalError, match=r"no samples_gsm8_\*\.jsonl"):
        read_plain_run(tmp_path, "gsm8")


def test_of_several_filters_the_kindest_to_the_larger_model_is_taken_whole(tmp_path: Path) -> None:
    strict = [sample("a", 0.0, filter="strict"), sample("b", 1.0, filter="strict"), sample("c", 0.0, filter="strict")]
    flexible = [sample(of, right, filter="flexible") for of, right in (("a", 1.0), ("b", 0.0), ("c", 1.0))]
    write_samples(tmp_path, f"gsm8k_{TIME}", *strict, *flexible)
    found = read_plain_run(tmp_path, "gsm8k")
    assert found.correct == {"a": 1.0, "b": 0.0, "c": 1.0}
    assert found.notes == ("--larger: of lm-eval's filters strict, flexible the kindest to it is taken, flexible",)
    write_samples(tmp_path, f"gsm8k_{TIME}", *flexible)
    assert read_plain_run(tmp_path, "gsm8k").notes == ()
