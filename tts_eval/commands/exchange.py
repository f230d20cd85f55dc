"""`tts-eval exchange`: how many generations of a model cost what one of a larger model costs (section 5)."""

from __future__ import annotations

import argparse

from tts_eval.analysis.flops import ACCOUNTINGS, Accounting, matching_budget, matching_ratio


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument(
        "--times", type=float, required=True, metavar="M", help="the larger model's parameters over the smaller one's"
    )
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument(
        "--R", type=float, help="tokens of inference over tokens of pretraining: prints the budget that matches"
    )
    wanted.add_argument(
        "--budget", type=float, metavar="K", help="generations a question: prints the R at which they match"
    )
    parser.add_argument(
        "--accounting",
        choices=tuple(ACCOUNTINGS),
        default="v1",
        help="FLOPs a parameter and generated token: v1 has 2, iclr 4 (verifier counted); default: %(default)s",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the matching budget, or the matching R.

    Args:
        args: See `configure`.

    Raises:
        TtsEvalError: If a number is out of range.
    """
    accounting = ACCOUNTINGS[args.accounting]
    if args.budget is None:
        print(_budget(args.times, args.R, accounting))
    else:
        print(_ratio(args.times, args.budget, accounting))
    return 0


def _budget(times: float, ratio: float, accounting: Accounting) -> str:
    budget = matching_budget(times, ratio, accounting)
    return (
        f"K = {budget:,.1f} generations a question cost as much as one of a model {times:g} times larger,\n"
        f"pretraining of both counted (R = {ratio:g}, {accounting.name} accounting)."
    )


def _ratio(times: float, budget: float, accounting: Accounting) -> str:
    ratio = matching_ratio(times, budget, accounting)
    if ratio is None:
        return (
            f"No R matches: {budget:g} generations a question cost less than one of a model {times:g} times larger,\n"
            "pretraining of both counted, whatever R is."
        )
    return (
        f"R = {ratio:.3g}: there {budget:g} generations a question cost as much as one of a model {times:g} times "
        f"larger,\npretraining of both counted ({accounting.name} accounting). At a smaller R the "
        "generations are cheaper, at a larger one\nthe larger model is."
    )
