"""Loads the problems of every task, from the hub or from a local file, into one shape.

Each `load_*` function is a YAML's `custom_dataset`. lm-eval calls it with all of `--metadata` and `--model_args` as
keyword arguments, most of which are somebody else's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, Features, Value, load_dataset

from tts_eval.answers import extract_answer
from tts_eval.micro.problems import Split, generate
from tts_eval.types import TtsEvalError


FEATURES = Features(
    {
        "problem": Value("string"),
        "solution": Value("string"),
        "answer": Value("string"),
        "subject": Value("string"),
        "level": Value("int64"),
        "unique_id": Value("string"),
    }
)
"""What every problem has: `answer` is the gold final answer, `level` is None where the source gives none."""

SUBJECTS = {
    "algebra": "Algebra",
    "counting_and_probability": "Counting & Probability",
    "geometry": "Geometry",
    "intermediate_algebra": "Intermediate Algebra",
    "number_theory": "Number Theory",
    "prealgebra": "Prealgebra",
    "precalculus": "Precalculus",
}
"""MATH's subjects: the hub's name of each part, and the name that its rows bear."""


class DataUnavailable(TtsEvalError):
    """A data set of the hub can't be had here, and no local file was named."""


class Row(NamedTuple):
    """A row as its source has it.

    Attributes:
        where: Its place, for messages: `file:line`, or the data set and the row's index.
        uid: Its `unique_id` if it brings none of its own.
        values: The row itself.
    """

    where: str
    uid: str
    values: Any


def load_math500(math_file: str | int | None = None, **_: Any) -> dict[str, Dataset]:
    """Loads MATH-500 (Lightman et al. 2023), or every row of a local file in MATH's schema.

    Args:
        math_file: JSON lines with problem, solution, answer, subject, level and unique_id (as MATH-500), or with
            problem, solution, type and level (as MATH itself).

    Returns:
        The problems as split `test`.

    Raises:
        TtsEvalError: If the file can't be read, or the hub can't be reached.
    """
    if math_file is None:
        rows = _read_hub("HuggingFaceH4/MATH-500", None, "math500/test", "math_file")
    else:
        rows = _read_file(math_file, "")
    return _test_split(_problems(rows, _math_problem))


def load_math_subject(math_subject: str, math_file: str | int | None = None, **_: Any) -> dict[str, Dataset]:
    """Loads the test problems of one subject of MATH (Hendrycks et al. 2021), or those that a local file has of it.

    Args:
        math_subject: A key of `SUBJECTS`.
        math_file: As for `load_math500`.

    Returns:
        The problems as split `test`.

    Raises:
        TtsEvalError: If the file can't be read or has nothing of the subject, or the hub can't be reached.
    """
    if math_file is None:
        rows = _read_hub("EleutherAI/hendrycks_math", math_subject, f"math/test/{math_subject}", "math_file")
        return _test_split(_problems(rows, _math_problem))
    problems = _problems(_read_file(math_file, ""), _math_problem)
    chosen = [problem for problem in problems if problem["subject"] == SUBJECTS[math_subject]]
    if not chosen:
        wanted, found = SUBJECTS[math_subject], ", ".join(sorted({problem["subject"] for problem in problems}))
        raise TtsEvalError(f"{math_file}: no problem has the subject {wanted!r}; its subjects are {found}")
    return _test_split(chosen)


def load_gsm8k(gsm8k_file: str | int | None = None, **_: Any) -> dict[str, Dataset]:
    """Loads GSM8K's test problems (Cobbe et al. 2021), or every row of a local file in its schema.

    Args:
        gsm8k_file: JSON lines with question and answer, the answer ending in a line `#### n`.

    Returns:
        The problems as split `test`.

    Raises:
        TtsEvalError: If the file can't be read, or the hub can't be reached.
    """
    if gsm8k_file is None:
        rows = _read_hub("openai/gsm8k", "main", "gsm8k/test", "gsm8k_file")
    else:
        rows = _read_file(gsm8k_file, "gsm8k/")
    return _test_split(_problems(rows, _gsm8k_problem))


def load_demo(**_: Any) -> dict[str, Dataset]:
    """Loads the problems of our own that ship with the package.

    Returns:
        The problems as split `test`.
    """
    rows = _read_file(Path(__file__).parent / "tts_demo/problems.jsonl", "")
    return _test_split(_problems(rows, _math_problem))


def load_micromath(micromath_train: int = 2000, **_: Any) -> dict[str, Dataset]:
    """Generates microMATH: the same problems every time, no two splits with a common one.

    Args:
        micromath_train: How many training problems.

    Returns:
        The splits `train`, `validation` (500 problems) and `test` (500).
    """
    sizes: dict[Split, int] = {"train": int(micromath_train), "validation": 500, "test": 500}
    splits: dict[str, Dataset] = {}
    for split, size in sizes.items():
        distinct = {problem.unique_id: problem._asdict() for problem in islice(generate(split, "task"), 2 * size)}
        splits[split] = Dataset.from_list(list(distinct.values())[:size], features=FEATURES)
    return splits


def _read_hub(dataset: str, config: str | None, uid: str, option: str) -> Iterator[Row]:
    try:
        rows = load_dataset(dataset, config, split="test")
    except OSError as error:
        raise DataUnavailable(
            f"can't load {dataset} from the hub ({' '.join(str(error).split())}); "
            f"name a local copy with --metadata {option}=FILE.jsonl"
        ) from error
    for index, values in enumerate(rows):
        yield Row(f"{dataset} test row {index}", f"{uid}/{index}", values)


def _read_file(name: str | int | Path, uid: str) -> Iterator[Row]:
    path = Path(str(name)).expanduser()  # lm-eval turns a name like 007 into a number
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise TtsEvalError(f"{path}: {error.strerror}; name a JSON-lines file, relative to {Path.cwd()}") from error
    if not any(line.strip() for line in lines):
        raise TtsEvalError(f"{path}: the file is empty; it should have one JSON object a line")
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        where = f"{path}:{index + 1}"
        try:
            values = json.loads(line)
        except ValueError as error:
            reason = str(error).replace("line 1 ", "")  # it counts lines from the start of this one
            raise TtsEvalError(f"{where}: not JSON ({reason}); each line should be one JSON object") from error
        if not isinstance(values, dict):
            raise TtsEvalError(f"{where}: should be a JSON object, not {line.decode()[:40]}")
        yield Row(where, f"{uid}{path.stem}/{index}", values)


def _problems(rows: Iterable[Row], convert: Callable[[Row], dict[str, Any]]) -> list[dict[str, Any]]:
    problems: list[dict[str, Any]] = []
    places: dict[str, str] = {}
    for row in rows:
        problem = convert(row)
        uid = problem["unique_id"]
        if uid in places:  # journals and random numbers go by it
            raise TtsEvalError(f"{row.where}: unique_id {uid!r} is that of {places[uid]} already")
        places[uid] = row.where
        problems.append(problem)
    return problems


def _test_split(problems: list[dict[str, Any]]) -> dict[str, Dataset]:
    return {"test": Dataset.from_list(problems, features=FEATURES)}


def _math_problem(row: Row) -> dict[str, Any]:
    """A row of MATH-500, of MATH itself (no `answer`, `type` for `subject`, "Level 3") or of a file like either."""
    solution = _text(row, "solution")
    return {
        "problem": _text(row, "problem"),
        "solution": solution,
        "answer": _text(row, "answer").strip() if "answer" in row.values else _boxed(row, solution),
        "subject": _text(row, "type" if "type" in row.values else "subject"),
        "level": _level(row),
        "unique_id": _text(row, "unique_id") if "unique_id" in row.values else row.uid,
    }


def _gsm8k_problem(row: Row) -> dict[str, Any]:
    solution, mark, answer = _text(row, "answer").rpartition("####")
    if not mark or not answer.strip():
        raise TtsEvalError(f"{row.where}: 'answer' should end with a line '#### <final answer>'")
    return {
        "problem": _text(row, "question"),
        "solution": solution.rstrip(),
        "answer": answer.strip().replace(",", ""),  # 2,125 is one number, not a pair
        "subject": "Grade School Math",
        "level": None,
        "unique_id": row.uid,
    }


def _boxed(row: Row, solution: str) -> str:
    answer = extract_answer(solution)
    if answer is None:
        raise TtsEvalError(f"{row.where}: no 'answer', and the 'solution' has no \\boxed{{}} to take it from")
    return answer


def _text(row: Row, key: str) -> str:
    if key not in row.values:
        raise TtsEvalError(f"{row.where}: no {key!r}; the line has {', '.join(row.values) or 'nothing'}")
    value = row.values[key]
    if isinstance(value, str) and not value.strip():
        raise TtsEvalError(f"{row.where}: {key!r} is empty; delete the line, or write the {key} into it")
    if not isinstance(value, str):
        raise TtsEvalError(f"{row.where}: {key!r} should be text, not {json.dumps(value)[:40]}")
    return value


def _level(row: Row) -> int | None:
    level = row.values.get("level")
    if isinstance(level, str) and level.startswith("Level "):
        level = int(level[6:]) if level[6:].isdecimal() else None  # MATH has a few "Level ?"
    if level is not None and type(level) is not int:
        raise TtsEvalError(f"{row.where}: 'level' should be a number or null, not {json.dumps(level)[:40]}")
    return level
