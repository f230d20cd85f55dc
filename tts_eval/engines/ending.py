"""What an engine makes of the tokens with which a row has come to a possible end."""

from __future__ import annotations

from typing import Literal

from tts_eval.engines.stops import Decode, add_step, cut_at, split_steps
from tts_eval.engines.tokens import step_ends
from tts_eval.types import Finish, Prefix, Problem


def extended(
    prefix: Prefix,
    path: tuple[int, ...],
    tokens: tuple[int, ...],
    logprob: float,
    *,
    problem: Problem,
    until: Literal["step", "end"],
    delimiter: str,
    decode: Decode,
    ended: Finish | None,
    full: bool,
    whole: bool,
) -> Prefix | None:
    """Makes the extension of a prefix, unless what the last token completed is no end after all.

    Args:
        prefix: What was extended.
        path: Of the extension.
        tokens: All tokens of the solution, those of the prefix included.
        logprob: Sum of the log-probabilities of the new ones.
        problem: Its stop strings end the solution, which is cut before them; so does its limit.
        until: What was asked for.
        delimiter: What ends a step.
        decode: Token ids to text.
        ended: Why the last token ends the solution by itself, if it does.
        full: Whether the row may have no more tokens.
        whole: Whether the context may hold no more.

    Returns:
        The extension; None where the row has to go on: there is neither a step nor an end.
    """
    text = decode(tokens)
    solution = cut_at(text, problem.stop)
    finish = ended
    if finish is None and len(solution) < len(text):
        finish = "stop"
    if finish is None and (len(tokens) >= problem.max_tokens or whole):
        finish = "length"
    step = solution[len(prefix.text) :]
    # A delimiter before anything else is no step.
    if finish is None and not full and (until == "end" or delimiter not in step.lstrip()):
        return None
    if until == "end":
        steps = split_steps(solution, delimiter)
        ends = step_ends(decode, tokens, steps)
    else:
        steps = add_step(prefix.steps, step)
        ends = (*prefix.step_ends[: len(steps) - 1], len(tokens))[: len(steps)]
    return Prefix(path, steps, tokens, len(tokens), (prefix.logprob or 0.0) + logprob, finish, ends)
