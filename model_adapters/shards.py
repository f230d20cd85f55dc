"""The journal of a task when several ranks write it: each a file of its own, until rank 0 makes one of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tts_eval.journal import Journal, find_journal, find_shards, journal_path, read_journal
from tts_eval.jsonl import Header
from tts_eval.model_adapters.ranks import Ranks


@dataclass(frozen=True)
class TaskJournal:
    """Where a run keeps the candidates of a task.

    Attributes:
        place: The journal's file, which ends in .jsonl, or its folder.
        task: lm-eval's task name.
        header: The run's.
    """

    place: Path
    task: str
    header: Header

    @property
    def path(self) -> Path:
        """The journal: the one that this run may resume, or a new one."""
        if self.place.suffix == ".jsonl":
            return self.place
        return self._named(self.task, self.header)

    def open(self, ranks: Ranks) -> Journal:
        """Opens what this rank writes.

        What any rank of any earlier start has done is among its records, so another number of ranks can go on.

        Raises:
            TtsEvalError: If another run or another process has the file, or it can't be written.
        """
        if ranks.world_size == 1:
            self.merge()
            return Journal.open(self.path, self.header)
        done = [path for path in (self.path, *self._shards()) if path.exists()]
        header = Header({**self.header.run, "shard": f"{ranks.rank} of {ranks.world_size}"})
        journal = Journal.open(self._named(f"{self.task}_rank{ranks.rank}", header), header)
        for path in done:
            for record in read_journal(path)[1]:
                journal.records.setdefault(record.uid, record)
        return journal

    def merge(self) -> None:
        """Moves the ranks' records into the one journal; killed at any point, it loses and doubles nothing.

        Raises:
            TtsEvalError: If a rank still writes, a file is malformed, or the disk refuses.
        """
        shards = self._shards()
        if not shards:
            return
        with Journal.open(self.path, self.header) as journal:
            for path in shards:
                with Journal.open(path, self.header) as shard:
                    for uid, record in shard.records.items():
                        if uid not in journal.records:
                            journal.append(record)
                    path.unlink()

    def _shards(self) -> list[Path]:
        return find_shards(self._folder, self.task, self.header)

    @property
    def _folder(self) -> Path:
        return self.place.parent if self.place.suffix == ".jsonl" else self.place

    def _named(self, label: str, header: Header) -> Path:
        return find_journal(self._folder, label, header) or journal_path(self._folder, label, datetime.now())
