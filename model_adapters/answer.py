"""What our adapters return to lm-eval: a text that knows where it came from."""

from __future__ import annotations

from typing import Any


class Answer(str):
    """The text of the selected candidate; it survives lm-eval's filters and its cache.

    Attributes:
        meta: `uid`; `budget`; `selected`, the index of the candidate, None where none has an answer; `candidates`, for
            each its `answer` and `tokens`; `usage`, the ledger by column (see `tts_eval.types.Usage`). Empty where
            lm-eval makes one of a gold answer, to compare like with like.
    """

    meta: dict[str, Any]

    def __new__(cls, text: object, meta: dict[str, Any] | None = None) -> Answer:
        """Makes a text with a payload."""
        answer = super().__new__(cls, text)
        answer.meta = meta or {}
        return answer

    def __reduce__(self) -> tuple[type[Answer], tuple[str, dict[str, Any]]]:
        """Pickles text and payload, for lm-eval's cache and for other ranks."""
        return Answer, (str(self), self.meta)
