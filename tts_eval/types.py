"""The values that every room shares, and the protocol between a search and the models.

A search is a generator: it yields `Sample` and `Score` requests and is sent their replies, and returns an `Outcome`. It
never sees an engine, a verifier or a gold answer. Method: Snell et al. 2024 (arXiv 2408.03314), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Literal, Protocol


Finish = Literal["eos", "stop", "length"]
"""Why a solution ended: the model's end token, a stop string of the task, or the token limit."""


class TtsEvalError(Exception):
    """An error that the user can mend: one line that says what is wrong, where, and what to do."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with one line that says what is kept."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What a search may know of a question: its prompt and where a solution of it ends. Never the gold answer.

    Attributes:
        uid: Identifies the question in journals and keys its randomness.
        prompt: The rendered prompt, chat template included.
        stop: Strings that end a solution; the text is cut before them.
        max_tokens: Longest solution, in tokens of the policy.
        question: The bare question, for verifiers with a template of their own; None where the task has none apart.
    """

    uid: str
    prompt: str
    stop: tuple[str, ...]
    max_tokens: int
    question: str | None = None


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the policy samples, for a whole run.

    Attributes:
        temperature: Of every sample for which the search asks nothing else; 0 is greedy.
        seed: The run's seed.
        step_delimiter: What ends a step (the paper's: a newline; Hugging Face's models: a blank line).
        max_step_tokens: Longest step, in tokens of the policy.
    """

    temperature: float = 0.8
    seed: int = 0
    step_delimiter: str = "\n\n"
    max_step_tokens: int = 512


@dataclass(frozen=True, slots=True)
class Prefix:
    """A partial or finished solution: one node of a search tree. `Prefix()` is the root, the bare prompt.

    Attributes:
        path: Child index at every branching from the root; with seed and uid it keys the randomness below this node.
        steps: Text of the solution so far, step by step; each step keeps its closing delimiter.
        tokens: The policy's token ids of the solution; empty where the engine only speaks text.
        token_count: Tokens in the solution, or None where the engine can't tell.
        logprob: Sum of the log-probabilities (at temperature 1) of the tokens, or None where unknown.
        finish: Why the solution ended; None while it can be extended.
        step_ends: How many of `tokens` each step ends after, as many as `steps`; empty where `tokens` is.
    """

    path: tuple[int, ...] = ()
    steps: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    token_count: int | None = 0
    logprob: float | None = 0.0
    finish: Finish | None = None
    step_ends: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The solution so far."""
        return "".join(self.steps)


@dataclass(frozen=True, slots=True)
class Sample:
    """Ask the policy to extend prefixes.

    The reply is a `tuple[Prefix, ...]` of all extensions, those of the first prefix first.

    Attributes:
        prefixes: Unfinished prefixes of one problem.
        n: How many independent extensions: of each, or for each prefix its own number, at least 1.
        until: Extend to the end of the solution, or only to the end of the next step.
        temperature: 0 is greedy; None takes the run's temperature.
        alive: Prefixes that a later request may extend, these or others; an engine may forget all that it knows of
            the rest.
        lookahead: Whether the extensions are only scored and thrown away; the ledger counts their tokens apart.
        prompts: What the policy reads before each prefix, where that isn't the problem's prompt but one that holds
            earlier attempts (section 4); the prefixes are empty then.
        first: Index of the first child of each prefix; children with lower ones were sampled before.
        probe: Whether the extensions tell how difficult the problem is; they are candidates too, and the ledger counts
            their tokens apart.
    """

    prefixes: tuple[Prefix, ...]
    n: int | tuple[int, ...]
    until: Literal["step", "end"]
    temperature: float | None = None
    alive: tuple[Prefix, ...] = ()
    lookahead: bool = False
    prompts: tuple[str, ...] = ()
    first: int = 0
    probe: bool = False

    @property
    def counts(self) -> tuple[int, ...]:
        """How many extensions of each prefix."""
        return (self.n,) * len(self.prefixes) if isinstance(self.n, int) else self.n


@dataclass(frozen=True, slots=True)
class Score:
    """Ask the verifier for the step scores of each prefix.

    The reply is a `tuple[tuple[float, ...], ...]`: for each prefix one score for each of its steps, or a single score
    from an outcome verifier.

    Attributes:
        prefixes: Of one problem.
        prompts: What the verifier reads before each prefix; empty where it is the problem's prompt.
    """

    prefixes: tuple[Prefix, ...]
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A final solution and what is known of it. Field by field the journal's candidate (see `tts_eval.journal`).

    Attributes:
        text: The whole solution.
        answer: Its extracted final answer, or None where it has none.
        steps: The solution cut at the step delimiter; joined they give `text`.
        step_scores: One verifier score a step, or None without a process verifier.
        outcome_score: One verifier score for the whole, or None without an outcome verifier.
        logprob: Sum of token log-probabilities under the policy at temperature 1, or None.
        tokens: Length in tokens of the policy, or None where the engine can't tell.
        finish: Why it ended.
        chain: Index of the revision chain (section 4); for parallel samples the index of the sample.
        attempt: Position in its chain, 0 for the first.
    """

    text: str
    answer: str | None
    steps: tuple[str, ...]
    step_scores: tuple[float, ...] | None
    outcome_score: float | None
    logprob: float | None
    tokens: int | None
    finish: Finish
    chain: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Usage:
    """The ledger of one problem: everything that its answer cost.

    Token counts are those computed; with `reused_tokens` added to `prefill_tokens` and `verifier_tokens` they are what
    a harness without any cache would have computed. A count is None where the engine can't tell, and None plus anything
    is None.

    Attributes:
        generations: The paper's budget unit N (section 3): full solutions sampled.
        prefill_tokens: Prompt and prefix tokens that the policy read.
        decode_tokens: Tokens that the policy wrote.
        verifier_tokens: Tokens that the verifier read.
        lookahead_tokens: Those of `decode_tokens` that lookahead rollouts wrote and threw away.
        probe_tokens: Those of `decode_tokens` spent on estimating difficulty.
        reused_tokens: Prompt and prefix tokens, of policy and verifier, served from a cache instead of being read
            again.
        verifier_reused_tokens: Those of `reused_tokens` that the verifier would have read.
        seconds: Wall-clock seconds, shared out among the problems that were computed together.
        engine_seconds: Those of `seconds` in which the policy was at work.
        verifier_seconds: Those in which the verifier was. The rest went into search, scheduling and bookkeeping.
    """

    generations: int | None = 0
    prefill_tokens: int | None = 0
    decode_tokens: int | None = 0
    verifier_tokens: int | None = 0
    lookahead_tokens: int | None = 0
    probe_tokens: int | None = 0
    reused_tokens: int | None = 0
    verifier_reused_tokens: int | None = 0
    seconds: float | None = 0.0
    engine_seconds: float | None = 0.0
    verifier_seconds: float | None = 0.0

    def __add__(self, other: Usage) -> Usage:
        """Adds two ledgers, column by column."""
        pairs = zip(_columns(self), _columns(other), strict=True)
        return Usage(*[None if mine is None or theirs is None else mine + theirs for mine, theirs in pairs])


_columns: Callable[[Usage], tuple[Any, ...]] = attrgetter(*(field.name for field in fields(Usage)))

UNKNOWN_USAGE = Usage(*[None] * len(fields(Usage)))
"""The ledger of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search returns.

    Attributes:
        finals: The final solutions, in the search's order.
        step_scores: For each of them its step scores, or None without a verifier.
        generations: What the search cost in the paper's unit (section 3): N, or N(k+1) with lookahead k.
        length: Attempts in a chain (section 4): so many finals in a row are one chain, the first attempt first.
    """

    finals: tuple[Prefix, ...]
    step_scores: tuple[tuple[float, ...], ...] | None
    generations: int
    length: int = 1


Search = Generator[Sample | Score, Any, Outcome]


class Engine(Protocol):
    """A policy that answers `Sample` requests of many problems at once, in whatever order they finish."""

    @property
    def tokens_written(self) -> int | None:
        """Tokens decoded so far, for the progress bar; None where the engine can't tell."""

    def check(self, problem: Problem) -> None:
        """Refuses a problem that the engine can't work on, before anything is computed.

        Raises:
            TtsEvalError: If the prompt does not fit the model's context.
        """

    def submit(self, ticket: int, problem: Problem, request: Sample) -> None:
        """Queues a request; `ticket` names it in `poll`.

        Raises:
            TtsEvalError: If the engine can't serve such a request.
        """

    def poll(self) -> Iterable[tuple[int, tuple[Prefix, ...], Usage]]:
        """Works for a moment and returns what has been answered meanwhile: (ticket, reply, cost).

        A cost holds the time that the reply took in `seconds`.
        """

    def release(self, ticket: int) -> None:
        """Says that no further request will come under a ticket: what is kept for it may be forgotten."""


class Verifier(Protocol):
    """Scores prefixes of many problems at once (section 2).

    Attributes:
        kind: A process verifier (PRM) gives one score a step, an outcome verifier (ORM) one for the whole.
        aggregation: What turns its step scores into one score unless the user says otherwise: `last` suits scores that
            estimate values, `min` and `prod` those that estimate the correctness of steps.
        history: Whether it was trained to see what the policy saw, earlier attempts included (section 4).
    """

    @property
    def kind(self) -> Literal["process", "outcome"]: ...  # noqa: D102

    @property
    def aggregation(self) -> str: ...  # noqa: D102

    @property
    def history(self) -> bool: ...  # noqa: D102

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> Sequence[tuple[tuple[float, ...], Usage]]:
        """For each prefix its scores, and what reading it cost.

        Raises:
            TtsEvalError: If a prefix can't be scored whole: it doesn't fit the context, or a step can't be found.
        """

    def forget(self) -> None:
        """Drops what is kept of earlier calls: it changes what later ones cost, never a score."""
