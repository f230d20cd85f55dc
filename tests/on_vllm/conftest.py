"""Tests of vLLM have an environment of their own: `make test-vllm` (docs/vllm.md). Without vLLM there are none here."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import CONTEXT, Server


# Before vLLM is imported: a gigabyte of keys and values is ample for these runs.
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

collect_ignore_glob = [] if importlib.util.find_spec("vllm") else ["test_*.py"]


@pytest.fixture(scope="session")
def server(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with SmolLM2, whose recommended sampling, greedy, goes for what a request leaves open."""
    folder = tmp_path_factory.mktemp("served")
    for file in smollm2.iterdir():
        (folder / file.name).symlink_to(file)
    recommended = folder / "generation_config.json"
    values = json.loads(recommended.read_text())
    recommended.unlink()
    recommended.write_text(json.dumps(values | {"do_sample": True, "top_k": 1, "repetition_penalty": 2.0}))
    with Server(Path(sys.executable).with_name("vllm"), folder, tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def base(smollm2: Path) -> Iterator[Any]:
    """lm-eval's `vllm` model with SmolLM2, in this process."""
    from tts_eval.model_adapters.engines import build_base

    options = {"dtype": "float32", "enforce_eager": True, "max_model_len": CONTEXT, "disable_log_stats": False}
    # So few tokens a step that prompts have to wait, and would be read in pieces if they might.
    options |= {"enable_chunked_prefill": False, "max_num_batched_tokens": CONTEXT}
    base = build_base("vllm", {"pretrained": str(smollm2), **options}, {})
    yield base
    base.model.llm_engine.engine_core.shutdown()
