"""Files that keep what a run paid for: JSON lines, a header and then one record a problem, appended when it is done.

They survive every crash: a torn last line is redone, a second writer and another run are refused. The journal
(`tts_eval.journal`), the label file (`tts_eval.labels`) and those of `tts_eval.revisions` are such files.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from tts_eval.schema import from_json
from tts_eval.types import Interrupted, TtsEvalError


if TYPE_CHECKING:
    from typing_extensions import Self


SCHEMA = 1

INFORMATIVE = ("versions", "git_hash", "started", "derived_from", "shard")
"""Keys of a header's run that may differ when a run is resumed; every other key must be equal."""


@dataclass(frozen=True)
class Header:
    """The first line of a file: which run wrote it.

    Attributes:
        run: JSON values: the model, the task, the seed and whatever else decides the records; `versions`, `git_hash`,
            `started`, `derived_from` and `shard` for information.
    """

    run: Mapping[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal in two runs that share a file: dotted key to JSON value."""
        run = json.loads(json.dumps(dict(self.run)))
        return dict(flatten({key: value for key, value in run.items() if key not in INFORMATIVE}))

    @property
    def fingerprint(self) -> str:
        """A hash of `identity`, 64 hex digits."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()


class ProblemLine(Protocol):
    """A record: one line, one problem."""

    @property
    def uid(self) -> str:
        """The problem's identifier, unique within a file."""

    def to_json(self) -> dict[str, Any]:
        """The line as JSON values, `schema` included."""


_Line = TypeVar("_Line", bound=ProblemLine)


class RecordFile(ABC, Generic[_Line]):
    """The one writer of a file. A context manager; open it with `open`.

    Attributes:
        KIND: What the file is called in messages.
        ELSEWHERE: What mends a clash with another run's file.
        path: The file.
        records: The finished problems by uid, those of an interrupted run included.
    """

    KIND: ClassVar[str]
    ELSEWHERE: ClassVar[str]

    def __init__(self, path: Path, file: FileIO, records: dict[str, _Line]) -> None:
        """Takes a locked file that ends with its last whole line; use `open`."""
        self.path = path
        self.records = records
        self._file = file

    @classmethod
    @abstractmethod
    def record_from_json(cls, row: Any) -> _Line:
        """Reads a problem's line.

        Raises:
            TtsEvalError: Names the key that is missing or wrong.
        """

    @classmethod
    def open(cls, path: Path, header: Header) -> Self:
        """Creates a file with its folders, or resumes one: a torn last line is cut off, whole lines are loaded.

        Raises:
            TtsEvalError: If another process writes it, another run wrote it, a line is malformed or the disk refuses.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = FileIO(path, "a+")
        except OSError as error:
            raise TtsEvalError(f"{cls.KIND} {path}: {error.strerror}; choose a folder that can be written") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls._resume(path, file, header)
        except BlockingIOError as error:
            file.close()
            raise TtsEvalError(f"{cls.KIND} {path}: another process is writing it; wait for it or end it") from error
        except BaseException:
            file.close()
            raise

    @classmethod
    def _resume(cls, path: Path, file: FileIO, header: Header) -> Self:
        file.seek(0)
        whole = cut_torn_tail(file.readall())
        found, records = cls.parse(whole, path)
        if whole and found is None:
            raise TtsEvalError(f"{cls.KIND} {path}: has no header, so no run can append to it; {cls.ELSEWHERE}")
        if found is not None:
            cls._require_same_run(path, found, header)
        file.truncate(len(whole))
        opened = cls(path, file, {record.uid: record for record in records})
        if found is None:
            opened._write(_line({"schema": SCHEMA, "run": dict(header.run)}))
        elif not whole.endswith(b"\n"):
            opened._write(b"\n")
        return opened

    @classmethod
    def _require_same_run(cls, path: Path, found: Header, wanted: Header) -> None:
        there, here = found.identity, wanted.identity
        differing = [key for key in {**there, **here} if there.get(key) != here.get(key)]
        if differing:
            shown = ", ".join(f"{key} is {there.get(key)!r} there and {here.get(key)!r} here" for key in differing)
            raise TtsEvalError(
                f"{cls.KIND} {path}: written by another run ({shown}); use its arguments, or {cls.ELSEWHERE}"
            )

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        """Closes the file, which releases the lock.

        Raises:
            Interrupted: Instead of a bare KeyboardInterrupt: says what is kept.
        """
        self._file.close()
        if kind is KeyboardInterrupt:
            raise Interrupted(f"{len(self.records)} problems are safe in {self.path}; the same command goes on there")

    def append(self, record: _Line) -> None:
        """Writes one problem and waits until the disk has it (0.5 ms on an SSD), so a full disk shows here.

        Raises:
            TtsEvalError: If the disk refuses; if the problem is already there; if a number is NaN or infinite.
        """
        if record.uid in self.records:
            raise TtsEvalError(
                f"{self.KIND} {self.path}: already holds problem {record.uid!r}; give each problem its own uid"
            )
        try:
            line = _line(record.to_json())
        except ValueError as error:
            raise TtsEvalError(
                f"{self.KIND} {self.path}: problem {record.uid!r} has a NaN or infinite number; check the model's or "
                "verifier's scores"
            ) from error
        if b"\\ud" in line:  # half of a pair of surrogates, perhaps: what can't be read back isn't written
            self._require_readable(line, record.uid)
        self._write(line)
        self.records[record.uid] = record

    def _require_readable(self, line: bytes, uid: str) -> None:
        try:
            self.record_from_json(json.loads(line))
        except TtsEvalError as error:
            raise TtsEvalError(
                f"{self.KIND} {self.path}: problem {uid!r} can't be kept: {error}; check the model's text "
                "and the task's data"
            ) from error

    def _write(self, line: bytes) -> None:
        start = self._file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except BaseException as error:
            # Half a line must not stay: a caller that goes on would append to it and make the file unreadable.
            self._file.truncate(start)
            if not isinstance(error, OSError):
                raise
            raise TtsEvalError(
                f"{self.KIND} {self.path}: {error.strerror}; {len(self.records)} problems are safe; "
                "free space and run the same command again"
            ) from error

    @classmethod
    def read(cls, path: Path) -> tuple[Header | None, list[_Line]]:
        """Reads a file, finished or not; a torn last line is left out.

        Returns:
            The header (None in a file without one, for example an imported file) and the problems in file order.

        Raises:
            TtsEvalError: Names the file, the line and what is wrong in it.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise TtsEvalError(f"{cls.KIND} {path}: {error.strerror}; check the path") from error
        except MemoryError as error:
            raise TtsEvalError(f"{cls.KIND} {path}: larger than the memory; cut it into several") from error
        return cls.parse(cut_torn_tail(content), path)

    @classmethod
    def parse(cls, content: bytes, path: Path) -> tuple[Header | None, list[_Line]]:
        """Reads the whole lines of a file; see `read`."""
        header: Header | None = None
        records: list[_Line] = []
        lines_of: dict[str, int] = {}
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                row = _load(line)
                if number == 1 and "run" in row:
                    header = from_json(Header, row)
                    continue
                record = cls.record_from_json(row)
                if record.uid in lines_of:
                    raise TtsEvalError(f"uid {record.uid!r} is already on line {lines_of[record.uid]}")
            except TtsEvalError as error:
                raise TtsEvalError(f"{path}:{number}: {error}; mend or delete the line") from error
            lines_of[record.uid] = number
            records.append(record)
        return header, records


def cut_torn_tail(content: bytes) -> bytes:
    """Drops a last line that was cut short by a crash; a whole one that only lacks its newline stays."""
    end = content.rfind(b"\n") + 1
    try:
        json.loads(content[end:])
    except ValueError:
        return content[:end]
    except RecursionError:
        pass  # no crash writes that: it is for `parse` to refuse
    return content


def flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of nested JSON objects as (dotted key, value)."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flatten(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _load(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_object)
    except ValueError as error:
        raise TtsEvalError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise TtsEvalError("nested too deeply") from error
    if not isinstance(row, dict):
        raise TtsEvalError("not a JSON object")
    schema = row.get("schema")
    if schema != SCHEMA:
        shown = "no number" if isinstance(schema, (dict, list)) else f"{schema!r:.20}"
        raise TtsEvalError(f"schema is {shown}, but this version of tts-eval reads {SCHEMA}")
    return row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("an object has a key twice")
    return row
