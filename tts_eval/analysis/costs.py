"""What every run of a report cost: problems, seeds, tokens, FLOPs and seconds (Snell et al. 2024, section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from tts_eval.analysis.flops import Accounting, inference_flops
from tts_eval.analysis.ledger_flops import LedgerFlops, ModelShape, ledger_flops
from tts_eval.analysis.pools import PoolSet
from tts_eval.analysis.roles import Roles, model_name
from tts_eval.types import Usage


@dataclass(frozen=True)
class RunCost:
    """One run. Costs are means over problems and seeds, None where the journal or the model's shape doesn't tell.

    Attributes:
        part: What the report takes it for.
        model: The policy.
        verifier: The verifier, or empty.
        strategy: The strategy (see `PoolSet`).
        budget: N.
        seeds: The seeds.
        problems: How many.
        generations: The paper's unit.
        tokens: Written by the policy.
        verifier_tokens: Read by the verifier.
        seconds: Wall clock.
        flops: The paper's: of the tokens written, by parameters alone.
        measured: FLOPs of all tokens read and written by policy and verifier, attention included.
        uncached: The same as if nothing had been kept and reused.
        eflops: `measured` and what moving keys and values costs (Kinetics, arXiv 2506.05333).
    """

    part: str
    model: str
    verifier: str
    strategy: str
    budget: int
    seeds: str
    problems: int
    generations: float | None
    tokens: float | None
    verifier_tokens: float | None
    seconds: float | None
    flops: float | None
    measured: float | None
    uncached: float | None
    eflops: float | None


def run_costs(roles: Roles, shapes: Mapping[str, ModelShape], accounting: Accounting) -> list[RunCost]:
    """Every run that a report uses.

    Args:
        roles: The runs.
        shapes: Of the models, by name, those that are known.
        accounting: See `tts_eval.analysis.flops`.
    """
    parts: list[tuple[str, Sequence[PoolSet]]] = [("search", roles.search)]
    parts += [("outcome verifier", [roles.outcome])] if roles.outcome is not None else []
    parts += [("revisions", roles.revisions.sets)] if roles.revisions is not None else []
    parts += [("without history", roles.without_history.sets)] if roles.without_history is not None else []
    prompt = _prompt(roles.base)
    return [
        _cost(part, pools, shapes, accounting, prompt if part == "search" else _prompt(pools))
        for part, sets in parts
        for pools in sets
    ]


def _cost(
    part: str, pools: PoolSet, shapes: Mapping[str, ModelShape], accounting: Accounting, prompt: float | None
) -> RunCost:
    usage, n = _usage(pools), len(pools.pools)
    policy, verifier = model_name(pools.model), model_name(pools.verifier) if pools.verifier else ""
    shape, tokens = shapes.get(policy), usage.decode_tokens
    found: LedgerFlops | None = None
    if shape is not None and tokens is not None and prompt is not None and usage.generations:
        found = ledger_flops(usage, shape, shapes.get(verifier), prompt + tokens / usage.generations / 2)
    return RunCost(
        part=part,
        model=policy,
        verifier=verifier,
        strategy=pools.strategy,
        budget=pools.budget,
        seeds=", ".join(map(str, sorted({pool.seed for pool in pools.pools}))),
        problems=len({pool.uid for pool in pools.pools}),
        generations=_mean(usage.generations, n),
        tokens=_mean(tokens, n),
        verifier_tokens=_mean(usage.verifier_tokens, n),
        seconds=_mean(usage.seconds, n),
        flops=None if shape is None or tokens is None else inference_flops(shape.parameters, tokens / n, accounting),
        measured=None if found is None else _mean(found.total, n),
        uncached=None if found is None else _mean(found.uncached, n),
        eflops=None if found is None else _mean(found.eflops, n),
    )


def _usage(pools: PoolSet) -> Usage:
    return reduce(add, (pool.usage for pool in pools.pools))


def _prompt(pools: PoolSet) -> float | None:
    """Tokens that a solution's first token attends to, on average: the prompt, earlier attempts included."""
    usage = _usage(pools)
    counts = usage.prefill_tokens, usage.reused_tokens, usage.verifier_reused_tokens, usage.generations
    if any(count is None for count in counts) or not usage.generations:
        return None
    prefill, reused, of_verifier, generations = (float(count or 0) for count in counts)
    return (prefill + reused - of_verifier) / generations


def _mean(total: float | None, n: int) -> float | None:
    return None if total is None else total / n
