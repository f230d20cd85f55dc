"""The journal: every candidate that a run paid for, one JSON line a problem, written the moment the problem is done.

Selection is late (`tts_eval.analysis`), so the journal keeps step scores rather than a pick. docs/journal.md has the
format, its resume rules and an example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, final

from tts_eval.jsonl import SCHEMA, Header, RecordFile, cut_torn_tail
from tts_eval.schema import from_json
from tts_eval.types import Candidate, Finish, TtsEvalError, Usage


NodeKey = tuple[tuple[int, ...], int]
"""The path of a node, and how far it is within a rollout."""

PROMPT: NodeKey = ((), 0)
"""The key above the first steps; the prompt itself is no node."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a search tree: what was sampled in one go from the node above it, kept or not.

    Attributes:
        path: Child index at every branching from the prompt.
        lookahead: How many steps of a rollout led here from the beam at `path[:-lookahead]`; 0 for what isn't part of
            a rollout. The node above has the path without its last index, and one step of a rollout less.
        steps: What was sampled: the next step, or all steps to the end.
        scores: The verifier's scores of the last of these steps: of all, or of the last one alone from an outcome
            verifier, which scores the whole up to here; None where it wasn't asked.
        finish: Why the solution ended here; None where it could go on.
        candidate: Index of the candidate that ends here, or None.
    """

    path: tuple[int, ...]
    lookahead: int
    steps: tuple[str, ...]
    scores: tuple[float, ...] | None = None
    finish: Finish | None = None
    candidate: int | None = None

    @property
    def key(self) -> NodeKey:
        """What tells it from the other nodes of its tree."""
        return self.path, self.lookahead

    @property
    def parent(self) -> NodeKey:
        """The key of the node above."""
        return self.path[:-1], max(0, self.lookahead - 1)


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
        nodes: With a transcript, all nodes of the search tree in the order in which they were sampled; else None.
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
    nodes: tuple[Node, ...] | None = None

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
        _check_counts(record)
        for i, candidate in enumerate(record.candidates):
            if candidate.step_scores is not None and len(candidate.step_scores) != len(candidate.steps):
                raise TtsEvalError(
                    f"candidates[{i}] has {len(candidate.steps)} steps but {len(candidate.step_scores)} step_scores"
                )
        _check_nodes(record)
        return record


def _check_counts(record: Record) -> None:
    """What is counted must fit the arrays that an analysis makes of it."""
    counts: dict[str, Any] = {"budget": record.budget, **{f"usage.{k}": v for k, v in asdict(record.usage).items()}}
    for i, candidate in enumerate(record.candidates):
        for name in ("chain", "attempt", "tokens"):
            counts[f"candidates[{i}].{name}"] = getattr(candidate, name)
    for name, count in counts.items():
        least = 1 if name == "budget" else 0
        if isinstance(count, int) and not least <= count < 2**63:
            raise TtsEvalError(f"{name} is out of range")


def _check_nodes(record: Record) -> None:
    above = {PROMPT}
    for i, node in enumerate(record.nodes or ()):
        if node.parent not in above:
            raise TtsEvalError(f"nodes[{i}] has no node above it: path {list(node.path)}, lookahead {node.lookahead}")
        if node.candidate is not None and not 0 <= node.candidate < len(record.candidates):
            raise TtsEvalError(f"nodes[{i}].candidate is {node.candidate}, of {len(record.candidates)} candidates")
        above.add(node.key)


@final
class Journal(RecordFile[Record]):
    """The one writer of a journal file. A context manager; open it with `Journal.open`.

    Its header's run holds `model`, `verifier`, `task`, `strategy`, `budget`, `seed` and whatever else decides the
    candidates.
    """

    KIND = "journal"
    ELSEWHERE = "write to another folder"

    @classmethod
    def record_from_json(cls, row: Any) -> Record:
        """See `Record.from_json`."""
        return Record.from_json(row)


def read_journal(path: Path) -> tuple[Header | None, list[Record]]:
    """Reads a journal, finished or not; a torn last line is left out.

    Returns:
        The header (None in a file without one, for example an imported file) and the problems in file order.

    Raises:
        TtsEvalError: Names the file, the line and what is wrong in it.
    """
    return Journal.read(path)


def journal_path(folder: Path, task: str, when: datetime) -> Path:
    """Names a new journal the way lm-eval names its samples files."""
    return folder / f"candidates_{task}_{when.isoformat().replace(':', '-')}.jsonl"


def find_journal(folder: Path, task: str, header: Header) -> Path | None:
    """Returns the newest journal in `folder` that this run may resume, or None; all others are skipped."""
    # The names end in ISO timestamps, so the last name is the newest of a task.
    for path in sorted(folder.glob(f"candidates_{task}_*.jsonl"), reverse=True):
        found = _same_run(path, header)
        if found is not None and found.run.get("shard") == header.run.get("shard"):
            return path
    return None


def find_shards(folder: Path, task: str, header: Header) -> list[Path]:
    """Returns the files in `folder` that single ranks of this run wrote, however many ranks there were."""
    found = []
    for path in sorted(folder.glob(f"candidates_{task}_rank*.jsonl")):
        of_rank = _same_run(path, header)
        if of_rank is not None and "shard" in of_rank.run:
            found.append(path)
    return found


def _same_run(path: Path, header: Header) -> Header | None:
    """The header of a journal; None if it is of another run, or malformed."""
    with path.open("rb") as file:
        first = cut_torn_tail(file.readline())
    try:
        found, _ = Journal.parse(first, path)
    except TtsEvalError:
        return None
    return found if found is not None and found.fingerprint == header.fingerprint else None
