"""Pages and pictures with a model's text in them: it stays text."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from journals import write

from tts_eval.journal import Record
from tts_eval.types import Candidate, Usage


Run = Callable[..., tuple[int, str, str]]

HOSTILE = (
    "<script>alert(1)</script>",
    "</script></style></svg><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><a href="javascript:alert(1)">x</a>',
    "<svg onload=alert(1)><text>javascript:alert(1)</text></svg>",
    "{{ 7919 * 7919 }}{% raw %}",
)


class Tags(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str):
        super().__init__()
        self.names: set[str] = set()
        self.values: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.values += attrs


def require_harmless(page: Path) -> None:
    text = page.read_text()
    seen = Tags(text)
    assert not seen.names & {"script", "img", "iframe", "object", "embed"}
    assert not any(name.startswith("on") or "javascript:" in (value or "") for name, value in seen.values)
    assert "62710561" not in text


@pytest.mark.parametrize("words", HOSTILE)
def test_show(words: str, tts_eval_command: Run, tmp_path: Path) -> None:
    candidate = Candidate(words, words, (words,), (0.5,), None, None, 1, "eos", 0, 0)
    record = Record(words, words, {"name": words}, 1, 0, (candidate,), Usage(), words, words)
    page = tmp_path / "page.html"
    status, _, err = tts_eval_command("show", write(tmp_path / "j.jsonl", record), "--uid", words, "--html", page)
    assert status == 0, err
    require_harmless(page)


def test_report(tts_eval_command: Run, tmp_path: Path) -> None:
    """Whatever a journal may name: problems, tasks, levels, strategies, answers."""
    for seed, words in enumerate(HOSTILE):
        records = [
            Record(
                f"{words}{index}",
                words,
                {"name": "best-of-n", "note": words},
                4,
                seed,
                tuple(
                    Candidate(f"{words}{i}", f"{words}{i}", (f"{words}{i}",), (i / 4,), None, None, 1, "eos", i, 0)
                    for i in range(4)
                ),
                Usage(),
                f"{words}{index % 4}",
                words,
            )
            for index in range(10)
        ]
        journal = write(tmp_path / f"j{seed}.jsonl", *records)
        status, _, err = tts_eval_command("report", journal, "--output", tmp_path / f"out{seed}")
        assert status == 0, err
        for page in (tmp_path / f"out{seed}").rglob("*.html"):
            require_harmless(page)
        for picture in (tmp_path / f"out{seed}").rglob("*.svg"):
            require_harmless(picture)
