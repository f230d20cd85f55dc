"""`tts-eval label`: Monte-Carlo labels for the steps of a policy's own solutions (Snell et al. 2024, section 2)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts_eval.commands.options import positive
from tts_eval.commands.tasks import add_metadata, our_tasks, tasks_of
from tts_eval.jsonl import Header
from tts_eval.labels import LabelFile, LabelledProblem, Saving, label_problem
from tts_eval.types import Decoding, Problem, TtsEvalError, Usage


if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask

    from tts_eval.engines.hf import HFEngine


_IN_FLIGHT = 16  # the rollouts of a single problem fill a batch, and a run that is killed loses what is in flight
# As the lm_eval command has them, so that solutions are those of a measurement.
_DEVICE = "cuda:0"  # the CPU where there is none
_FEWSHOT_SEED = 1234


@dataclass(frozen=True)
class Policy:
    """The model whose solutions are labelled.

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


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add(
        "--model_args",
        required=True,
        metavar="KEY=VALUE,...",
        help="the policy: base= (default hf) and its arguments, with temperature= and step_delimiter= among them",
    )
    add("--tasks", required=True, metavar="TASK", help="the task whose problems are solved")
    add("--split", help="its split to label; default: train, or test where the task has no other")
    add("--output", required=True, type=Path, metavar="FILE", help="label file (.jsonl); an interrupted one goes on")
    add("--samples", type=positive, default=16, help="solutions a problem; default: %(default)s")
    add("--rollouts", type=positive, default=16, help="completions of each step prefix; default: %(default)s")
    add("--limit", type=positive, help="only the first problems")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--max_tokens", type=positive, help="longest solution; default: the task's max_gen_toks")
    add("--num_fewshot", type=int, help="examples in the prompt; default: the task's own")
    add("--apply_chat_template", action="store_true", help="render prompts with the policy's chat template")
    add(
        "--answer_fallback",
        choices=("answer_is", "last_number"),
        help="how to find an answer that isn't boxed; default: not at all",
    )
    add_metadata(parser)


def run(args: argparse.Namespace) -> int:
    """Labels what the file doesn't hold yet and prints a summary of the whole file.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If model, task or file are refused, or the disk is full.
    """
    task = _task(args)
    split, docs = _documents(task, args.split, args.limit)
    policy = _policy(args.model_args, args.seed)
    asked = _ask(task, docs, policy, args)
    with LabelFile.open(args.output, _header(args, task, split, asked, policy)) as file:
        _require_same_prompts(file, asked)
        missing = {uid: pair for uid, pair in asked.items() if uid not in file.records}
        if len(missing) < len(asked):
            print(f"tts-eval label: {args.output} holds {len(asked) - len(missing)} problems already", file=sys.stderr)
        for labelled in _label(missing, policy, args, len(asked)):
            file.append(labelled)
        print(summary(list(file.records.values())))
    return 0


def summary(problems: Sequence[LabelledProblem]) -> str:
    """What a label file holds, what it cost, and what sharing saved, as lines of text."""
    usage = sum((problem.usage for problem in problems), Usage())
    saving = sum((problem.saving for problem in problems if problem.saving), Saving())
    kept = [solution for problem in problems for solution in problem.solutions]
    dropped = sum(problem.dropped for problem in problems)
    correct = sum(solution.correct for solution in kept)
    prefilled, decoded = usage.prefill_tokens or 0, usage.decode_tokens or 0
    lines = [
        f"{len(problems):,} problems, {len(kept) + dropped:,} solutions: {dropped:,} without an answer dropped, "
        f"{correct:,} correct",
        f"{sum(len(solution.steps) for solution in kept):,} steps, {saving.steps:,} of them with something to roll "
        f"out, {saving.prefixes:,} distinct; {saving.rollouts:,} rollouts",
        f"tokens: {prefilled:,} read, {usage.reused_tokens or 0:,} reused, {decoded:,} written; "
        f"{usage.seconds or 0:,.1f} s",
        f"with nothing shared: {saving.prefill_tokens:,} read ({_times(saving.prefill_tokens, prefilled)}), "
        f"{saving.decode_tokens:,} written ({_times(saving.decode_tokens, decoded)})",
    ]
    return "\n".join(lines)


def _times(without: int, shared: int) -> str:
    return f"{without / shared:.2f} times as many" if shared else "none in either case"


def _task(args: argparse.Namespace) -> ConfigurableTask:
    manager = our_tasks(args.metadata)
    names = tasks_of(manager, args.tasks)
    if len(names) > 1:
        raise TtsEvalError(f"--tasks {args.tasks} is a group: label one of its tasks at a time ({', '.join(names)})")
    task = manager.load(names)["tasks"][names[0]]
    if args.num_fewshot is not None:
        task.set_config("num_fewshot", args.num_fewshot)
    task.set_fewshot_seed(_FEWSHOT_SEED)
    return task


def _policy(model_args: str, seed: int) -> Policy:
    from lm_eval.utils import simple_parse_args_string

    from tts_eval.engines.hf import HFEngine
    from tts_eval.model_adapters.arguments import Argument, number, parameters_of, split_arguments, text
    from tts_eval.model_adapters.engines import base_class, build_base, build_engine

    ours = {
        "base": Argument(str, "hf"),
        "temperature": Argument(number(0), Decoding().temperature),
        "step_delimiter": Argument(text, Decoding().step_delimiter),
    }
    given = simple_parse_args_string(model_args)
    name = str(given.get("base", "hf"))
    arguments, rest = split_arguments(given, ours, parameters_of(base_class(name)))
    decoding = Decoding(arguments["temperature"], seed, arguments["step_delimiter"])
    base = build_base(name, {"device": _DEVICE, **rest}, None)
    engine = build_engine(name, base, decoding, max_rows=None)
    if not isinstance(engine, HFEngine):
        raise TtsEvalError(
            f"base={name} only maps a prompt to a whole text, but rollouts go on from partial solutions: use base=hf"
        )
    return Policy(base, engine, decoding, {"base": name, **rest})


def _documents(task: ConfigurableTask, split: str | None, limit: int | None) -> tuple[str, list[dict[str, Any]]]:
    """The name of the split and its documents."""
    name = split or ("train" if "train" in task.dataset else task.config.test_split)
    if name not in task.dataset:
        raise TtsEvalError(f"--split {name}: {task.config.task} has {', '.join(task.dataset)}")
    if split is None and name != "train":
        print(
            f"tts-eval label: {task.config.task} has no split 'train', so its split '{name}' is labelled; see to it "
            "that those problems are not the ones to be measured on (--metadata names other data)",
            file=sys.stderr,
        )
    process = task.config.process_docs or (lambda docs: docs)
    docs = list(process(task.dataset[name]))[:limit]
    missing = [field for field in ("problem", "answer") if field not in docs[0]]
    if missing:
        raise TtsEvalError(f"{task.config.task}: its documents have no {' and no '.join(missing)}; use a task of ours")
    return name, docs


def _ask(
    task: ConfigurableTask, docs: Sequence[Mapping[str, Any]], policy: Policy, args: argparse.Namespace
) -> dict[str, tuple[Problem, str]]:
    """Renders each document as a measurement would: uid to problem and gold answer."""
    from tts_eval.model_adapters.records import question_of

    chat = args.apply_chat_template
    asked: dict[str, tuple[Problem, str]] = {}
    for index, doc in enumerate(docs):
        prompt = task.fewshot_context(
            doc,
            num_fewshot=task.config.num_fewshot or 0,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            chat_template=policy.base.apply_chat_template if chat else None,
            gen_prefix=task.doc_to_prefix(doc),
        )
        problem = question_of(task.construct_requests(doc, prompt, metadata=(task.config.task, index, 1))).problem
        problem = replace(problem, question=doc["problem"], max_tokens=args.max_tokens or problem.max_tokens)
        if problem.uid in asked:
            raise TtsEvalError(f"{task.config.task} has two problems with unique_id {problem.uid}: give each its own")
        policy.engine.check(problem)
        asked[problem.uid] = problem, doc["answer"]
    return asked


def _header(
    args: argparse.Namespace,
    task: ConfigurableTask,
    split: str,
    asked: Mapping[str, tuple[Problem, str]],
    policy: Policy,
) -> Header:
    from tts_eval.engines.tokens import vocabulary_hash
    from tts_eval.model_adapters.files import provenance

    problem, _ = next(iter(asked.values()))
    return Header(
        {
            "policy": policy.identity,
            "tokenizer": vocabulary_hash(policy.base.tokenizer),
            "task": task.config.task,
            "split": split,
            "samples": args.samples,
            "rollouts": args.rollouts,
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


def _require_same_prompts(file: LabelFile, asked: Mapping[str, tuple[Problem, str]]) -> None:
    for uid, (problem, gold) in asked.items():
        record = file.records.get(uid)
        if record is not None and (record.prompt, record.gold) != (problem.prompt, gold):
            raise TtsEvalError(
                f"label file {file.path}: problem {uid} had another prompt or gold answer there (the data differs): "
                "use the same data, or name another --output"
            )


def _label(
    asked: Mapping[str, tuple[Problem, str]], policy: Policy, args: argparse.Namespace, total: int
) -> Iterator[LabelledProblem]:
    """Samples, rolls out and grades; yields each problem as soon as it is done."""
    from tqdm import tqdm

    from tts_eval.answers import default_grader, extract_answer
    from tts_eval.scheduler import Scheduler
    from tts_eval.search import monte_carlo

    extract = partial(extract_answer, fallback=args.answer_fallback)

    def parsable(text: str) -> bool:
        return extract(text) is not None

    searches = ((problem, monte_carlo(args.samples, args.rollouts, parsable=parsable)) for problem, _ in asked.values())
    with tqdm(total=total, initial=total - len(asked), desc="label", unit="problem") as bar:
        for finished in Scheduler(policy.engine, in_flight=_IN_FLIGHT).run(searches):
            bar.set_postfix_str(f"{policy.engine.tokens_written:,} tokens")
            if finished is not None:
                problem, outcome, usage = finished
                yield label_problem(
                    problem,
                    asked[problem.uid][1],
                    outcome,
                    usage,
                    prompt_tokens=len(policy.base.tok_encode(problem.prompt)),
                    extract=extract,
                    grade=default_grader().grade,
                )
                bar.update()
