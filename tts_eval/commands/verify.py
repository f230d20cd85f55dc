"""`tts-eval verify`: how good a verifier is on labelled steps and solutions (Snell et al. 2024, section 2)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from tts_eval.analysis.calibration import JudgedSolution, score_measures, solution_measures
from tts_eval.analysis.processbench import Located, first_error_measures, tuning_questions
from tts_eval.commands.options import positive
from tts_eval.commands.tables import write_file
from tts_eval.commands.verify_data import LabelledSteps, is_journal, read_judged, read_labelled
from tts_eval.model_adapters.verifiers import DTYPES, build_verifier, verifier_identity
from tts_eval.report.calibration import calibration_figure
from tts_eval.report.verification import Verification, to_markdown
from tts_eval.selection import AGGREGATIONS
from tts_eval.types import TtsEvalError, Usage, Verifier


if TYPE_CHECKING:
    from tts_eval.verifiers.family import LoadedVerifier


_CHUNK = 32  # solutions a call: enough for a batch, few enough for a steady progress bar

Judged = tuple[Verification, Sequence[JudgedSolution]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add("--verifier", metavar="MODEL", help="folder, hub name or one of ours; a journal has scores and needs none")
    add("--verifier_format", metavar="FORMAT", help="its family; default: what tts-eval train wrote into it")
    add("--verifier_reference", metavar="MODEL", help="the reference model of a verifier of format implicit")
    add("--verifier_tokenizer", metavar="MODEL", help="the tokenizer of a verifier behind a server")
    add("--verifier_dtype", choices=DTYPES, help="the type of its weights; default: the checkpoint's")
    add("--verifier_pickle", action="store_true", help="read its weights from a pickle, if you trust the file")
    add("--noise", type=float, default=0.0, metavar="SHARE", help="turn a share of the scores around; default: none")
    add(
        "--data",
        required=True,
        nargs="+",
        type=Path,
        metavar="FILE",
        help="ProcessBench (.json), label files, chain files, PRM800K or Math-Shepherd; or journals with scores",
    )
    add("--limit", type=positive, metavar="N", help="only N questions of each, drawn by the seed")
    add("--threshold", type=float, help="a step below it is wrong; default: chosen on a fifth of the questions")
    add("--seed", type=int, default=0, help="of limit, threshold's split, noise and intervals; default: %(default)s")
    add("--figure", type=Path, metavar="FILE", help="draw labels over scores as .png, .svg or .pdf")
    add("--output", type=Path, metavar="FILE", help="write measures and scores there as JSON too")


def run(args: argparse.Namespace) -> int:
    """Prints the tables, one group a data set.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If data, verifier or output are refused.
    """
    journals = [path for path in args.data if is_journal(path)]
    if journals and args.verifier is not None:
        raise TtsEvalError(f"{journals[0]}: a journal holds no prompts, so it has the scores of its run: no --verifier")
    if args.verifier is None and len(journals) < len(args.data):
        raise TtsEvalError("--verifier is missing: name the model to judge (only journals hold scores already)")
    judged: list[Judged] = []
    for one in _from_journals(args) if journals else _from_verifier(args):
        print(to_markdown(one[0]))
        judged.append(one)
    if args.figure is not None:
        _draw(judged, args.figure)
    if args.output is not None:
        _write(judged, args)
    return 0


def _from_journals(args: argparse.Namespace) -> Iterator[Judged]:
    build_verifier(vars(args))  # refuses what says how one is read or used: there is none
    for pools, solutions in read_judged(args.data, args.limit, args.seed):
        kind = "outcome" if all(solution.labels[0] is not None for solution in solutions) else "process"
        yield _measure(f"{pools.task}, {pools.strategy}, N={pools.budget}", solutions, [], kind, args)


def _from_verifier(args: argparse.Namespace) -> Iterator[Judged]:
    verifier = build_verifier(vars(args))
    assert verifier is not None
    data = [(path.name, read_labelled(path, args.limit, args.seed, verifier.history)) for path in args.data]
    for name, labelled in data:
        _require_context(verifier, labelled, name)
    if verifier.kind == "process" and args.threshold is None:
        for _, labelled in data:
            _require_split(labelled, args.seed)
    for name, labelled in data:
        scores = _score(verifier, labelled, name)
        solutions = [
            JudgedSolution(one.question, found, _labels(one, verifier.kind), one.correct)
            for one, found in zip(labelled, scores, strict=True)
        ]
        located = [
            Located(one.question, found, one.first_error)
            for one, found in zip(labelled, scores, strict=True)
            if one.first_error is not None and verifier.kind == "process"
        ]
        yield _measure(name, solutions, located, verifier.kind, args)


def _require_context(verifier: LoadedVerifier, labelled: Sequence[LabelledSteps], name: str) -> None:
    """Refuses solutions that can't be read whole before the others are paid for."""
    if verifier.context is None:
        return
    lengths = [verifier.length(one.problem, one.prefix) for one in labelled]
    too_long = sum(length > verifier.context for length in lengths)
    if too_long:
        raise TtsEvalError(
            f"{name}: {too_long} of {len(labelled)} solutions don't fit the verifier's context of {verifier.context} "
            f"tokens (the longest has {max(lengths)}, question included) and nothing is cut: use another verifier, "
            "take them out of the data, or draw fewer that all fit (--limit, --seed)"
        )


def _require_split(labelled: Sequence[LabelledSteps], seed: int) -> None:
    """Refuses a threshold that can't be chosen before the scores are paid for."""
    first_errors = [(one.question, one.first_error) for one in labelled if one.first_error is not None]
    if first_errors:
        tuning_questions(first_errors, seed)


def _labels(solution: LabelledSteps, kind: str) -> tuple[float | None, ...]:
    if kind == "process":
        return solution.labels
    return (None if solution.correct is None else float(solution.correct),)


def _score(verifier: Verifier, labelled: Sequence[LabelledSteps], name: str) -> list[tuple[float, ...]]:
    scores: list[tuple[float, ...]] = []
    usage = Usage()
    with tqdm(total=len(labelled), desc=name, unit="solution") as bar:
        for start in range(0, len(labelled), _CHUNK):
            chunk = labelled[start : start + _CHUNK]
            for found, cost in verifier.score([(one.problem, one.prefix) for one in chunk]):
                scores.append(found)
                usage += cost
            bar.update(len(chunk))
    read, reused, seconds = usage.verifier_tokens or 0, usage.reused_tokens or 0, usage.seconds or 0.0
    print(f"tts-eval verify: {name}: {read:,} tokens read, {reused:,} reused, {seconds:,.1f} s", file=sys.stderr)
    return scores


def _measure(
    name: str, solutions: Sequence[JudgedSolution], located: Sequence[Located], kind: str, args: argparse.Namespace
) -> Judged:
    verification = Verification(
        name=name,
        questions=len({solution.question for solution in solutions}),
        solutions=len(solutions),
        unit="step" if kind == "process" else "solution",
        first_errors=first_error_measures(located, threshold=args.threshold, seed=args.seed) if located else None,
        scores=score_measures(solutions),
        whole=solution_measures(solutions, AGGREGATIONS if kind == "process" else (None,), seed=args.seed),
    )
    return verification, solutions


def _draw(judged: Sequence[Judged], path: Path) -> None:
    panels = [(found.name, found.scores.bins) for found, _ in judged if found.scores is not None and found.scores.bins]
    if not panels:
        raise TtsEvalError(f"--figure {path}: nothing to draw, no data set has labels and scores between 0 and 1")
    calibration_figure(panels, path)


def _write(judged: Sequence[Judged], args: argparse.Namespace) -> None:
    settings = {"verifier": verifier_identity(vars(args)), "limit": args.limit, "seed": args.seed}
    results = [{**asdict(found), "judged": list(map(asdict, solutions))} for found, solutions in judged]
    write_file(args.output, json.dumps({**settings, "results": results}, indent=1) + "\n")
