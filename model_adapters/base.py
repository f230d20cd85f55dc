"""What all adapters share: an lm-eval model that answers `generate_until` by searching with another lm-eval model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, CacheHook
from lm_eval.api.registry import get_model, model_registry
from lm_eval.utils import simple_parse_args_string
from tqdm import tqdm

from tts_eval.answers import FALLBACKS
from tts_eval.engines.summation import fix_order
from tts_eval.journal import Journal, Record
from tts_eval.model_adapters.answer import Answer
from tts_eval.model_adapters.arguments import (
    REQUIRED,
    Argument,
    flag,
    number,
    one_of,
    split_arguments,
    text,
    whole,
)
from tts_eval.model_adapters.engines import base_parameters, build_base, build_engine
from tts_eval.model_adapters.files import claim_cache, journal_of, open_journal, output_folder
from tts_eval.model_adapters.ranks import join_ranks
from tts_eval.model_adapters.records import (
    Question,
    Unanswered,
    answer_of,
    default_limit,
    question_of,
    questions_of,
    record_of,
    require_steps,
)
from tts_eval.model_adapters.servers import DEADLINE, NOT_DECISIVE
from tts_eval.model_adapters.shards import TaskJournal
from tts_eval.model_adapters.verifiers import DTYPES, build_verifier, cache_bytes, verifier_identity, vllm_options
from tts_eval.scheduler import Scheduler
from tts_eval.selection import AGGREGATIONS, SELECTIONS, refuse_without_scores
from tts_eval.transcripts import Transcript
from tts_eval.types import Decoding, Problem, Search, TtsEvalError, Usage


_DEFAULTS = Decoding()

_SAMPLES_IN_FLIGHT = 1024
"""Enough to keep an engine's batch full while others of them wait for the verifier."""


class SearchLM(LM):
    """Wraps a base model with a search; every subclass is one strategy.

    Attributes:
        NAME: The strategy's name in journals.
        ARGUMENTS: What it takes from `--model_args`; everything else is the base model's.
        PARAMETERS: Those of them that decide the candidates and aren't named elsewhere in a journal.
        NEEDS_VERIFIER: Whether it can't do without one.
    """

    NAME: ClassVar[str]
    ARGUMENTS: ClassVar[Mapping[str, Argument]] = {
        "base": Argument(str, "hf"),
        "budget": Argument(whole(1), REQUIRED),
        "temperature": Argument(number(0), _DEFAULTS.temperature),
        "seed": Argument(whole(0), _DEFAULTS.seed),
        "step_delimiter": Argument(text, _DEFAULTS.step_delimiter),
        "verifier": Argument(text, None),
        "verifier_format": Argument(text, None),
        "verifier_reference": Argument(text, None),
        "verifier_tokenizer": Argument(text, None),
        "verifier_dtype": Argument(one_of(*DTYPES), None),
        "verifier_pickle": Argument(flag, False),
        "verifier_engine": Argument(one_of("hf", "vllm"), "hf"),
        "noise": Argument(number(0, 1), 0.0),
        "aggregation": Argument(one_of(*AGGREGATIONS), None),
        "selection": Argument(one_of(*SELECTIONS), None),
        "answer_fallback": Argument(one_of(*FALLBACKS), None),
        "journal": Argument(text, None),
        "transcript": Argument(flag, False),
        "cache_gb": Argument(number(0), None),
        "deadline": Argument(number(1), DEADLINE),
        "native_n": Argument(flag, True),
        "prefill": Argument(flag, False),
        "send_seed": Argument(flag, True),
    }
    PARAMETERS: ClassVar[tuple[str, ...]] = ("temperature", "step_delimiter", "answer_fallback")
    NEEDS_VERIFIER: ClassVar[bool] = False

    def __init__(
        self,
        model_args: Mapping[str, Any],
        additional: Mapping[str, Any] | None = None,
        *,
        like: SearchLM | None = None,
    ):
        """Makes the base model and the verifier.

        Args:
            model_args: Everything of `--model_args`: ours, and the base's untouched.
            additional: What lm-eval adds for the base model: batch size and device.
            like: An adapter of the same base model and verifier, which are shared with it instead of loaded again.

        Raises:
            TtsEvalError: If an argument is wrong, a verifier is missing, or the base model can't be made.
        """
        super().__init__()
        fix_order()  # a verifier multiplies as soon as it is loaded
        if self.NEEDS_VERIFIER and model_args.get("verifier") is None:
            raise TtsEvalError(f"{self.NAME} searches against a verifier: add verifier= to --model_args")
        self._model_args = dict(model_args)
        self._base_name = str(model_args.get("base", self.ARGUMENTS["base"].default))
        known = base_parameters(self._base_name)
        of_verifier = vllm_options(model_args, self.ARGUMENTS)
        others = {name: value for name, value in model_args.items() if name not in of_verifier}
        self.arguments, self._base_arguments = split_arguments(others, self.ARGUMENTS, known)
        self._refuse_others_arguments(known)
        if self.arguments["verifier"] is None:
            refuse_without_scores(self.arguments["selection"] or "majority")
        if like is None:
            self._base = build_base(self._base_name, self._base_arguments, additional)
            self._ranks = join_ranks(self._base_name, self._base, self._base_arguments)
            self._verifier = build_verifier(self.arguments, of_verifier)
        else:
            self._base, self._verifier, self._ranks = like._base, like._verifier, like._ranks
        self._choose_selection()
        batch_size = str((additional or {}).get("batch_size"))
        # lm-eval's default of 1 can't be told from a wish for 1, and would make every run crawl.
        self._max_rows = int(batch_size) if batch_size.isdecimal() and int(batch_size) > 1 else None
        self._usage = Usage()
        self._usage_of_all: Usage | None = None  # of several ranks, once they are done
        self._journals: dict[str, TaskJournal] = {}

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> SearchLM:
        """Makes the adapter from a dict of arguments, as the `lm_eval` command does."""
        return cls(arg_dict, additional_config)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> SearchLM:
        """Makes the adapter from `key=value,key=value`, as `simple_evaluate` does."""
        return cls(simple_parse_args_string(arg_string), additional_config)

    @abstractmethod
    def search(self, problem: Problem) -> Search:
        """A fresh search for one problem."""

    @property
    def stepwise(self) -> bool:
        """Whether it searches step by step, so that solutions must have steps."""
        return False

    def _refuse_others_arguments(self, declared: Container[str]) -> None:
        """Refuses what only another of our models takes: many a base swallows what it doesn't know.

        Raises:
            TtsEvalError: If there is one that the base doesn't declare either.
        """
        for key in (key for key in self._base_arguments if key not in declared):
            takers = [name for name, kind in _search_models() if key.removeprefix("tts_") in kind.ARGUMENTS]
            if takers:
                raise TtsEvalError(
                    f"{key}= is an argument of {', '.join(takers)}, and this is tts-{self.NAME}: drop it from "
                    "--model_args, or name another --model"
                )

    def _choose_selection(self) -> None:
        """Where the user chose none: what suits the verifier, or the majority without one."""
        verifier = self._verifier
        defaults = ("majority", "last") if verifier is None else ("best_of_n_weighted", verifier.aggregation)
        for name, default in zip(("selection", "aggregation"), defaults, strict=True):
            if self.arguments[name] is None:
                self.arguments[name] = default

    def forget(self) -> None:
        """Drops what the verifier keeps of earlier runs, so that the next one costs what it would alone."""
        if self._verifier is not None:
            self._verifier.forget()

    def identity(self) -> dict[str, Any]:
        """What decides the candidates of a run: two runs that differ in it may not share a journal or a cache."""
        arguments = {name: value for name, value in self._base_arguments.items() if name not in NOT_DECISIVE}
        return {
            "model": {"base": self._base_name, **arguments},
            "verifier": verifier_identity(self.arguments),
            "strategy": {"name": self.NAME, **{name: self.arguments[name] for name in self.PARAMETERS}},
            "budget": self.arguments["budget"],
            "seed": self.arguments["seed"],
        }

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Searches for all requests' problems at once; what the journal holds already is not computed again.

        Args:
            requests: Requests of any number of tasks; only their prompts and generation arguments are looked at.
            disable_tqdm: Hides the progress bar.

        Returns:
            An `Answer` for each request.
        """
        questions = questions_of(requests, self._verifier is not None, default_limit(self._base))
        answers: dict[tuple[str, str], Answer] = {}
        unanswered = Unanswered()
        with ExitStack() as stack:
            journals = self._open_journals(list(questions.values()), stack)
            for key, question in questions.items():
                journal = journals.get(question.task)
                if journal is not None and question.problem.uid in journal.records:
                    unanswered.see(journal.records[question.problem.uid])
                    answers[key] = self._answer(journal.records[question.problem.uid])
            missing = [question for key, question in questions.items() if key not in answers]
            for question, record in self._search_all(missing, len(answers), disable_tqdm):
                if question.task in journals:
                    journals[question.task].append(record)
                unanswered.see(record)
                answers[question.key] = self._answer(record)
                self.cache_hook.add_partial("generate_until", question.arguments, answers[question.key])
        if self.world_size == 1:  # the share of one rank may be small, and say nothing of the task
            unanswered.close()
        return [answers[question_of(request).key] for request in requests]

    def _open_journals(self, questions: list[Question], stack: ExitStack) -> dict[str, Journal]:
        folder, named = output_folder(self._model_args), self.arguments["journal"]
        tasks = sorted({question.task for question in questions})
        if Path(named or "").suffix == ".jsonl" and len(tasks) > 1:
            raise TtsEvalError(
                f"journal={named}: a journal file holds one task, and this run has {len(tasks)}: name a folder"
            )
        journals = {}
        for task in tasks:
            of_task = [question for question in questions if question.task == task]
            place = journal_of(named, folder, task, self.identity(), of_task)
            if place is not None:
                self._journals[task] = place
                journals[task] = stack.enter_context(open_journal(place, self._ranks, of_task))
        return journals

    def _search_all(
        self, questions: list[Question], done: int, disable_tqdm: bool
    ) -> Iterator[tuple[Question, Record]]:
        """Runs a search for each question; yields them as they are done."""
        if self.stepwise:
            require_steps(questions, self.arguments["step_delimiter"])
        names = ("temperature", "seed", "step_delimiter", "max_step_tokens")
        decoding = Decoding(**{name: self.arguments[name] for name in names if name in self.arguments})
        engine = build_engine(
            self._base_name,
            self._base,
            decoding,
            self._max_rows,
            cache_bytes(self.arguments),
            given=self._base_arguments,
            ours=self.arguments,
        )
        for question in questions:
            engine.check(question.problem)
        by_problem = {id(question.problem): question for question in questions}
        bar = tqdm(
            total=done + len(questions),
            initial=done,
            desc=f"{self.NAME}, N={self.arguments['budget']}",
            unit="problem",
            disable=disable_tqdm or self.rank > 0,
        )
        transcript = Transcript() if self.arguments["transcript"] else None
        with bar:
            searches = ((question.problem, self.search(question.problem)) for question in questions)
            in_flight = min(256, max(8, _SAMPLES_IN_FLIGHT // self.side_by_side))
            scheduler = Scheduler(engine, self._verifier, in_flight=in_flight, watcher=transcript)
            for finished in scheduler.run(searches):
                if engine.tokens_written is not None:
                    bar.set_postfix_str(f"{engine.tokens_written:,} tokens")
                if finished is not None:
                    problem, outcome, usage = finished
                    question = by_problem[id(problem)]
                    bar.update()
                    kind = None if self._verifier is None else self._verifier.kind
                    nodes = None if transcript is None else transcript.take(problem, outcome)
                    yield question, replace(record_of(question, outcome, usage, self.identity(), kind), nodes=nodes)

    @property
    def side_by_side(self) -> int:
        """How many solutions of a problem are sampled at a time."""
        budget: int = self.arguments["budget"]
        return budget

    def _answer(self, record: Record) -> Answer:
        self._usage += record.usage
        return answer_of(record, self.arguments["selection"], self.arguments["aggregation"])

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Takes lm-eval's cache, which keys on prompts alone.

        What comes from the cache never reaches us, so it is in no journal.

        Raises:
            TtsEvalError: If the cache holds the answers of another run.
        """
        late = {name: self.arguments[name] for name in ("selection", "aggregation")}
        claim_cache(cache_hook, {**self.identity(), **late})
        super().set_cache_hook(cache_hook)

    def get_model_info(self) -> dict[str, Any]:
        """The base model's information, if it gives any, and what the whole run cost."""
        # An optional method in lm-eval: only some of its models have it.
        info: dict[str, Any] = getattr(self._base, "get_model_info", dict)()
        return {**info, "tts_eval": {**self.identity(), "usage": asdict(self._usage_of_all or self._usage)}}

    @property
    def rank(self) -> int:
        """Which of the run's processes this is."""
        return self._ranks.rank

    @property
    def world_size(self) -> int:
        """How many processes share the problems."""
        return self._ranks.world_size

    def all_gather(self, tensor: Any) -> Any:
        """Gives every rank what each has; so lm-eval learns how many requests of a task they have.

        Args:
            tensor: One number.

        Returns:
            The numbers, [ranks].
        """
        return tensor.new_tensor(self._ranks.all_gather(tensor.item()))

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """Collects the ranks' objects on rank `dst`."""
        return self._ranks.gather(obj, dst)

    def barrier(self) -> None:
        """Waits for all ranks; then rank 0 makes one of their journals, and one of their costs.

        lm-eval calls it on every rank that has answers to all its requests, even if they are all from its cache.
        """
        shares = self._ranks.gather((self._usage, self._journals))
        if shares is not None:
            self._usage_of_all = sum((usage for usage, _ in shares), Usage())
            for journal in {task: one for _, journals in shares for task, one in journals.items()}.values():
                journal.merge()
        self._ranks.all_gather(None)

    # Everything below is the base model's own.

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """The base model's."""
        return self._base.loglikelihood(requests)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """The base model's."""
        return self._base.loglikelihood_rolling(requests)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The base model's."""
        return self._base.apply_chat_template(chat_history, add_generation_prompt=add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The base model's."""
        return self._base.chat_template(chat_template)

    @property
    def tokenizer_name(self) -> str:
        """The base model's."""
        return self._base.tokenizer_name

    @property
    def tokenizer(self) -> Any:
        """The base model's."""
        return self._base.tokenizer

    @property
    def max_length(self) -> int:
        """The base model's."""
        return self._base.max_length

    @property
    def eot_token_id(self) -> int:
        """The base model's."""
        return self._base.eot_token_id

    @property
    def device(self) -> Any:
        """The base model's."""
        return self._base.device


def _search_models() -> Iterator[tuple[str, type[SearchLM]]]:
    """Our models that search, by the names under which lm-eval knows them."""
    for name in model_registry:
        if name.startswith("tts-") and issubclass(kind := get_model(name), SearchLM):
            yield name, kind
