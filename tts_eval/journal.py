"""The journal: every candidate that a run paid for, one JSON line a problem, written the moment the problem is done.

Selection is late (`tts_eval.analysis`), so the journal keeps step scores rather than a pick. docs/journal.md has the
format, its resume rules and an example.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any, final

from tts_eval.schema import from_json
from tts_eval.types import Candidate, TtsEvalError, Usage


SCHEMA = 1

INFORMATIVE = ("versions", "git_hash", "started")
"""Keys of a header's run that may differ when a run is resumed; every other key must be equal."""


@dataclass(frozen=True)
class Record:
    """One problem line.

    Attributes:
        uid: The problem's identifier, unique within a file.
        task: lm-eval's task name.
        strategy: `name` and every parameter of the strategy.
        budget: The paper's N (section 3).
        seed: The run's seed.
        candidates: All final solutions, in the search's order.
        usage: What they cost.
        gold: The gold answer; only in imported files, a search never sees it.
        level: The problem's difficulty label, if the data has one.
        prompt_hash: lm-eval's `prompt_hash`, the sha256 hex digest of the prompt, or None.
    """

    uid: str
    task: str
    strategy: Mapping[str, Any]
    budget: int
    seed: int
    candidates: tuple[Candidate, ...]
    usage: Usage
    gold: str | None = None
    level: Any = None
    prompt_hash: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the line as JSON values."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, row: Any) -> Record:
        """Reads what `to_json` wrote; unknown keys are ignored.

        Raises:
            TtsEvalError: Names the key that is missing or wrong.
        """
        record: Record = from_json(cls, row)
        if not isinstance(record.strategy.get("name"), str):
            raise TtsEvalError("strategy.name must be a string")
        if not record.candidates:
            raise TtsEvalError("candidates is empty")
        for i, candidate in enumerate(record.candidates):
            if candidate.step_scores is not None and len(candidate.step_scores) != len(candidate.steps):
                raise TtsEvalError(
                    f"candidates[{i}] has {len(candidate.steps)} steps but {len(candidate.step_scores)} step_scores"
                )
        return record


@dataclass(frozen=True)
class Header:
    """The first line of a journal: which run wrote it.

    Attributes:
        run: JSON values: `model`, `verifier`, `task`, `strategy`, `budget`, `seed` and whatever else decides the
            candidates; `versions`, `git_hash` and `started` for information.
    """

    run: Mapping[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal in two runs that share a journal: dotted key to JSON value."""
        run = json.loads(json.dumps(dict(self.run)))
        return dict(flatten({key: value for key, value in run.items() if key not in INFORMATIVE}))

    @property
    def fingerprint(self) -> str:
        """A hash of `identity`, 64 hex digits."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()


@final
class Journal:
    """The one writer of a journal file. A context manager; open it with `Journal.open`.

    Attributes:
        path: The file.
        records: The finished problems by uid, those of an interrupted run included.
    """

    def __init__(self, path: Path, file: FileIO, records: dict[str, Record]) -> None:
        """Takes a locked file that ends with its last whole line; use `open`."""
        self.path = path
        self.records = records
        self._file = file

    @classmethod
    def open(cls, path: Path, header: Header) -> Journal:
        """Creates a journal with its folders, or resumes one: a torn last line is cut off, whole lines are loaded.

        Raises:
            TtsEvalError: If another process writes it, another run wrote it, a line is malformed or the disk refuses.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = FileIO(path, "a+")
        except OSError as error:
            raise TtsEvalError(f"journal {path}: {error.strerror}; choose a folder that can be written") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls._resume(path, file, header)
        except BlockingIOError as error:
            file.close()
            raise TtsEvalError(f"journal {path}: another process is writing it; wait for it or end it") from error
        except BaseException:
            file.close()
            raise

    @classmethod
    def _resume(cls, path: Path, file: FileIO, header: Header) -> Journal:
        file.seek(0)
        whole = _cut_torn_tail(file.readall())
        found, records = _parse(whole, path)
        if whole and found is None:
            raise TtsEvalError(f"journal {path}: has no header, so no run can append to it; write to another folder")
        if found is not None:
            _require_same_run(path, found, header)
        file.truncate(len(whole))
        journal = cls(path, file, {record.uid: record for record in records})
        if found is None:
            journal._write(_line({"schema": SCHEMA, "run": dict(header.run)}))
        elif not whole.endswith(b"\n"):
            journal._write(b"\n")
        return journal

    def __enter__(self) -> Journal:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file, which releases the lock."""
        self._file.close()

    def append(self, record: Record) -> None:
        """Writes one problem and waits until the disk has it (0.5 ms on an SSD), so a full disk shows here.

        Raises:
            TtsEvalError: If the disk refuses; if the problem is already there; if a score is NaN or infinite.
        """
        if record.uid in self.records:
            raise TtsEvalError(
                f"journal {self.path}: already holds problem {record.uid!r}; give each problem its own uid"
            )
        try:
            line = _line(record.to_json())
        except ValueError as error:
            raise TtsEvalError(
                f"journal {self.path}: problem {record.uid!r} has a NaN or infinite number; check the verifier's scores"
            ) from error
        self._write(line)
        self.records[record.uid] = record

    def _write(self, line: bytes) -> None:
        start = self._file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            # Half a line must not stay: a caller that goes on would append to it and make the file unreadable.
            self._file.truncate(start)
            raise TtsEvalError(
                f"journal {self.path}: {error.strerror}; {len(self.records)} problems are safe; "
                "free space and run the same command again"
            ) from error


def read_journal(path: Path) -> tuple[Header | None, list[Record]]:
    """Reads a journal, finished or not; a torn last line is left out.

    Returns:
        The header (None in a file without one, for example an imported file) and the problems in file order.

    Raises:
        TtsEvalError: Names the file, the line and what is wrong in it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TtsEvalError(f"journal {path}: {error.strerror}; check the path") from error
    return _parse(_cut_torn_tail(content), path)


def journal_path(folder: Path, task: str, when: datetime) -> Path:
    """Names a new journal the way lm-eval names its samples files."""
    return folder / f"candidates_{task}_{when.isoformat().replace(':', '-')}.jsonl"


def find_journal(folder: Path, task: str, header: Header) -> Path | None:
    """Returns the newest journal in `folder` that this run may resume, or None; all others are skipped."""
    # The names end in ISO timestamps, so the last name is the newest of a task.
    for path in sorted(folder.glob(f"candidates_{task}_*.jsonl"), reverse=True):
        with path.open("rb") as file:
            first = _cut_torn_tail(file.readline())
        try:
            found, _ = _parse(first, path)
        except TtsEvalError:
            continue
        if found is not None and found.fingerprint == header.fingerprint:
            return path
    return None


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _cut_torn_tail(content: bytes) -> bytes:
    """Drops a last line that was cut short by a crash; a whole one that only lacks its newline stays."""
    end = content.rfind(b"\n") + 1
    try:
        json.loads(content[end:])
    except ValueError:
        return content[:end]
    return content


def _parse(content: bytes, path: Path) -> tuple[Header | None, list[Record]]:
    header: Header | None = None
    records: list[Record] = []
    lines_of: dict[str, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = _load(line)
            if number == 1 and "run" in row:
                header = from_json(Header, row)
                continue
            record = Record.from_json(row)
            if record.uid in lines_of:
                raise TtsEvalError(f"uid {record.uid!r} is already on line {lines_of[record.uid]}")
        except TtsEvalError as error:
            raise TtsEvalError(f"{path}:{number}: {error}; mend or delete the line") from error
        lines_of[record.uid] = number
        records.append(record)
    return header, records


def _load(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise TtsEvalError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise TtsEvalError("not a JSON object")
    if row.get("schema") != SCHEMA:
        raise TtsEvalError(f"schema is {row.get('schema')!r}, but this version of tts-eval reads {SCHEMA}")
    return row


def flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of nested JSON objects as (dotted key, value)."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flatten(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value


def _require_same_run(path: Path, found: Header, wanted: Header) -> None:
    there, here = found.identity, wanted.identity
    differing = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    if differing:
        shown = ", ".join(f"{key} is {there.get(key)!r} there and {here.get(key)!r} here" for key in differing)
        raise TtsEvalError(
            f"journal {path}: written by another run ({shown}); use its arguments, or write to another folder"
        )
