"""`tts-replay`: selects anew from a journal, without any model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.utils import simple_parse_args_string

from tts_eval.journal import Record, read_journal
from tts_eval.model_adapters.arguments import REQUIRED, Argument, one_of, split_arguments, text
from tts_eval.model_adapters.records import answer_of, question_of
from tts_eval.selection import AGGREGATIONS, EVERY_SELECTION
from tts_eval.types import TtsEvalError


class Replay(LM):
    """Answers from a journal, with another selection or aggregation than the run that wrote it.

    Attributes:
        ARGUMENTS: `journal`, a file or a folder of journals; `selection`; `aggregation`; and `model`, which names the
            output folder.
    """

    ARGUMENTS: ClassVar[Mapping[str, Argument]] = {
        "journal": Argument(text, REQUIRED),
        "aggregation": Argument(one_of(*AGGREGATIONS), "last"),
        "selection": Argument(one_of(*EVERY_SELECTION), "majority"),
        "model": Argument(text, None),
    }

    def __init__(self, model_args: Mapping[str, Any], additional: Mapping[str, Any] | None = None):
        """Reads the journal.

        Raises:
            TtsEvalError: If an argument is wrong, or the journal is missing, malformed or holds several runs of a
                problem.
        """
        super().__init__()
        self.arguments, rest = split_arguments(model_args, self.ARGUMENTS, set())
        if rest:
            raise TtsEvalError(f"tts-replay runs no model and takes no {', '.join(rest)}: leave it out of --model_args")
        self._records: dict[tuple[str, str], Record] = {}
        for path in _journals(Path(self.arguments["journal"]).expanduser()):
            for record in read_journal(path)[1]:
                if (record.task, record.uid) in self._records:
                    raise TtsEvalError(f"{path}: problem {record.uid} is in another journal too: name one file")
                self._records[record.task, record.uid] = record

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> Replay:
        """Makes the adapter from a dict of arguments, as the `lm_eval` command does."""
        return cls(arg_dict, additional_config)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Replay:
        """Makes the adapter from `key=value,key=value`, as `simple_evaluate` does."""
        return cls(simple_parse_args_string(arg_string), additional_config)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Selects among each problem's candidates.

        Returns:
            An `Answer` for each request.

        Raises:
            TtsEvalError: If the journal doesn't hold a problem.
        """
        questions = [question_of(request) for request in requests]
        missing = [question for question in questions if question.key not in self._records]
        if missing:
            raise TtsEvalError(
                f"{self.arguments['journal']} lacks {len(missing)} of {len(questions)} problems, the first "
                f"{missing[0].problem.uid} of {missing[0].task}: use the task and --limit of the run that wrote it"
            )
        how = self.arguments["selection"], self.arguments["aggregation"]
        return [answer_of(self._records[question.key], *how) for question in questions]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The bare messages: nothing is generated, and our tasks' problems are found by id, not by prompt."""
        return "\n\n".join(message["content"] for message in chat_history)

    @property
    def tokenizer_name(self) -> str:
        """None is used; lm-eval asks for a name where a chat template is applied."""
        return "tts-replay"

    def loglikelihood(self, requests: list[Instance]) -> NoReturn:
        """Refused: a journal holds texts."""
        raise TtsEvalError("tts-replay only answers tasks with output_type: generate_until")

    def loglikelihood_rolling(self, requests: list[Instance]) -> NoReturn:
        """Refused: a journal holds texts."""
        self.loglikelihood(requests)


def _journals(path: Path) -> list[Path]:
    found = sorted(path.rglob("candidates_*.jsonl")) if path.is_dir() else [path]
    if not found:
        raise TtsEvalError(f"journal={path}: the folder holds no candidates_*.jsonl; name the folder of a finished run")
    return found
