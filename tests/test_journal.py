"""The journal keeps what was paid for: it survives every crash and refuses to mix runs."""

from __future__ import annotations

import json
import multiprocessing
import resource
import signal
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.journal import Journal, Record, find_journal, journal_path, read_journal
from tts_eval.jsonl import Header
from tts_eval.types import Candidate, TtsEvalError, Usage


HEADER = Header(
    {
        "model": "micromath/base",
        "task": "toy",
        "arguments": {"temperature": 0.8, "stop": ("\n",)},
        "seed": 0,
        "versions": {"lm_eval": "0.4.13"},
        "git_hash": "abc",
    }
)


def candidate(answer: str | None = "4", score: float = 0.5) -> Candidate:
    return Candidate(
        text=f"2+2\n{answer}",
        answer=answer,
        steps=("2+2\n", f"{answer}"),
        step_scores=(0.25, score),
        outcome_score=None,
        logprob=-1.5,
        tokens=7,
        finish="eos",
        chain=0,
        attempt=0,
    )


def record(uid: str = "a") -> Record:
    return Record(uid, "toy", {"name": "best-of-n", "n": 2}, 2, 0, (candidate(), candidate(None)), Usage(generations=2))


def write(path: Path, *uids: str) -> None:
    with Journal.open(path, HEADER) as journal:
        for uid in uids:
            journal.append(record(uid))


def open_in_child(path: Path, queue: multiprocessing.Queue[str]) -> None:
    try:
        Journal.open(path, HEADER)
    except TtsEvalError as error:
        queue.put(str(error))


def fill_the_disk(path: Path, queue: multiprocessing.Queue[str]) -> None:
    with Journal.open(path, HEADER) as journal:
        journal.append(record("a"))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, resource.RLIM_INFINITY))
        try:
            journal.append(record("b"))
        except TtsEvalError as error:
            queue.put(str(error))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        journal.append(record("c"))


def message_of_child(target: object, path: Path) -> str:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=target, args=(path, queue))
    child.start()
    message = queue.get(timeout=60)
    child.join()
    return message


number = st.floats(allow_nan=False, allow_infinity=False)
count = st.none() | st.integers(0, 2**60)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | number | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    steps = draw(st.lists(st.text(), max_size=3))
    return Candidate(
        text="".join(steps),
        answer=draw(st.none() | st.text()),
        steps=tuple(steps),
        step_scores=draw(st.none() | st.tuples(*[number] * len(steps))),
        outcome_score=draw(st.none() | number),
        logprob=draw(st.none() | number),
        tokens=draw(count),
        finish=draw(st.sampled_from(["eos", "stop", "length"])),
        chain=draw(st.integers(0, 9)),
        attempt=draw(st.integers(0, 9)),
    )


records = st.builds(
    Record,
    uid=st.text(),
    task=st.text(),
    strategy=st.dictionaries(st.text(), json_value, max_size=2).map(lambda extra: {**extra, "name": "any"}),
    budget=st.integers(1, 9),
    seed=st.integers(),
    candidates=st.lists(candidates(), min_size=1, max_size=3).map(tuple),
    usage=st.builds(Usage, *[count] * 8, *[st.none() | number] * 3),
    gold=st.none() | st.text(),
    level=json_value,
    prompt_hash=st.none() | st.text(),
)


@given(st.lists(records, max_size=4, unique_by=lambda r: r.uid))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, written: list[Record]) -> None:
    path = tmp_path_factory.mktemp("journal") / "candidates_toy_now.jsonl"
    with Journal.open(path, HEADER) as journal:
        for one in written:
            journal.append(one)
    header, found = read_journal(path)
    assert found == written
    assert header is not None and header.fingerprint == HEADER.fingerprint
    with Journal.open(path, HEADER) as again:
        assert list(again.records.values()) == written


def test_line_has_the_documented_keys() -> None:
    row = record().to_json()
    assert list(row) == [
        "schema",
        "uid",
        "task",
        "strategy",
        "budget",
        "seed",
        "candidates",
        "usage",
        "gold",
        "level",
        "prompt_hash",
        "nodes",
    ]
    assert row["schema"] == 1
    assert set(row["candidates"][0]) == set(asdict(candidate()))


def test_torn_at_every_byte_of_the_last_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    write(whole, "a", "b")
    content = whole.read_bytes()
    start = content[:-1].rfind(b"\n") + 1
    torn = tmp_path / "torn.jsonl"
    for end in range(start, len(content)):
        torn.write_bytes(content[:end])
        complete = end == len(content) - 1  # only the newline is missing
        expected = ["a", "b"] if complete else ["a"]
        assert [r.uid for r in read_journal(torn)[1]] == expected
        with Journal.open(torn, HEADER) as journal:
            assert list(journal.records) == expected
            if not complete:
                journal.append(record("b"))
        assert torn.read_bytes() == content


def test_torn_header_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    write(path, "a")
    content = path.read_bytes()
    path.write_bytes(content[:9])
    write(path, "a")
    assert path.read_bytes() == content


def test_resume_ignores_versions_and_refuses_another_run(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "j.jsonl"
    write(path, "a")
    with Journal.open(path, Header({**HEADER.run, "versions": {}, "git_hash": "def", "started": "today"})) as journal:
        assert list(journal.records) == ["a"]
    path.write_bytes(path.read_bytes() + b'{"torn')
    content = path.read_bytes()
    other = Header({**HEADER.run, "arguments": {"temperature": 1.0, "stop": ["\n"]}, "verifier": "prm"})
    with pytest.raises(TtsEvalError) as error:
        Journal.open(path, other)
    assert "arguments.temperature is 0.8 there and 1.0 here" in str(error.value)
    assert "verifier is None there and 'prm' here" in str(error.value)
    assert "another folder" in str(error.value) and "stop" not in str(error.value)
    assert path.read_bytes() == content, "a refused journal stays as it is"


def test_refuses_a_file_without_header(tmp_path: Path) -> None:
    path = tmp_path / "imported.jsonl"
    path.write_text(json.dumps(record().to_json()))
    assert read_journal(path) == (None, [record()])
    with pytest.raises(TtsEvalError, match="has no header"):
        Journal.open(path, HEADER)


def test_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal.open(path, HEADER) as journal:
        assert "another process is writing it" in message_of_child(open_in_child, path)
        journal.append(record())
    write(path, "b")


def test_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    message = message_of_child(fill_the_disk, path)
    assert f"journal {path}: File too large; 1 problems are safe; free space and run the same command again" == message
    write(path, "b")
    assert [r.uid for r in read_journal(path)[1]] == ["a", "c", "b"], "no half a line is left behind"


def test_append_refuses_what_reading_would_refuse(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal.open(path, HEADER) as journal:
        journal.append(record("a"))
        with pytest.raises(TtsEvalError, match="already holds problem 'a'"):
            journal.append(record("a"))
        with pytest.raises(TtsEvalError, match="problem 'b' has a NaN"):
            journal.append(replace(record("b"), candidates=(candidate(score=float("inf")),)))
    assert [r.uid for r in read_journal(path)[1]] == ["a"]


def broken(**changes: object) -> str:
    return json.dumps({**record("b").to_json(), **changes})


def broken_candidate(**changes: object) -> str:
    return broken(candidates=[{**asdict(candidate()), **changes}])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[1]", "not a JSON object"),
        (broken(schema=2), "schema is 2, but this version of tts-eval reads 1"),
        (json.dumps(record("a").to_json()), "uid 'a' is already on line 2"),
        (broken(uid=3), "uid must be a string, not 3"),
        (broken(budget=True), "budget must be an integer, not true"),
        (broken(strategy={}), "strategy.name must be a string"),
        (broken(gold=7), "gold must be a string, not 7"),
        (broken(candidates="x"), "candidates must be a list"),
        (broken(candidates=[]), "candidates is empty"),
        (broken(candidates=["x"]), r"candidates\[0\] must be an object"),
        (broken(usage={}), "usage.generations is missing"),
        (json.dumps({k: v for k, v in record("b").to_json().items() if k != "seed"}), "seed is missing"),
        (broken_candidate(finish="done"), r"candidates\[0\].finish must be eos or stop or length"),
        (broken_candidate(step_scores=[0.5]), r"candidates\[0\] has 2 steps but 1 step_scores"),
        (broken_candidate(step_scores=[0.5, "1"]), r"candidates\[0\].step_scores\[1\] must be a finite number"),
        (broken_candidate(step_scores=[0.5, float("nan")]), "step_scores.* must be a finite number, not NaN"),
        (broken_candidate(outcome_score=float("-inf")), "outcome_score must be a finite number, not -Infinity"),
        (broken_candidate(outcome_score=1.0).replace("1.0", "1e999"), "outcome_score must be a finite number"),
    ],
)
def test_malformed_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "j.jsonl"
    write(path, "a")
    path.write_text(f"{path.read_text()}{line}\n{broken()}\n")
    with pytest.raises(TtsEvalError, match=f"{path}:3: .*{message}.*; mend or delete the line"):
        read_journal(path)


def test_optional_keys_may_be_absent(tmp_path: Path) -> None:
    path = tmp_path / "imported.jsonl"
    optional = ("gold", "level", "prompt_hash", "nodes")
    path.write_text(json.dumps({k: v for k, v in record().to_json().items() if k not in optional}) + "\n")
    assert read_journal(path)[1] == [record()]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TtsEvalError, match="No such file"):
        read_journal(tmp_path / "none.jsonl")


def test_find_journal_takes_the_newest_of_the_same_run(tmp_path: Path) -> None:
    assert find_journal(tmp_path, "toy", HEADER) is None
    other = Header({**HEADER.run, "seed": 1})
    paths = [journal_path(tmp_path, "toy", datetime(2026, 1, day, 12)) for day in range(1, 6)]
    assert paths[0].name == "candidates_toy_2026-01-01T12-00-00.jsonl"
    for path, header in zip(paths, [HEADER, HEADER, other, None, None], strict=True):
        if header is not None:
            Journal.open(path, header).__exit__()
    paths[3].write_text("not a journal\n")
    paths[4].write_text("")
    assert find_journal(tmp_path, "toy", HEADER) == paths[1]
    assert find_journal(tmp_path, "toy", other) == paths[2]
    assert find_journal(tmp_path, "to", HEADER) is None


def test_the_documented_example_is_a_journal(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "journal.md").read_text()
    path = tmp_path / "example.jsonl"
    path.write_text(page.split("```json\n")[1].split("```")[0])
    header, (example,) = read_journal(path)
    assert header is not None and "started" not in header.identity and "seed" in header.identity
    assert json.loads(json.dumps(example.to_json())) == json.loads(path.read_text().splitlines()[1])
