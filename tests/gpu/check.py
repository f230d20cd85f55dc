"""The parts of check.sh that need more than a command line. Each writes its rows as JSON and prints them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from tts_eval.engines import hf
from tts_eval.journal import Journal
from tts_eval.micro.members import resolve
from tts_eval.micro.problems import generate
from tts_eval.scheduler import Scheduler
from tts_eval.search import beam, best_of_n
from tts_eval.types import Decoding, Outcome, Problem, Search, Usage
from tts_eval.verifiers import load_verifier
from tts_eval.verifiers.heads import source


sys.path.append(str(Path(__file__).parents[1] / "engines"))

from searching import METHODS, Results, search_all


Row = dict[str, Any]

MICROMATH = Decoding(temperature=1.0, step_delimiter="\n")


@dataclass(frozen=True)
class Policy:
    """A causal language model and its tokenizer."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, path: str, device: str, dtype: str) -> Policy:
        """Loads a folder or a GGUF file."""
        model = AutoModelForCausalLM.from_pretrained(**source(path), dtype=getattr(torch, dtype))
        return cls(model.to(device).eval(), AutoTokenizer.from_pretrained(**source(path)))

    def engine(self, decoding: Decoding, **options: Any) -> hf.HFEngine:
        """A fresh engine."""
        return hf.HFEngine(
            self.model,
            encode=partial(self.tokenizer.encode, add_special_tokens=False),
            decode=partial(self.tokenizer.decode, skip_special_tokens=True),
            end_tokens=[self.tokenizer.eos_token_id],
            special_tokens=self.tokenizer.get_added_vocab(),
            context=self.model.config.max_position_embeddings,
            decoding=decoding,
            **options,
        )


def micromath_problems(count: int) -> list[Problem]:
    """Test problems as the task asks them."""
    made = islice(generate("test", "gpu"), count)
    return [Problem(p.unique_id, f"{p.problem}\n", ("\n\n",), 160) for p in made]


def exact(arguments: argparse.Namespace) -> Iterator[Row]:
    """Whether solutions depend on what is computed beside them, on what is kept between steps, and on the device."""
    problems = micromath_problems(2 if arguments.tiny else 32)
    few = problems[:8]
    for dtype, methods in (("float32", list(METHODS)), ("bfloat16", ["best-of-n", "beam"])):
        here = Comparison(arguments.device, dtype)
        for method in methods:
            found = here.search(method, problems)
            others = {"alone": here.search(method, few, in_flight=1), "kept: nothing": here.search(method, few, kept=0)}
            if method == "best-of-n":
                others["row by row"] = here.search(method, few, max_rows=1)
            if dtype == "float32":
                others["on the CPU"] = Comparison("cpu", dtype).search(method, problems)
            for name, other in others.items():
                yield {"dtype": dtype, "method": method, "against": name, **differences(other, found)}


class Comparison:
    """MicroMATH's models on one device, on which the same searches are run in several ways."""

    def __init__(self, device: str, dtype: str):
        self._device = device
        self._dtype = dtype
        self._policy = Policy.load(resolve("micromath/base"), device, dtype)

    def search(
        self,
        method: str,
        problems: list[Problem],
        *,
        in_flight: int = 256,
        max_rows: int | None = None,
        kept: int | None = None,
    ) -> Results:
        """Searches with 8 solutions a problem, engine and verifier being fresh."""
        engine = self._policy.engine(MICROMATH, max_rows=max_rows, kept_bytes=kept)
        verifier = load_verifier(resolve("micromath/prm"), device=self._device, dtype=self._dtype, cache_bytes=kept)
        searches = [(problem, METHODS[method](8, 10)) for problem in problems]
        return search_all(engine, searches, verifier, in_flight=in_flight)


def differences(some: Results, of: Results) -> Row:
    """Share of solutions that are token by token the same, and how far their scores and log-probabilities are apart."""
    pairs = [pair for uid in some for pair in zip(_solutions(some[uid][0]), _solutions(of[uid][0]), strict=True)]
    same = [(one, other) for one, other in pairs if one[0] == other[0]]
    gap = [max(abs(a - b) for a, b in zip(one[2], other[2], strict=True)) for one, other in same if one[2]]
    logprob = [abs(one[1] - other[1]) for one, other in same]
    return {
        "solutions": len(pairs),
        "same": len(same) / len(pairs),
        "score": max(gap, default=None),
        "logprob": max(logprob, default=None),
    }


def _solutions(outcome: Outcome) -> list[tuple[tuple[int, ...], float, tuple[float, ...]]]:
    assert outcome.step_scores is not None
    return [(f.tokens, f.logprob or 0.0, s) for f, s in zip(outcome.finals, outcome.step_scores, strict=True)]


def loop(arguments: argparse.Namespace) -> Iterator[Row]:
    """What a search's time goes into: the models, drawing tokens from logits, everything else."""
    tiny = arguments.tiny
    policy = Policy.load(resolve("micromath/base"), arguments.device, "float32")
    verifier = load_verifier(resolve("micromath/prm"), device=arguments.device, dtype="float32")
    for search, make in {
        "best-of-n, N=64": partial(best_of_n, 64, scored=True),
        "beam, N=64": partial(beam, 64, 4),
    }.items():
        job = Job(policy, MICROMATH, verifier, micromath_problems(1 if tiny else 8), make)
        yield {"search": f"microMATH, {search}", **job.measured()}
    for dtype in ("float32", "bfloat16"):
        policy = Policy.load(arguments.model, arguments.device, dtype)
        problems = gsm8k_problems(arguments.data, policy.tokenizer, *((1, 8) if tiny else (8, 128)))
        job = Job(policy, Decoding(), None, problems, partial(best_of_n, 4 if tiny else 32, scored=False))
        yield {"search": f"SmolLM2, {dtype}, best-of-n, N=32", **job.measured()}


def gsm8k_problems(data: Path, tokenizer: Any, count: int, tokens: int) -> list[Problem]:
    """The first questions under the model's chat template."""
    questions = [json.loads(line)["question"] for line in data.read_text().splitlines()[:count]]
    chats = [[{"role": "user", "content": question}] for question in questions]
    prompts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    return [Problem(str(index), prompt, (), tokens) for index, prompt in enumerate(prompts)]


@dataclass(frozen=True)
class Job:
    """Searches of one kind."""

    policy: Policy
    decoding: Decoding
    verifier: Any
    problems: list[Problem]
    make: Callable[[], Search]

    def measured(self) -> Row:
        """Tokens a second as it is, then the shares of the parts, for which the device is waited for after each."""
        self._run()  # warms up
        seconds, usage = self._run()
        parts: dict[str, float] = {}
        timed = [(self.policy.model, "forward", "policy"), (hf, "draw", "drawing")]
        if self.verifier is not None:
            timed.append((self.verifier._reader._model, "forward", "verifier"))
        with ExitStack() as stack:
            for owner, name, part in timed:
                clocked = self._clocked(getattr(owner, name), part, parts)
                stack.enter_context(patch.object(owner, name, clocked))
            whole, _ = self._run()
        parts["everything else"] = whole - sum(parts.values())
        shares = {part: spent / whole for part, spent in parts.items()}
        tokens = usage.decode_tokens
        return {"seconds": seconds, "tokens": tokens, "tokens/s": tokens / seconds, "seconds, clocked": whole, **shares}

    def _run(self) -> tuple[float, Usage]:
        if self.verifier is not None:
            self.verifier.forget()
        scheduler = Scheduler(self.policy.engine(self.decoding), self.verifier)
        started = self._now()
        done = [item for item in scheduler.run((p, self.make()) for p in self.problems) if item is not None]
        return self._now() - started, sum((usage for _, _, usage in done), Usage())

    def _clocked(self, function: Callable[..., Any], part: str, parts: dict[str, float]) -> Callable[..., Any]:
        """The same function, the seconds in it added to a part."""

        def clocked(*args: Any, **kwargs: Any) -> Any:
            started = self._now()
            result = function(*args, **kwargs)
            parts[part] = parts.get(part, 0.0) + self._now() - started
            return result

        return clocked

    def _now(self) -> float:
        if self.policy.model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def searches(arguments: argparse.Namespace) -> Iterator[Row]:
    """What the runs of `tts-eval run` did until they ended or their time was over, from journals and results."""
    for path in sorted(arguments.journals.glob("*.jsonl")):
        _, records = Journal.read(path)
        usage = sum((record.usage for record in records), Usage())
        results = [json.loads(file.read_text())["results"] for file in path.parent.glob(f"{path.stem}_*.json")]
        scores = {name: value for of_task in results for tasks in of_task.values() for name, value in tasks.items()}
        row: Row = {"search": path.stem, "problems": len(records), "accuracy": scores.get("accuracy,none")}
        yield row | {
            "tokens": usage.decode_tokens,
            "seconds": usage.seconds,
            "tokens/s": usage.decode_tokens / usage.seconds if records else None,
            "engine, s": usage.engine_seconds,
            "verifier, s": usage.verifier_seconds,
            "policy read": usage.prefill_tokens,
            "verifier read": usage.verifier_tokens,
        }


def main() -> None:
    """Runs one part; what it has is written after every row, so that an end by force loses nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["exact", "loop", "searches"])
    parser.add_argument("output", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--journals", type=Path)
    arguments = parser.parse_args()
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else arguments.device
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "device": device}
    rows: list[Row] = []
    for row in {"exact": exact, "loop": loop, "searches": searches}[arguments.part](arguments):
        rows.append(row)
        print(json.dumps(row), flush=True)
        arguments.output.write_text(json.dumps({**versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
