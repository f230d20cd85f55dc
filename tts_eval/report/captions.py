"""What was run, in words, under every figure; and the command that would make what wasn't."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tts_eval.analysis.pools import PoolSet
from tts_eval.analysis.roles import model_name
from tts_eval.analysis.study import Study


_REVISIONS = ("6", "7", "8", "10", "11", "15")
_BOTH = ("1", "9")


def caption_of(study: Study, number: str) -> str:
    """Models, problems, seeds and cost of the runs that a figure shows.

    Args:
        study: The report's numbers.
        number: The paper's number of the figure.
    """
    roles, search = study.roles, study.approaches[0]
    sentences = []
    if number not in _REVISIONS:
        sets = (roles.base,) if number in ("13", "14") else roles.search
        sentences.append(_runs("Search", sets, search.uids))
    if number in ("4", "14") and roles.outcome is not None:
        sentences.append(_runs("Outcome verifier", [roles.outcome], search.uids))
    if roles.revisions is not None and number in _REVISIONS + _BOTH:
        sentences.append(_runs("Revisions", roles.revisions.sets, roles.revisions.family.uids))
    if number in ("1", "4", "8", "9", "11", "12"):
        kinds = "five quantiles of the base model's pass@1 (oracle) or of the verifier's mean score (predicted)"
        splits = f"two-fold cross-validation in each bin, {study.settings.splits} random halvings"
        sentences.append(f"Bins: {kinds}; strategies chosen and scored by {splits}.")
    if study.larger is not None and number in ("1", "9", "11", "12"):
        accounting, times = study.settings.accounting.name, study.settings.times
        sentences.append(
            f"Larger model: {study.larger.name}, {times:.3g} times the parameters, one greedy answer; accounting "
            f"{accounting}; R = {', '.join(f'{ratio:g}' for ratio in study.settings.ratios)}."
        )
    sentences.append("Bands and whiskers: 95 % intervals over the problems.")
    return " ".join(sentences)


def _runs(what: str, sets: Sequence[PoolSet], uids: Collection[str]) -> str:
    """One sentence on some runs, of which the figure shows these problems."""
    # Budgets that were taken from a larger run have no time of their own, and their solutions are that run's.
    sets = [pools for pools in sets if pools.pools[0].usage.seconds is not None] or sets
    first = sets[0]
    problems = f"{len(uids)} problems"
    if len(uids) < (known := len({pool.uid for pools in sets for pool in pools.pools})):
        problems = f"{len(uids)} of {known} problems"
    seeds = sorted({pool.seed for pools in sets for pool in pools.pools})
    verifiers = sorted({model_name(pools.verifier) for pools in sets if pools.verifier})
    read = f", read by {' and '.join(verifiers)}" if verifiers else ", without a verifier"
    solutions = sum(len(pool.candidates) for pools in sets for pool in pools.pools)
    counts = [candidate.tokens for pools in sets for pool in pools.pools for candidate in pool.candidates]
    told = [count for count in counts if count is not None]
    tokens = f" of {sum(told) / 1e6:.1f} million tokens" if told and len(told) == len(counts) else ""
    seed = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
    return (
        f"{what}: {model_name(first.model)}{read}; {problems} of {first.task}, {seed}; {solutions:,} solutions"
        f"{tokens} in {len(sets)} run{'s' if len(sets) > 1 else ''}."
    )


def missing_command(study: Study, number: str) -> str:
    """What to run so that the report can draw a figure."""
    base, task = model_name(study.roles.base.model), study.roles.task
    start = "lm_eval --log_samples --output_path RESULTS"
    chains = "pretrained=REVISION_MODEL,verifier=ORM,chains=4,budget=64"
    revise = f"{start} --model tts-revise --tasks {task} --model_args {chains}"
    larger = (
        f"lm_eval --log_samples --output_path LARGER --model hf --model_args pretrained=LARGER_MODEL --tasks {task}, "
        "then tts-eval report --larger LARGER"
    )
    beam = (
        f"{start} --model tts-beam --tasks {task} --model_args pretrained={base},verifier=PRM,width=4,budget=16, "
        "and other budgets and strategies; tts-eval sweep runs a whole table"
    )
    orm = f"{start} --model tts-best-of-n --tasks {task} --model_args pretrained={base},verifier=ORM,budget=64"
    commands = {
        **dict.fromkeys(("6", "7", "8", "10"), revise),
        **dict.fromkeys(("9", "11", "12"), larger if study.larger is None else revise),
        **dict.fromkeys(("3", "4"), beam),
        "13": f"{start} --model tts-best-of-n --tasks {task} --model_args pretrained={base},verifier=PRM,budget=64",
        "14": orm,
        "15": f"{revise}, once with a verifier trained with --history and once with one without",
    }
    return commands.get(number, beam)
