"""What ranks wrote becomes one journal; and who may not be a rank."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from lm_eval.api.model import LM
from lm_eval.models.dummy import DummyLM

from tts_eval.journal import Journal, Record, read_journal
from tts_eval.jsonl import Header
from tts_eval.model_adapters.ranks import Ranks, join_ranks
from tts_eval.model_adapters.shards import TaskJournal
from tts_eval.types import Candidate, TtsEvalError, Usage


RUN = {"model": "m", "task": "toy", "seed": 0}


def record(uid: str) -> Record:
    candidate = Candidate("1", "1", ("1",), None, None, None, 1, "eos", 0, 0)
    return Record(uid, "toy", {"name": "best-of-n"}, 1, 0, (candidate,), Usage())


def write(journal: TaskJournal, rank: int, world_size: int, *uids: str) -> Path:
    with journal.open(Ranks(rank, world_size)) as shard:
        for uid in uids:
            shard.append(record(uid))
    return shard.path


def uids(folder: Path) -> dict[str, list[str]]:
    return {path.name: [one.uid for one in read_journal(path)[1]] for path in sorted(folder.glob("*.jsonl"))}


@pytest.fixture(params=["", "named.jsonl"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> TaskJournal:
    return TaskJournal(tmp_path / request.param, "toy", Header(RUN))


def test_every_rank_knows_what_all_have_done(journal: TaskJournal, tmp_path: Path) -> None:
    first, second = write(journal, 0, 2, "a", "c"), write(journal, 1, 2, "b")
    assert first != second and first.parent == second.parent == tmp_path
    with journal.open(Ranks(0, 2)) as again:
        assert again.path == first and set(again.records) == {"a", "b", "c"}
        again.append(record("e"))
    assert [one.uid for one in read_journal(first)[1]] == ["a", "c", "e"]
    with journal.open(Ranks(2, 3)) as of_three:
        assert of_three.path not in (first, second) and set(of_three.records) == {"a", "b", "c", "e"}


def test_one_process_makes_one_journal(journal: TaskJournal, tmp_path: Path) -> None:
    write(journal, 0, 2, "a", "c"), write(journal, 1, 2, "b")
    with journal.open(Ranks()) as whole:
        whole.append(record("d"))
    assert list(uids(tmp_path).values()) == [["a", "c", "b", "d"]]
    header, _ = read_journal(whole.path)
    assert header is not None and "shard" not in header.run


def test_a_merge_that_was_killed_goes_on(journal: TaskJournal, tmp_path: Path) -> None:
    write(journal, 0, 2, "a", "c"), write(journal, 1, 2, "b", "d")
    with Journal.open(journal.path, journal.header) as whole:  # as far as it came
        whole.append(record("a"))
    with journal.open(Ranks(1, 2)) as shard:
        assert set(shard.records) == {"a", "b", "c", "d"}
    journal.merge()
    journal.merge()
    assert list(uids(tmp_path).values()) == [["a", "c", "b", "d"]]


def test_a_merge_waits_for_no_rank(journal: TaskJournal, tmp_path: Path) -> None:
    write(journal, 0, 2, "a")
    with journal.open(Ranks(1, 2)) as shard:
        shard.append(record("b"))
        with pytest.raises(TtsEvalError, match="another process is writing it"):
            journal.merge()
    journal.merge()
    assert list(uids(tmp_path).values()) == [["a", "b"]]


def test_another_run_keeps_its_files(journal: TaskJournal, tmp_path: Path) -> None:
    other = TaskJournal(tmp_path, "toy", Header({**RUN, "seed": 1}))
    theirs = write(other, 0, 2, "z")
    write(journal, 0, 2, "a")
    journal.merge()
    assert sorted(uids(tmp_path).values()) == [["a"], ["z"]] and theirs.exists()


def test_who_can_be_no_rank(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    base: LM = DummyLM()
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name, arguments in (("vllm", {}), ("hf", {"tp_plan": "auto"})):
        with pytest.raises(TtsEvalError, match=f"base={name} .* start lm_eval without accelerate or torchrun"):
            join_ranks(name, base, arguments)
    monkeypatch.delenv("WORLD_SIZE")
    assert join_ranks("vllm", base, {}) == Ranks(0, 1) and not caplog.records
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with caplog.at_level(logging.WARNING):
        assert join_ranks("hf", base, {}) == Ranks(0, 1)
    assert "accelerate launch --cpu starts one process" in caplog.text
