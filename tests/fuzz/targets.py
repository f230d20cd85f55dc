"""What is fuzzed: for each target the inputs, and the check that an input must pass.

A check fails by any exception but `TtsEvalError` (or what the function documents), by taking longer than its limit, or
by a broken law: a number is never what isn't one, and what is read can be written and read again.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from lm_eval.utils import simple_parse_args_string

from tts_eval.answers import FALLBACKS, Grader, extract_answer
from tts_eval.answers.fast import decide
from tts_eval.answers.normalize import clean
from tts_eval.engines.server_replies import read_answer
from tts_eval.journal import Journal, Record
from tts_eval.jsonl import cut_torn_tail
from tts_eval.model_adapters.arguments import Argument, flag, number, one_of, split_arguments, text, whole
from tts_eval.policy import read_policy, write_policy
from tts_eval.types import Candidate, TtsEvalError, Usage
from tts_eval.verifiers.http import read_outputs


@dataclass(frozen=True)
class Target:
    """One of them.

    Attributes:
        inputs: Makes them.
        check: Raises if one of them is mishandled.
    """

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]


ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()))

LATEX = (
    *("\\boxed{", "\\fbox {", "\\boxed 5", "}", "{", "\\{", "\\", "$", "$$", "####", "#### 7", "\n", "answer is "),
    *("Answer: ", "\\frac{1}{2}", "\\frac12", "\\sqrt{", "\\text{", "\\text{ cm}", "\\pi", "\\infty", "i", "e", "x"),
    *("^{", "_{", "^", "!", "1", "12", "0", "-", "+", "/", ".", ",", "1,000", "1e5", "%", "\\%", "(", ")", "[", "]"),
    *("=", "\\le", "\\in", "\\cup", "\\begin{pmatrix}", "\\end{pmatrix}", "\\\\", "&", " and ", "\\sum_{n=1}^{9}"),
    *("\\int", "\\sin", "\\log", "|", "\ud800", "\0", "\u2028", "\u0661", "\u00b2", "\uff11", "__import__('os')"),
    *("\\left(", "\\right)", "\\cdot", "\\times", "~"),
)

mathematics = st.lists(st.sampled_from(LATEX) | st.text(max_size=3), max_size=12).map("".join)

solutions = mathematics | ANY_TEXT | st.tuples(mathematics, st.integers(1, 3000)).map(lambda it: it[0] * it[1])

MODERATE = 2.0
"""Seconds of computing that reading anything may take."""


@contextmanager
def within(seconds: float, clock: Callable[[], float] = time.process_time) -> Iterator[None]:
    """A limit; of this process's own time, since the machine may be busy with others."""
    gc.disable()  # a full collection goes through all that the fuzzer keeps, for seconds
    started = clock()
    try:
        yield
        took = clock() - started
    finally:
        gc.enable()
    assert took < seconds, "too slow"


def check_extraction(given: tuple[str, str | None]) -> None:
    solution, fallback = given
    with within(MODERATE):
        answer = extract_answer(solution, fallback)
    assert answer is None or (answer and answer == answer.strip())


TIMEOUT = 1.0


@cache
def grader() -> Grader:
    return Grader(workers=1, timeout=TIMEOUT)


def check_grading(given: tuple[str, str, int]) -> None:
    """Any two answers get a verdict in time; text without a digit is never a number of two digits or more."""
    gold, answer, value = given
    with within(6 * TIMEOUT + 30, time.monotonic):  # a worker that is killed has to start again
        verdicts = grader().grade([(gold, answer), (answer, gold), (answer, answer)])
        wrong = grader().grade([(str(value), "".join(c for c in answer if not c.isnumeric()))])
    assert all(type(verdict) is bool for verdict in verdicts) and wrong == [False]


def check_clean_up(given: tuple[str, str]) -> None:
    """The part without sympy."""
    with within(MODERATE):
        mine, theirs = (clean(one[:1000]) for one in given)
        assert decide(mine, theirs) in (True, False, None)
        assert decide(mine, mine) is not None


RECORD = Record(
    "a",
    "toy",
    {"name": "beam", "width": 2},
    2,
    0,
    (
        Candidate("4\n5", "5", ("4\n", "5"), (0.5, 0.25), None, -1.5, 3, "eos", 0, 0),
        Candidate("6", None, ("6",), None, 0.5, None, None, "length", 1, 0),
    ),
    Usage(generations=2),
    level={"hard": [1, None]},
)
HEADER = b'{"schema": 1, "run": {"model": "m", "task": "toy", "seed": 0}}\n'
LINE = json.dumps(RECORD.to_json()).encode()

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.sampled_from([10**400, -1, 2**63, 1e308])
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3), max_leaves=8
)


def changed(value: Any, new: Any, at: list[int]) -> Any:
    """A copy of a JSON value with `new` at some place in it."""
    if not at or not isinstance(value, (dict, list)) or not value:
        return new
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[at[0] % len(keys)]
    copy = value.copy()
    copy[key] = changed(value[key], new, at[1:])
    return copy


places = st.lists(st.integers(0, 20), min_size=1, max_size=4)


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


spliced = st.tuples(st.integers(0, 1000), st.integers(0, 30), st.binary(max_size=8)).map(
    lambda cut: LINE[: cut[0]] + cut[2] + LINE[cut[0] + cut[1] :]
)
changed_lines = st.tuples(json_values, places).map(lambda it: dumped(changed(RECORD.to_json(), *it)))
deep = st.tuples(st.sampled_from([b"[", b'{"a":']), st.integers(1, 3000)).map(lambda it: it[0] * it[1])
lines = st.lists(spliced | changed_lines | st.binary() | json_values.map(dumped) | deep | st.just(LINE), max_size=3)
journals = st.tuples(st.sampled_from([HEADER, b""]), lines).map(lambda it: it[0] + b"\n".join(it[1]))


def check_journal(content: bytes) -> None:
    """What isn't refused can be written and is read back equal."""
    path = Path("j.jsonl")
    with within(MODERATE):
        try:
            header, records = Journal.parse(cut_torn_tail(content), path)
        except TtsEvalError as error:
            assert len(str(error)) < 1000
            return
    if header is not None:
        assert header.fingerprint
    again = b"".join(json.dumps(record.to_json(), allow_nan=False).encode() + b"\n" for record in records)
    assert Journal.parse(again, path)[1] == records


ARGUMENTS = {
    "budget": Argument(whole(1), 1),
    "temperature": Argument(number(0), 0.8),
    "noise": Argument(number(0, 1), 0.0),
    "step_delimiter": Argument(text, "\n"),
    "transcript": Argument(flag, False),
    "selection": Argument(one_of("majority", "best_of_n"), None),
}
names = st.text() | st.sampled_from(
    [*ARGUMENTS, "pretrained", "base_url", "header", "tts_budget", "budgte", "dtype", "api_key"]
)
values = (
    ANY_TEXT
    | st.sampled_from(["1", "-1", "007", "1e5", "nan", "inf", "True", "none", "{", "[1", "\u00b2", "9" * 500, ""])
    | st.sampled_from(["http://[", "http://a:b@c/", "http://a?key=b", "${HOME}"])
    | st.integers().map(str)
    | st.floats().map(str)
)
command_lines = st.lists(st.tuples(names, values).map("=".join), max_size=5).map(",".join)


def check_arguments(given: Any) -> None:
    """Ours are of their type afterwards, whatever lm-eval's casts made of them."""
    if isinstance(given, str):
        try:
            given = simple_parse_args_string(given)
        except (ValueError, IndexError, RecursionError):
            return  # lm-eval's own refusal
    with within(MODERATE):
        try:
            ours, rest = split_arguments(given, ARGUMENTS, {"pretrained", "temperature", "base_url", "header"})
        except TtsEvalError:
            return
    assert type(ours["budget"]) is int and ours["budget"] >= 1
    assert type(ours["temperature"]) is float and 0 <= ours["temperature"] < float("inf") and 0 <= ours["noise"] <= 1
    assert type(ours["transcript"]) is bool and not set(rest) & {"budget", "noise"}


POLICY = {
    "schema": 1,
    "task": "toy",
    "difficulty": {"kind": "predicted", "aggregation": "last", "thresholds": [0.5]},
    "strategies": {"beam": {"name": "beam", "width": 4}, "bon": {"name": "best-of-n"}},
    "choices": [{"budget": 4, "strategies": ["bon", "beam"]}, {"budget": 16, "strategies": ["beam", "beam"]}],
    "made_from": {"seed": 0},
}
YAML = yaml.safe_dump(POLICY, sort_keys=False)
PIECES = st.sampled_from(
    [
        *("&a ", "*a", "!!python/object/apply:os.getcwd []", "!!bool x", "!!int ", "? ", "- ", "{", "[", "'"),
        *("2026-01-31", ".nan", "<<: ", "!!timestamp x", "!!set {a}", "!!binary x", "\t", '"\\ud800"', "0x"),
        *("1_0", "1:2", "=", "~"),
    ]
)
yaml_files = (
    st.tuples(st.integers(0, len(YAML)), st.integers(0, 20), PIECES | st.text(max_size=6)).map(
        lambda cut: YAML[: cut[0]] + cut[2] + YAML[cut[0] + cut[1] :]
    )
    | st.tuples(json_values, places).map(lambda it: json.dumps(changed(POLICY, *it)))
    | st.lists(PIECES | st.text(max_size=4), max_size=10).map("\n".join)
    | st.integers(1, 1000).map(lambda count: "[" * count)
)


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp())


def check_policy(content: str) -> None:
    path = folder() / "policy.yaml"
    path.write_bytes(content.encode("utf-8", errors="surrogatepass"))
    with within(MODERATE):
        try:
            policy = read_policy(path)
        except TtsEvalError:
            return
    assert all(policy.strategy(bin, budget)["name"] for bin in range(1, policy.bins + 1) for budget in (1, 4, 10**6))
    write_policy(policy, path)
    assert asdict(read_policy(path)) == asdict(policy)


COMPLETION = {
    "choices": [{"index": 0, "text": "4", "finish_reason": "stop", "stop_reason": None}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
}
CHAT = {"choices": [{"message": {"role": "assistant", "content": "4"}, "finish_reason": "length"}]}
POOLING = {"data": [{"data": [[0.5, 0.5], [0.25, 0.75]]}], "usage": {"prompt_tokens": 2}}
samples = st.sampled_from([COMPLETION, CHAT, POOLING])
replies = json_values | st.tuples(samples, json_values, places).map(lambda it: changed(*it))


def check_reply(reply: Any) -> None:
    """What a server says is an answer whose text any file can hold, or a ValueError, which is tried again."""
    reply = json.loads(json.dumps(reply))
    for read in (read_answer, read_outputs):
        try:
            answer = read(reply)
        except ValueError:
            continue
        if read is read_answer:
            for piece in answer.pieces:
                piece.text.encode()


TARGETS = {
    "extraction": Target(st.tuples(solutions, st.sampled_from([None, *FALLBACKS])), check_extraction),
    "clean-up": Target(st.tuples(solutions, solutions), check_clean_up),
    "grading": Target(st.tuples(mathematics, mathematics, st.integers(10, 10**6)), check_grading),
    "journal": Target(journals, check_journal),
    "arguments": Target(command_lines | st.dictionaries(st.text(), json_values), check_arguments),
    "policy": Target(yaml_files, check_policy),
    "replies": Target(replies, check_reply),
}
