"""What a PRM beam search costs here, beside the same search elsewhere: `make bench` (docs/bench.md).

Every contender runs in a process of its own. Details go to build/bench/bench.json.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from job import Cost, Job
from models import micro, six_layers
from tabulate import tabulate


HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "bench"
PEERS = ("its_hub", "crucible")
REPEATS = 3  # of the small size

Costs = dict[str, list[Cost]]
"""For every contender what each of its runs cost."""


def jobs() -> dict[tuple[str, str], Job]:
    """The work, by model pair and size."""
    found = {}
    for pair, (policy, prm, prompts) in (("6layer", six_layers(BUILD / "6layer")), ("micro", micro())):
        found[pair, "small"] = Job(policy, prm, prompts, budget=16, width=4, steps=5, tokens=8)
        # microMATH's context is 512.
        steps = 20 if pair == "6layer" else 12
        found[pair, "large"] = Job(policy, prm, prompts[:1], budget=64, width=4, steps=steps, tokens=30)
    return found


def environment(peer: str) -> str | None:
    """The interpreter of a peer's own environment, made if it isn't there; None if the peer can't be installed.

    Torch and transformers are those of this environment: they come last on its path.
    """
    folder = BUILD / peer
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        venv.create(folder, clear=True, with_pip=True)
        install: list[str | Path] = [python, "-m", "pip", "install", "-q", "-r", HERE / f"{peer}.txt"]
        if subprocess.run(install).returncode:
            return None
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        path = folder / "lib" / name / "site-packages" / "models.pth"
        path.write_text(sysconfig.get_path("purelib") + "\n")
        done.touch()
    return str(python)


def run(job: Job, contenders: Mapping[str, str], repeats: int) -> Costs:
    """Runs the contenders, given with their interpreters, in turn, so that a busy machine is unkind to all of them."""
    file = BUILD / "job.json"
    file.write_text(json.dumps(asdict(job)))
    costs: Costs = {name: [] for name in contenders}
    for repeat in range(1, repeats + 1):
        for name, python in contenders.items():
            print(f"{name}, run {repeat} of {repeats} ...", file=sys.stderr, flush=True)
            command: list[str | Path] = [python, HERE / f"run_{name}.py", file]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                sys.exit(f"{name} failed:\n{result.stderr}")
            costs[name].append(Cost(**json.loads(result.stdout)))
    return costs


def middle(costs: list[Cost], field: str) -> float:
    """The median of a field."""
    return statistics.median(getattr(cost, field) for cost in costs)


def ratio(costs: Costs, name: str, field: str = "cpu") -> float:
    """Ours over another's."""
    return middle(costs["ours"], field) / middle(costs[name], field)


def overhead(costs: Costs) -> float:
    """Share of our time in which neither of the models was at work, drawing tokens being the policy's."""
    return statistics.median(cost.parts["other"] / sum(cost.parts.values()) for cost in costs["ours"])


def table(costs: Costs) -> str:
    """What each contender took, and ours as a share of that."""
    rows = []
    for name, of_one in costs.items():
        seconds = [cost.cpu for cost in of_one]
        spread = f"{middle(of_one, 'cpu'):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"
        tokens = [
            f"{middle(of_one, field):,.0f} ({ratio(costs, name, field):.2f})"
            for field in ("prefill", "decode", "verifier")
        ]
        wall = f"{middle(of_one, 'wall'):.2f} ({ratio(costs, name, 'wall'):.2f})"
        rows.append([name, spread, f"{ratio(costs, name):.2f}", wall, *tokens])
    headers = ["", "CPU s (range)", "ours / its", "wall s", "policy reads", "policy writes", "verifier reads"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def shares(costs: Costs) -> str:
    """What our time went into."""
    of_runs = [{part: spent / sum(cost.parts.values()) for part, spent in cost.parts.items()} for cost in costs["ours"]]
    return ", ".join(f"{part} {statistics.median(run[part] for run in of_runs):.1%}" for part in of_runs[0])


def interpreters() -> dict[str, str]:
    """The interpreter of every contender that there is."""
    found = {"ours": sys.executable, "stateless": sys.executable}
    for peer in PEERS:
        python = environment(peer)
        if python is None:
            print(f"{peer} is left out: pip can't install tests/bench/{peer}.txt (see above)")
        else:
            found[peer] = python
    return found


def main() -> None:
    """Runs everything; the last line holds what docs/bench.md sets limits to."""
    BUILD.mkdir(parents=True, exist_ok=True)
    small = interpreters()
    large = {name: small[name] for name in ("ours", "stateless")}  # the peers would take hours
    found: dict[tuple[str, str], Costs] = {}
    for (pair, size), job in jobs().items():
        costs = run(job, small, REPEATS) if size == "small" else run(job, large, 1)
        found[pair, size] = costs
        print(f"\n{pair}, {size}: N={job.budget}, M={job.width}, {job.steps} steps of {job.tokens} tokens, ", end="")
        print(f"{len(job.prompts)} problem(s)\n\n{table(costs)}\n\nours: {shares(costs)}", flush=True)
    details = {" ".join(key): {n: list(map(asdict, of_one)) for n, of_one in c.items()} for key, c in found.items()}
    (BUILD / "bench.json").write_text(json.dumps(details, indent=1) + "\n")
    of_best = max(ratio(found["6layer", "small"], name) for name in small if name != "ours")
    of_stateless = ratio(found["6layer", "large"], "stateless")
    outside = {pair: max(overhead(costs) for (of, _), costs in found.items() if of == pair) for pair, _ in found}
    print(
        f"\nbench: small {of_best:.3f} large {of_stateless:.3f} "
        f"overhead_6layer {outside['6layer']:.3f} overhead_micro {outside['micro']:.3f}"
    )


if __name__ == "__main__":
    main()
