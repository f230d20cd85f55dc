"""Our beam search beside its_hub's on one `vllm serve`: wall seconds (docs/vllm.md).

Needs the environments of `make bench` and `make test-vllm`, and the machine for itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from bench import environment
from models import endless
from served import ServedCost, ServedJob
from tabulate import tabulate


sys.path.append(str(Path(__file__).parents[1] / "on_vllm"))

from serving import Server


HERE = Path(__file__).parent
VLLM = HERE.parents[1] / ".venv-vllm" / "bin" / "vllm"
REPEATS = 3
CONTEXT = 512

Costs = dict[str, list[ServedCost]]


def run(job: ServedJob, name: str, python: str, file: Path) -> ServedCost:
    """Runs one contender in a process of its own."""
    file.write_text(json.dumps(asdict(job)))
    command: list[str | Path] = [python, HERE / f"serve_{name}.py", file]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{name} failed:\n{result.stderr}")
    return ServedCost(**json.loads(result.stdout))


def table(costs: Costs) -> str:
    """What each took, the median of its runs, and ours as a share of its wall seconds."""
    ours = statistics.median(cost.wall for cost in costs["ours"])
    rows = []
    for name, of_one in costs.items():
        wall = sorted(cost.wall for cost in of_one)
        middle = statistics.median(wall)
        tokens = [f"{statistics.median(getattr(cost, field) for cost in of_one):,.0f}" for field in FIELDS]
        rows.append([name, f"{middle:.1f} ({wall[0]:.1f}-{wall[-1]:.1f})", f"{ours / middle:.2f}", *tokens])
    headers = ["", "wall s (range)", "ours / its", "prompt tokens", "of them cached", "written", "sequences"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


FIELDS = ("prompt", "cached", "written", "requests")


def main() -> None:
    """Starts the server and lets the contenders take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    models = ("smollm2", "micromath/large")
    parser.add_argument("--model", choices=models, default=models[0], help="what it serves (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="steps of a solution (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=8, help="tokens of a step (default: %(default)s)")
    arguments = parser.parse_args()
    peer = environment("its_hub_server")
    if peer is None or not VLLM.exists():
        sys.exit("this needs its_hub (see above) and vLLM: run `make test-vllm` once")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        questions = endless(arguments.model, folder / "model")
        costs: Costs = {"ours": [], "its_hub": [], "its_hub, all problems at once": []}
        with Server(VLLM, folder / "model", folder / "log", "--max-model-len", str(CONTEXT)) as server:
            size = {"budget": 16, "width": 4, "steps": arguments.steps, "tokens": arguments.tokens}
            job = ServedJob(server.url, str(folder / "model"), questions, **size)
            at_once = replace(job, together=True)
            turns = (("ours", sys.executable, job), ("its_hub", peer, job), ("its_hub", peer, at_once))
            for turn in range(REPEATS * len(turns)):
                (name, python, of_one), entry = turns[turn % 3], list(costs)[turn % 3]
                costs[entry].append(run(of_one, name, python, folder / "job.json"))
                wall = f"{costs[entry][-1].wall:.1f} s"
                print(f"{entry}, run {turn // 3 + 1} of {REPEATS}: {wall}", file=sys.stderr, flush=True)
    shape = f"N={job.budget}, M={job.width}, {job.steps} steps of {job.tokens} tokens, {len(questions)} problems"
    print(f"{arguments.model}, {shape}\n")
    print(table(costs))


if __name__ == "__main__":
    main()
