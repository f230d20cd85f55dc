"""What commands that sample from a policy share: their options, the problems of a task, the header, and the loop."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tts_eval.answers import FALLBACKS
from tts_eval.commands.options import positive
from tts_eval.commands.tasks import add_metadata, our_tasks, tasks_of
from tts_eval.jsonl import Header, ProblemLine, RecordFile
from tts_eval.scheduler import Counted
from tts_eval.types import Decoding, Problem, Sample, Score, TtsEvalError, Usage


if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask

    from tts_eval.engines.hf import HFEngine


# As the lm_eval command has them, so that solutions are those of a measurement.
_DEVICE = "cuda:0"  # the CPU where there is none
_FEWSHOT_SEED = 1234

_SAMPLES_IN_FLIGHT = 512


class GradedLine(ProblemLine, Protocol):
    """A record that was made from a prompt and a gold answer."""

    @property
    def prompt(self) -> str: ...  # noqa: D102
    @property
    def gold(self) -> str: ...  # noqa: D102


_Line = TypeVar("_Line", bound=GradedLine)
_Found = TypeVar("_Found", bound=Counted)


@dataclass(frozen=True)
class Policy:
    """The model whose solutions are wanted.

    Attributes:
        base: The lm-eval model.
        engine: Samples from it.
        decoding: How.
        identity: Its name and arguments, for the header.
    """

    base: Any
    engine: HFEngine
    decoding: Decoding
    identity: Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """All that a command asks.

    Attributes:
        task: Whose problems they are.
        split: Its split.
        policy: Who is asked.
        problems: uid to problem and gold answer, in the order of the documents.
    """

    task: ConfigurableTask
    split: str
    policy: Policy
    problems: Mapping[str, tuple[Problem, str]]

    def gold(self, problem: Problem) -> str:
        """The gold answer of a problem."""
        return self.problems[problem.uid][1]


def add_asking(parser: argparse.ArgumentParser, output: str) -> None:
    """Declares the options that `ask` reads.

    Args:
        parser: Of the command.
        output: What `--output` names.
    """
    add = parser.add_argument
    add(
        "--model_args",
        required=True,
        metavar="KEY=VALUE,...",
        help="the policy: base= (default hf) and its arguments, with temperature= and step_delimiter= among them",
    )
    add("--tasks", required=True, metavar="TASK", help="the task whose problems are solved")
    add("--split", help="its split to solve; default: train, or test where the task has no other")
    add("--output", required=True, type=Path, metavar="FILE", help=f"{output} (.jsonl); an interrupted one goes on")
    add("--skip", type=positive, default=0, metavar="K", help="leave out the first problems")
    add("--limit", type=positive, help="only so many problems")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--max_tokens", type=positive, help="longest solution; default: the task's max_gen_toks")
    add("--num_fewshot", type=int, help="examples in the prompt; default: the task's own")
    add("--apply_chat_template", action="store_true", help="render prompts with the policy's chat template")
    add(
        "--answer_fallback",
        choices=tuple(FALLBACKS),
        help="how to find an answer that isn't boxed; default: not at all",
    )
    add_metadata(parser)


def ask(args: argparse.Namespace, verb: str, why: str) -> Asked:
    """Loads task and policy and renders each document as a measurement would.

    Args:
        args: See `add_asking`.
        verb: What the command does with a task, for messages.
        why: Why only a transformers model will do, for messages.

    Raises:
        TtsEvalError: If model, task or a problem is refused.
    """
    task = _task(args, verb)
    split, docs = _documents(task, args)
    policy = _policy(args, why)
    problems: dict[str, tuple[Problem, str]] = {}
    for index, doc in enumerate(docs):
        problem = _problem(task, index, doc, policy, args)
        if problem.uid in problems:
            raise TtsEvalError(f"{task.config.task} has two problems with unique_id {problem.uid}: give each its own")
        policy.engine.check(problem)
        problems[problem.uid] = problem, doc["answer"]
    return Asked(task, split, policy, problems)


def _task(args: argparse.Namespace, verb: str) -> ConfigurableTask:
    manager = our_tasks(args.metadata)
    names = tasks_of(manager, args.tasks)
    if len(names) > 1:
        raise TtsEvalError(f"--tasks {args.tasks} is a group: {verb} one of its tasks at a time ({', '.join(names)})")
    task = manager.load(names)["tasks"][names[0]]
    if args.num_fewshot is not None:
        task.set_config("num_fewshot", args.num_fewshot)
    task.set_fewshot_seed(_FEWSHOT_SEED)
    return task


def _documents(task: ConfigurableTask, args: argparse.Namespace) -> tuple[str, list[dict[str, Any]]]:
    """The name of the split and its documents."""
    name = args.split or ("train" if "train" in task.dataset else task.config.test_split)
    if name not in task.dataset:
        raise TtsEvalError(f"--split {name}: {task.config.task} has {', '.join(task.dataset)}")
    if args.split is None and name != "train":
        print(
            f"tts-eval {args.command}: {task.config.task} has no split 'train', so its split '{name}' is taken; see to "
            "it that those problems are not the ones to be measured on (--metadata names other data)",
            file=sys.stderr,
        )
    process = task.config.process_docs or (lambda docs: docs)
    docs = list(process(task.dataset[name]))[args.skip :][: args.limit]
    if not docs:
        raise TtsEvalError(f"--skip {args.skip}: split '{name}' of {task.config.task} has no more problems")
    missing = [field for field in ("problem", "answer") if field not in docs[0]]
    if missing:
        raise TtsEvalError(f"{task.config.task}: its documents have no {' and no '.join(missing)}; use a task of ours")
    return name, docs


def _policy(args: argparse.Namespace, why: str) -> Policy:
    from lm_eval.utils import simple_parse_args_string

    from tts_eval.engines.hf import HFEngine
    from tts_eval.model_adapters.arguments import Argument, number, split_arguments, text
    from tts_eval.model_adapters.engines import base_parameters, build_base, build_engine

    ours = {
        "base": Argument(str, "hf"),
        "temperature": Argument(number(0), Decoding().temperature),
        "step_delimiter": Argument(text, Decoding().step_delimiter),
    }
    given = simple_parse_args_string(args.model_args)
    name = str(given.get("base", "hf"))
    arguments, rest = split_arguments(given, ours, base_parameters(name))
    decoding = Decoding(arguments["temperature"], args.seed, arguments["step_delimiter"])
    base = build_base(name, {"device": _DEVICE, **rest}, None)
    engine = build_engine(name, base, decoding, max_rows=None)
    if not isinstance(engine, HFEngine):
        raise TtsEvalError(
            f"base={name} only maps a prompt to a whole text here, but {why}: use base=hf with a model it can batch"
        )
    return Policy(base, engine, decoding, {"base": name, **rest})


def _problem(
    task: ConfigurableTask, index: int, doc: Mapping[str, Any], policy: Policy, args: argparse.Namespace
) -> Problem:
    from tts_eval.model_adapters.records import question_of

    chat = args.apply_chat_template
    prompt = task.fewshot_context(
        doc,
        num_fewshot=task.config.num_fewshot or 0,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        chat_template=policy.base.apply_chat_template if chat else None,
        gen_prefix=task.doc_to_prefix(doc),
    )
    problem = question_of(task.construct_requests(doc, prompt, metadata=(task.config.task, index, 1))).problem
    return replace(problem, question=doc["problem"], max_tokens=args.max_tokens or problem.max_tokens)


def header_of(args: argparse.Namespace, asked: Asked, own: Mapping[str, Any]) -> Header:
    """The header of the command's file.

    Args:
        args: See `add_asking`.
        asked: What is asked.
        own: What decides the records of this command beside that.
    """
    from tts_eval.engines.tokens import vocabulary_hash
    from tts_eval.model_adapters.files import provenance

    policy = asked.policy
    problem, _ = next(iter(asked.problems.values()))
    return Header(
        {
            "policy": policy.identity,
            "tokenizer": vocabulary_hash(policy.base.tokenizer),
            "task": asked.task.config.task,
            "split": asked.split,
            **own,
            "temperature": policy.decoding.temperature,
            "seed": policy.decoding.seed,
            "step_delimiter": policy.decoding.step_delimiter,
            "max_tokens": problem.max_tokens,
            "stop": problem.stop,
            "answer_fallback": args.answer_fallback,
            "prompting": {"num_fewshot": args.num_fewshot, "apply_chat_template": args.apply_chat_template},
            **provenance(datetime.now()),
        }
    )


def missing_from(file: RecordFile[_Line], asked: Asked, command: str) -> list[Problem]:
    """The problems that a file doesn't hold yet; says on stderr how many it does.

    Raises:
        TtsEvalError: If it holds one with another prompt or gold answer.
    """
    for uid, (problem, gold) in asked.problems.items():
        record = file.records.get(uid)
        if record is not None and (record.prompt, record.gold) != (problem.prompt, gold):
            raise TtsEvalError(
                f"{file.KIND} {file.path}: problem {uid} had another prompt or gold answer there (the data differs): "
                "use the same data, or name another --output"
            )
    missing = [problem for uid, (problem, _) in asked.problems.items() if uid not in file.records]
    held = len(asked.problems) - len(missing)
    if held:
        print(f"tts-eval {command}: {file.path} holds {held} problems already", file=sys.stderr)
    return missing


def in_flight(samples: int) -> int:
    """Problems in progress at a time, if each has so many samples at once: enough to keep a batch full."""
    return max(2, _SAMPLES_IN_FLIGHT // samples)


def cost_line(usage: Usage) -> str:
    """Tokens and seconds, as a line of text."""
    read, reused, written = usage.prefill_tokens or 0, usage.reused_tokens or 0, usage.decode_tokens or 0
    return f"tokens: {read:,} read, {reused:,} reused, {written:,} written; {usage.seconds or 0:,.1f} s"


def solve(
    asked: Asked,
    problems: Sequence[Problem],
    search: Callable[[Problem], Generator[Sample | Score, Any, _Found]],
    *,
    in_flight: int,
    command: str,
) -> Iterator[tuple[Problem, _Found, Usage]]:
    """Runs a search for each problem, with a progress bar; yields what it found and cost as soon as it is done.

    Args:
        asked: What is asked in all.
        problems: Those of it that are missing.
        search: Makes a problem's search.
        in_flight: Most problems in progress at a time; a run that is killed loses them.
        command: What the bar says.
    """
    from tqdm import tqdm

    from tts_eval.scheduler import Scheduler

    engine, total = asked.policy.engine, len(asked.problems)
    searches = ((problem, search(problem)) for problem in problems)
    with tqdm(total=total, initial=total - len(problems), desc=command, unit="problem") as bar:
        for finished in Scheduler(engine, in_flight=in_flight).run(searches):
            bar.set_postfix_str(f"{engine.tokens_written:,} tokens")
            if finished is not None:
                yield finished
                bar.update()
