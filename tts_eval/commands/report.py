"""`tts-eval report`: everything that the paper shows, for the user's own runs, from journals, without a model."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tts_eval.analysis import find_journals, load_pools, read_samples_gold
from tts_eval.analysis.flops import ACCOUNTINGS, RATIOS
from tts_eval.analysis.gold import gold_of
from tts_eval.analysis.larger import PlainRun, read_parameters, read_plain_run
from tts_eval.analysis.ledger_flops import ModelShape
from tts_eval.analysis.measuring import make_study
from tts_eval.analysis.paired import half_width
from tts_eval.analysis.policy_file import chosen_policy
from tts_eval.analysis.pools import PoolSet
from tts_eval.analysis.roles import Roles, difficulty_of, model_name, roles_of
from tts_eval.analysis.study import Settings, Study
from tts_eval.answers import default_grader
from tts_eval.commands.options import budget_list, positive
from tts_eval.commands.shapes import find_shape
from tts_eval.commands.tables import print_notes
from tts_eval.journal import read_journal
from tts_eval.policy import write_policy
from tts_eval.report.headlines import headlines_of
from tts_eval.report.page import Page, write_page
from tts_eval.report.paper import charts_of
from tts_eval.report.tables import tables_of
from tts_eval.report.transcripts import Example, examples
from tts_eval.selection import AGGREGATIONS
from tts_eval.types import TtsEvalError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="journal, or folder searched for candidates_*.jsonl"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("report"), metavar="FOLDER", help="where to write; default: %(default)s"
    )
    parser.add_argument("--task", help="the task to report on; default: the one with the most runs")
    parser.add_argument(
        "--bins",
        type=Path,
        metavar="PATH",
        help="other samples of the base model, by which difficulty is told: see docs/report.md; default: the runs' own",
    )
    parser.add_argument(
        "--larger", type=Path, metavar="FOLDER", help="lm_eval's output of a larger model, one greedy answer a problem"
    )
    parser.add_argument(
        "--times", type=float, metavar="M", help="how many times larger it is; default: by lm_eval's parameter counts"
    )
    parser.add_argument("--accounting", choices=list(ACCOUNTINGS), default="v1", help="default: %(default)s")
    parser.add_argument(
        "--R", type=_numbers, metavar="0.16,22", help="inference over pretraining tokens; default: the paper's three"
    )
    parser.add_argument("--D_pretrain", type=float, metavar="TOKENS", help="the base was trained on: adds total FLOPs")
    parser.add_argument("--aggregation", choices=AGGREGATIONS, help="default: that of the searches, else last")
    parser.add_argument(
        "--probes", type=budget_list, default=[1, 2, 4, 8, 16], metavar="1,4", help="default: 1,2,4,8,16"
    )
    parser.add_argument("--splits", type=positive, default=100, help="random halvings of a bin; default: %(default)s")
    parser.add_argument("--resamples", type=positive, default=1000, help="bootstrap draws; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the analysis; default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Writes the report; what had to be left out is in its notes and on stderr.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If there is nothing to report on, or a file can't be written.
    """
    sets, notes = load_pools(args.paths, default_grader(), texts=False, lenient=True)
    roles = roles_of(sets, args.task)
    larger = None if args.larger is None else read_plain_run(args.larger, roles.task)
    settings = _settings(args, roles, larger)
    study = make_study(roles, settings, larger, _difficulty(args, roles))
    charts, missing = charts_of(study)
    found = list(dict.fromkeys([*notes, *(larger.notes if larger else ()), *study.notes]))
    page = Page(
        f"Test-time compute of {model_name(roles.base.model)} on {roles.task}",
        headlines_of(study),
        charts,
        missing,
        tables_of(study),
        _examples(args.paths, study),
        [*found, _how(study), _power(study)],
    )
    written = write_page(page, args.output)
    if study.thresholds and any(len(options) > 1 for options in study.approaches[0].options.values()):
        written.append(args.output / "policy.yaml")
        write_policy(chosen_policy(study), written[-1])
    print_notes(args.command, [*found, *(f"figure {one.number} lacks data: {one.command}" for one in missing)])
    for line in page.headlines:
        print(line)
    print(f"\nwrote {len(written)} files; open {written[0]}")
    return 0


def _difficulty(args: argparse.Namespace, roles: Roles) -> PoolSet | None:
    if args.bins is None:
        return None
    return difficulty_of(load_pools([args.bins], default_grader(), texts=False, lenient=True)[0], roles.base)


def _settings(args: argparse.Namespace, roles: Roles, larger: PlainRun | None) -> Settings:
    shapes = _shapes(args.paths, roles)
    times = args.times
    if larger is not None and times is None:
        base = shapes.get(model_name(roles.base.model))
        if base is None or larger.parameters is None:
            raise TtsEvalError("--larger: lm_eval counted no parameters of the two models; say --times M")
        times = larger.parameters / base.parameters
    if times is not None and times <= 1:
        raise TtsEvalError(f"--larger is {times:.3g} times as large as the base; name a larger model, or say --times M")
    used = {pools.parameters.get("aggregation") for pools in roles.search}
    of_searches = [name for name in AGGREGATIONS if name in used]
    return Settings(
        aggregation=args.aggregation or (of_searches[0] if len(of_searches) == 1 else "last"),
        probes=tuple(args.probes),
        times=times,
        ratios=tuple(args.R or RATIOS[args.accounting]),
        accounting=ACCOUNTINGS[args.accounting],
        pretraining_tokens=args.D_pretrain,
        splits=args.splits,
        resamples=args.resamples,
        seed=args.seed,
        shapes=shapes,
    )


def _shapes(paths: Sequence[Path], roles: Roles) -> dict[str, ModelShape]:
    """Shapes of policies and verifiers by name: from their configs where they are on this machine."""
    counts = _parameters(paths)
    sets: list[PoolSet] = [*roles.search]
    sets += [] if roles.outcome is None else [roles.outcome]
    for revisions in (roles.revisions, roles.without_history):
        sets += [] if revisions is None else revisions.sets
    names = {model_name(of) for pools in sets for of in (pools.model, pools.verifier) if of}
    found = {name: find_shape(name, counts.get(name)) for name in sorted(names)}
    return {name: shape for name, shape in found.items() if shape is not None}


def _parameters(paths: Sequence[Path]) -> dict[str, int]:
    """Parameters of the policies, as lm_eval counted them in the folders of the journals."""
    counts = {}
    for folder in dict.fromkeys(journal.parent for journal in find_journals(paths)):
        known = read_parameters(folder)
        if known is not None:
            counts[known[0]] = known[1]
    return counts


def _examples(paths: Sequence[Path], study: Study) -> list[Example]:
    """From the journal of the base's samples."""
    base = study.roles.base
    for path in find_journals(paths):
        try:
            header, records = read_journal(path)
        except TtsEvalError:
            continue  # said already
        run: Mapping[str, Any] = {} if header is None else header.run
        if records and (run.get("model") or {}, run.get("verifier") or {}) == (base.model, base.verifier):
            first = records[0]
            if (first.task, first.strategy, first.budget) == (base.task, base.parameters, base.budget):
                samples = read_samples_gold(path.parent, base.task)
                golds = {record.uid: gold_of(record, samples) for record in records}
                known = {uid: gold for uid, gold in golds.items() if gold is not None}
                return examples(records, known, study.bins["oracle"], default_grader())
    return []


def _how(study: Study) -> str:
    settings = study.settings
    bins = (
        "Difficulty bins are cut by best-of-N's own samples, which flatters policies by oracle bins, and by predicted "
        "ones where the verifier is good, unless N is much smaller than the number of samples; --bins cuts them by "
        "others"
        if study.shares_samples
        else f"Difficulty bins are cut by {study.difficulty.budget} other samples of each problem"
    )
    return (
        f"Made with aggregation {settings.aggregation}, accounting {settings.accounting.name}, {settings.splits} "
        f"random halvings, {settings.resamples} bootstrap draws, {settings.subsets} subsets a problem and budget, seed "
        f"{settings.seed}. {bins}."
    )


def _power(study: Study) -> str:
    n = len(study.approaches[0].uids)
    return (
        f"With {n} problems one accuracy has a 95 % half-width of up to {100 * half_width(n):.1f} points, a fifth of "
        f"them {100 * half_width(max(1, n // 5)):.1f}; paired differences are known better, see 'detectable'."
    )


def _numbers(text: str) -> list[float]:
    """Numbers above 0 with commas between them."""
    found = [float(part) for part in text.split(",")]
    if not all(number > 0 for number in found):
        raise argparse.ArgumentTypeError(f"{text}: every R must be above 0")
    return found
