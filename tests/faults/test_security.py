"""Runs that would execute or give away what they must not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from forked import Run, Zygote
from models import as_pickle, copy, with_code
from page import FaultsPage
from runs import arguments, problems, require_equal, served
from stub_server import Stub


SECRET = "sk-4f1d0c2b9a7e"


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with Stub(slots=4) as started:
        yield started


def require_untold(run: Run, output: Path) -> None:
    """The secret is in nothing that the run wrote."""
    written = [path.read_text() for path in output.rglob("*") if path.is_file()]
    assert not any(SECRET in text for text in [run.out, run.err, *written])


def test_weights_in_a_pickle_are_refused(zygote: Zygote, whole: Path, page: FaultsPage, tmp_path: Path) -> None:
    model = as_pickle("base", tmp_path / "model")
    given = arguments(tmp_path / "out", pretrained=model)
    run = zygote.run(given)
    assert run.status == 1 and "use_safetensors=false" in run.line
    page.tell("pickle", given, run.line, tmp_path)
    zygote.done(arguments(tmp_path / "asked", pretrained=model, use_safetensors=False))
    require_equal(tmp_path / "asked", whole)


def test_so_are_those_of_a_verifier(zygote: Zygote, tmp_path: Path) -> None:
    verifier = as_pickle("prm", tmp_path / "verifier")
    run = zygote.run(arguments(tmp_path / "out", verifier=verifier))
    assert run.status == 1 and "verifier_pickle=true" in run.line
    zygote.done(arguments(tmp_path / "asked", verifier=verifier, verifier_pickle=True, limit=2))
    assert problems(tmp_path / "asked") == 2


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path):
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._mark}",)


def test_a_pickle_that_attacks_does_nothing_even_if_asked_for(zygote: Zygote, tmp_path: Path) -> None:
    model = copy("base", tmp_path / "model")
    (file,) = model.glob("*.safetensors")
    file.unlink()
    torch.save({"weight": Payload(tmp_path / "mark")}, model / "pytorch_model.bin")
    run = zygote.run(arguments(tmp_path / "out", pretrained=model, use_safetensors=False))
    assert run.status == 1 and run.line.startswith("tts-eval: ") and not (tmp_path / "mark").exists()


def test_a_model_s_own_code_is_not_run(zygote: Zygote, page: FaultsPage, tmp_path: Path) -> None:
    model = with_code("base", tmp_path / "model", tmp_path / "mark")
    given = arguments(tmp_path / "out", pretrained=model)
    run = zygote.run(given)
    assert run.status == 1 and "custom code" in run.line and not (tmp_path / "mark").exists()
    page.tell("remote", given, run.line, tmp_path)
    run = zygote.run(arguments(tmp_path / "out", verifier=model, verifier_format="trl"))
    assert run.status == 1 and run.line and not (tmp_path / "mark").exists()


def test_a_secret_in_the_arguments_is_refused(zygote: Zygote, stub: Stub, page: FaultsPage, tmp_path: Path) -> None:
    given = served(tmp_path, "http://localhost:8000/v1/completions", api_key=SECRET)
    run = zygote.run(given)
    assert run.status == 1 and run.line.startswith("tts-eval: api_key= ")
    require_untold(run, tmp_path)
    page.tell("secret", [word.replace(SECRET, "sk-...") for word in given], run.line, tmp_path)


@pytest.mark.parametrize("url", ["http://me:{}@localhost:9/v1/completions", "http://localhost:9/v1/completions?key={}"])
def test_so_is_one_in_an_address(url: str, zygote: Zygote, tmp_path: Path) -> None:
    run = zygote.run(served(tmp_path, url.format(SECRET)))
    assert run.status == 1 and run.line.startswith("tts-eval: base_url= ")
    require_untold(run, tmp_path)


def test_secrets_of_the_environment_are_used_and_written_nowhere(zygote: Zygote, stub: Stub, tmp_path: Path) -> None:
    given = served(tmp_path, f"{stub.completions}?key=${{STUB_KEY}}")
    at = given.index("--model_args") + 1
    named = dict(pair.split("=", 1) for pair in given[at].split(","))
    header = {"Authorization": "Bearer ${STUB_KEY}", "X-Route": "a"}
    given[at] = json.dumps({**named, "tokenized_requests": False, "budget": 4, "header": header})
    run = zygote.done(given, env={"STUB_KEY": SECRET})
    assert problems(tmp_path) == 6
    require_untold(run, tmp_path)
    missing = zygote.run(given)
    assert missing.status == 1 and "no such environment variable" in missing.line


@pytest.mark.parametrize("fault", ["401", "500"])
def test_the_key_is_not_in_errors(fault: str, zygote: Zygote, stub: Stub, tmp_path: Path) -> None:
    stub.set(share={fault: 1.0})
    run = zygote.run(served(tmp_path, stub.completions, max_retries=2), env={"OPENAI_API_KEY": SECRET})
    stub.set(share={})
    assert run.status == 1 and run.line
    require_untold(run, tmp_path)
