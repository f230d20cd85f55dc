from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tts_eval.cli import main
from tts_eval.tasks import documents


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no hub in this test")

    monkeypatch.setattr(documents, "load_dataset", refuse)


def test_all_tasks_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "tasks"]) == 0
    out = capsys.readouterr().out
    assert "tts_demo: ok, 12/12 golds equal themselves" in out
    assert "tts_gsm8k: skipped, can't load openai/gsm8k from the hub (no hub in this test); name a local copy" in out
    assert out.count("skipped") == 9
    assert "The first prompt of tts_demo:" in out
    assert "    Problem: What is $7 + 5$?" in out


def test_all_tasks_with_local_files(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    math, gsm8k = shared_data / "math" / "math500_test.jsonl", shared_data / "gsm8k" / "test.jsonl"
    assert main(["doctor", "tasks", "--metadata", f"math_file={math}", f"gsm8k_file={gsm8k}"]) == 0
    out = capsys.readouterr().out
    assert "tts_math500: ok, 500/500 golds equal themselves" in out
    assert "tts_gsm8k: ok, 1319/1319 golds equal themselves" in out
    assert "tts_micromath: ok, 500/500 golds equal themselves" in out
    assert out.count(": ok, ") == 11


def test_group_is_its_subjects(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "tasks", "tts_math"]) == 0
    assert capsys.readouterr().out.count("skipped") == 7


def test_broken_file_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text("{\n", encoding="utf-8")
    assert main(["doctor", "tasks", "tts_math500", "tts_demo", "--metadata", f"math_file={path}"]) == 1
    out = capsys.readouterr().out
    assert f"tts_math500: FAIL, {path}:1: not JSON" in out
    assert "tts_demo: ok" in out


def test_gold_that_does_not_equal_itself_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Strict:
        def grade(self, pairs: list[tuple[str, str]]) -> list[bool]:
            return [gold == "1" for gold, _ in pairs]

    monkeypatch.setattr("tts_eval.answers.default_grader", Strict)
    row = {"problem": "p", "solution": "s", "subject": "Algebra"}
    rows = [{**row, "answer": str(i), "unique_id": f"u/{i}"} for i in range(1, 7)]
    path = tmp_path / "six.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main(["doctor", "tasks", "tts_math500", "--metadata", f"math_file={path}"]) == 1
    out = capsys.readouterr().out
    assert "tts_math500: FAIL, 1/6 golds equal themselves, not those of u/2, u/3, u/4 and 2 more" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tts_mth500"], "'tts_mth500' is none of our tasks; did you mean 'tts_math500'?"),
        (["zzz"], "'zzz' is none of our tasks; ours are tts_demo, "),
        (["--metadata", "math_file"], "--metadata takes KEY=VALUE, not 'math_file'"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "tasks", *arguments]) == 1
    assert message in capsys.readouterr().err
