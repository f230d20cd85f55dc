"""`tts-eval show` from the command line: the tree in the terminal and as a page, and what it says when it can't."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest
from journals import write

from tts_eval.journal import Node, Record
from tts_eval.types import Candidate, Usage


Run = Callable[..., tuple[int, str, str]]

NODES = (
    Node((0,), 0, ("2*3=6\n",), (0.75,)),
    Node((1,), 0, ("2*3=5\n",), (0.125,)),
    Node((2,), 0, ("2*3=5\n",), (0.125,)),
    Node((0, 0), 1, ("6+1=8",), (0.25,), "eos"),
    Node((0, 0), 0, ("6+1=7",), (0.875,), "eos", 0),
    Node((0, 1), 0, ("6+1=8",), (0.25,), "length", 1),
)


def candidate(last: str, score: float | None, index: int = 0) -> Candidate:
    scores = None if score is None else (0.75, score)
    answer = last[-1] if last else None
    return Candidate(f"2*3=6\n{last}", answer, ("2*3=6\n", last), scores, None, None, 9, "eos", index, 0)


def record(uid: str = "p/1", **changes: object) -> Record:
    candidates = candidate("6+1=7", 0.875), candidate("6+1=8", 0.25, 1)
    strategy = {"name": "beam", "width": 2, "aggregation": "last"}
    return replace(Record(uid, "toy", strategy, 2, 0, candidates, Usage(), "7", 3, nodes=NODES), **changes)


@pytest.fixture
def run(tts_eval_command: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "100")
    return partial(tts_eval_command, "show")


def test_tree_of_a_transcript(tmp_path: Path, run: Run) -> None:
    assert run(write(tmp_path / "j.jsonl", record()), "--uid", "p/1") == (
        0,
        """\
toy, p/1, level 3
beam, budget 2, seed 0, width=2, aggregation='last'
2 solutions; 5 extensions sampled, 2 dropped; 1 steps of rollouts
selected: 7 of #0 (best_of_n_weighted, last), right; gold: 7

prompt  [3 children]
├─ 0.750  2*3=6  [2 children]
│  ├┄ 0.250  6+1=8  [end of rollout]
│  ├─ 0.875  6+1=7  [#0 = 7, right, selected]
│  └─ 0.250  6+1=8  [#1 = 8, wrong; cut off]
└─ 0.125  2*3=5  [dropped, 2 times]

answer    solutions    sum of scores    verdict
--------  -----------  ---------------  ---------  --------
7         1            0.875            right      selected
8         1            0.250            wrong
""",
        "",
    )


def test_tree_of_candidates_alone(tmp_path: Path, run: Run) -> None:
    unscored = tuple(replace(c, step_scores=None) for c in record().candidates)
    path = write(tmp_path / "j.jsonl", record(nodes=None, gold=None, level=None, candidates=unscored))
    out = run(path, "--uid", "p/1")[1]
    assert out.splitlines()[2:] == [
        "2 solutions, without what the search dropped (transcript=true keeps it)",
        "selected: 7 of #0 (majority)",
        "",
        "prompt  [1 child]",
        "└─     -  2*3=6  [2 children]",
        "   ├─     -  6+1=7  [#0 = 7, selected]",
        "   └─     -  6+1=8  [#1 = 8]",
        "",
        "answer    solutions",
        "--------  -----------  --------",
        "7         1            selected",
        "8         1",
    ]


def test_selection_and_aggregation(tmp_path: Path, run: Run) -> None:
    low_first = record(candidates=(candidate("6+1=7", 0.5), candidate("6+1=8", 0.625)))
    path = write(tmp_path / "j.jsonl", low_first)
    assert "selected: 8 of #1 (best_of_n_weighted, last), wrong" in run(path, "--uid", "p/1")[1]
    assert (
        "selected: 7 of #0 (best_of_n, max), right"
        in run(path, "--uid", "p/1", "--selection", "best_of_n", "--aggregation", "max")[1]
    )


def test_a_models_text_stays_on_its_line_and_within_the_terminal(tmp_path: Path, run: Run) -> None:
    nasty = "\x1b[2Ja\r\nb\u202e" + "x" * 300
    nodes = (replace(NODES[0], steps=(nasty,)), *NODES[1:])
    candidates = (replace(candidate("7", 0.5), answer="7\x1b]0;\x07"), candidate("8", 0.5))
    out = run(write(tmp_path / "j.jsonl", record(nodes=nodes, candidates=candidates)), "--uid", "p/1")[1]
    (line,) = [line for line in out.splitlines() if "xxx" in line]
    assert line.startswith("├─ 0.750  \\x1b[2Ja\\r\\nb\\u202exx") and line.endswith("x…  [2 children]")
    assert len(line) == 100
    assert "\x1b" not in out and "#0 = 7\\x1b]0;\\x07" in out
    listed = run(tmp_path / "j.jsonl")[1]
    assert "\x1b" not in listed


class Page(HTMLParser):
    """Counts tags, and checks that each that opens is closed in its turn."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page(tmp_path: Path, run: Run) -> None:
    path, page = write(tmp_path / "j.jsonl", record()), tmp_path / "tree.html"
    assert run(path, "--uid", "p/1", "--html", page) == (0, "", "")
    text = page.read_text()
    seen = Page(text).seen
    assert seen.count("details") == 2, "the prompt and the one branch with children"
    assert seen.count("li") == 6 and "script" not in seen and "link" not in seen
    assert 'style="--score: 0.875">0.875<' in text and "dropped, 2 times" in text
    assert text.count('selected">') == 1 and "http" not in text


def test_page_of_hostile_text(tmp_path: Path, run: Run) -> None:
    script = "<script>alert(1)</script></details>\"'{{ 7 * 7 }}"
    nodes = (replace(NODES[0], steps=(script,)), *NODES[1:])
    candidates = (replace(candidate("7", 0.5), answer=script), candidate("8", 0.5))
    hostile = record(nodes=nodes, uid=script, gold=script, candidates=candidates, strategy={"name": script})
    page = tmp_path / "tree.html"
    assert run(write(tmp_path / "j.jsonl", hostile), "--uid", script, "--html", page)[0] == 0
    text = page.read_text()
    assert "script" not in Page(text).seen and "&lt;script&gt;alert(1)" in text and "{{ 7 * 7 }}" in text


def test_page_of_a_very_deep_tree(tmp_path: Path, run: Run) -> None:
    deep = tuple(Node((0,) * depth, 0, ("a",)) for depth in range(1, 1101))
    page = tmp_path / "tree.html"
    assert run(write(tmp_path / "j.jsonl", record(nodes=deep)), "--uid", "p/1", "--html", page)[0] == 0
    assert Page(page.read_text()).seen.count("li") == 1101


def test_list(tmp_path: Path, run: Run) -> None:
    lost = record("p/2", gold="8", nodes=None)
    hopeless = record("p/3", gold="9", candidates=(candidate("", None),), nodes=None)
    unknown = record("p/4", gold=None)
    write(tmp_path / "candidates_toy_1.jsonl", record(), lost, hopeless, unknown)
    status, out, _ = run(tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()]
    assert status == 0 and rows[0] == ["uid", "candidates", "answers", "selected", "gold", "verdict", "nodes"]
    assert rows[2:] == [
        ["p/1", "2", "2", "7", "7", "right", "6"],
        ["p/2", "2", "2", "7", "8", "wrong, right was there", ""],
        ["p/3", "1", "0", "", "9", "wrong", ""],
        ["p/4", "2", "2", "7", "", "", "6"],
    ]


def test_gold_from_the_samples_beside_the_journal(tmp_path: Path, run: Run) -> None:
    path = write(tmp_path / "candidates_toy_1.jsonl", record(gold=None, level=None))
    sample = {"doc": {"unique_id": "p/1", "level": 5}, "target": "8", "prompt_hash": "0" * 64}
    (tmp_path / "samples_toy_2026-01-01T00-00-09.123456.jsonl").write_text(json.dumps(sample) + "\n")
    out = run(path, "--uid", "p/1")[1]
    assert out.startswith("toy, p/1, level 5\n") and "(best_of_n_weighted, last), wrong; gold: 8" in out


def test_what_cannot_be_shown_is_one_clear_line(tmp_path: Path, run: Run) -> None:
    path = write(tmp_path / "candidates_1.jsonl", *(record(f"test/{n}.json", nodes=None) for n in (11, 12, 99)))
    status, out, err = run(path, "--uid", "test/13.json")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "no problem test/13.json in" in err and "the nearest are test/1" in err and "leave --uid out" in err
    assert "--html shows one problem: add --uid" in run(path, "--html", tmp_path / "x.html")[2]
    nowhere = tmp_path / "no" / "x.html"
    assert "choose a file that can be written" in run(path, "--uid", "test/11.json", "--html", nowhere)[2]
    write(tmp_path / "candidates_2.jsonl", record())
    status, _, err = run(tmp_path)
    assert status == 1 and "holds 2 journals; name one of them" in err and str(path) in err
    assert "check the path" in run(tmp_path / "absent")[2]
