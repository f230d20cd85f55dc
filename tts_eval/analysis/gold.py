"""Gold answers for a journal: its own, or those in the samples files that lm-eval wrote beside it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tts_eval.answers import extract_answer
from tts_eval.journal import Record
from tts_eval.types import TtsEvalError


@dataclass(frozen=True)
class Gold:
    """What is known of a problem after the run.

    Attributes:
        answer: The gold final answer.
        level: The problem's difficulty label, or None.
        others: Further answers that are as right.
    """

    answer: str
    level: Any
    others: tuple[str, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """All that are right."""
        return self.answer, *self.others


def read_samples_gold(folder: Path, task: str) -> dict[str, Gold]:
    """Reads the gold answers of `samples_<task>_<timestamp>.jsonl`, the files of `lm_eval --log_samples` in `folder`.

    Returns:
        Gold by `unique_id` of the problem (where it has one) and by lm-eval's `prompt_hash`.

    Raises:
        TtsEvalError: Names the file, the line and what is wrong in it.
    """
    # The timestamp is matched too: the files of `tts_math_algebra` aren't those of `tts_math`.
    name = re.compile(rf"samples_{re.escape(task)}_\d{{4}}-\d\d-\d\dT[^_]*\.jsonl")
    golds: dict[str, Gold] = {}
    for path in sorted(path for path in folder.iterdir() if name.fullmatch(path.name)):
        choices = _choices(path, task)
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    sample = json.loads(line)
                    doc, target, prompt_hash = sample["doc"], sample["target"], sample["prompt_hash"]
                except (ValueError, KeyError, TypeError) as error:
                    raise TtsEvalError(
                        f"{path}:{number}: not a sample of lm-eval ({error!r}); delete the line"
                    ) from error
                right = _right(str(target), choices)
                if not right:
                    continue
                gold = Gold(right[0], doc.get("level"), tuple(right[1:]))
                golds[prompt_hash] = gold
                if "unique_id" in doc:
                    golds[str(doc["unique_id"])] = gold
    return golds


def _choices(samples: Path, task: str) -> Any:
    """`doc_to_choice` of the task, which lm-eval's results of the same time have; None without one."""
    results = samples.with_name(f"results_{samples.stem.rsplit('_', 1)[1]}.json")
    try:
        return json.loads(results.read_text(encoding="utf-8"))["configs"][task].get("doc_to_choice")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _right(target: str, choices: Any) -> list[str]:
    """The answers that are right: lm-eval logs a choice by its number, and several answers as a list in Python's words.

    Returns:
        Nothing where the choices are a template, which only lm-eval can fill in, or where the target is blank, as in
        tasks that judge a text by other means.
    """
    if choices is not None:
        number = int(target) if target.isdecimal() else -1
        return [str(choices[number])] if isinstance(choices, list) and 0 <= number < len(choices) else []
    try:
        listed = ast.literal_eval(target) if target.startswith(("['", '["')) else None
    except (ValueError, SyntaxError):
        listed = None
    every = listed if isinstance(listed, list) else [target]
    # Of a worked solution, such as lm-eval's own gsm8k has for a target, only the final answer is gold.
    return [extract_answer(str(one)) or str(one) for one in every if str(one).strip()]


def gold_of(record: Record, samples: Mapping[str, Gold]) -> Gold | None:
    """Returns the record's own gold, else that of its uid or prompt hash in `samples`, else None."""
    if record.gold is not None:
        return Gold(record.gold, record.level)
    found = samples.get(record.uid) or samples.get(record.prompt_hash or "")
    if found is None or record.level is None:
        return found
    return replace(found, level=record.level)
