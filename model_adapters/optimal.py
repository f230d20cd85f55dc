"""`tts-optimal`: the strategy that a policy has for a problem's difficulty, as far as a verifier can tell that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from tts_eval.answers import default_grader, extract_answer
from tts_eval.model_adapters.arguments import Argument, number, split_arguments, text, whole
from tts_eval.model_adapters.base import SearchLM
from tts_eval.model_adapters.best_of_n import BestOfN
from tts_eval.model_adapters.engines import base_parameters
from tts_eval.model_adapters.step_search import Beam, Dvts, Lookahead, Rebase, StepSearch
from tts_eval.policy import Policy, read_policy
from tts_eval.search import adaptive, optimal
from tts_eval.selection import AGGREGATIONS, Integers, aggregate, as_classes, require_choice
from tts_eval.types import Prefix, Problem, Search, TtsEvalError


STRATEGIES: dict[str, type[SearchLM]] = {kind.NAME: kind for kind in (BestOfN, Beam, Lookahead, Dvts, Rebase)}
"""What a policy may choose from. Revisions aren't among them: they come from another model than the probes."""

_OF_THE_RUN = ("temperature", "step_delimiter", "max_step_tokens", "answer_fallback")
"""Parameters of a strategy that are the same for all problems of a run, since one engine samples for all."""


class Optimal(SearchLM):
    """Probes a problem, then runs what the policy has for its difficulty; or samples until the answer is safe."""

    NAME = "optimal"
    ARGUMENTS: ClassVar[Mapping[str, Argument]] = {
        **StepSearch.ARGUMENTS,
        "policy": Argument(text, None),
        "probes": Argument(whole(1), 4),
        "stop_at": Argument(number(0.5, 1), None),
    }
    PARAMETERS = (*StepSearch.PARAMETERS, "probes", "stop_at")

    def __init__(
        self,
        model_args: Mapping[str, Any],
        additional: Mapping[str, Any] | None = None,
        *,
        like: SearchLM | None = None,
    ):
        """See `SearchLM`.

        Raises:
            TtsEvalError: Besides what every adapter refuses, if there is neither a policy nor a stopping rule, or the
                policy can't be run like this.
        """
        known = base_parameters(str(model_args.get("base", self.ARGUMENTS["base"].default)))
        asked, _ = split_arguments(model_args, self.ARGUMENTS, known)
        self._policy = _runnable(asked)
        super().__init__(model_args, additional, like=like)
        self._searchers = [self._searcher(strategy) for strategy in _choice(self._policy, self.arguments)]

    def _searcher(self, strategy: Mapping[str, Any]) -> SearchLM:
        """The adapter of one strategy, on the same models, with what the probes leave of the budget.

        A lookahead of j steps costs j + 1 generations a solution, and as such was compared when the policy was made.
        """
        kind = STRATEGIES[strategy["name"]]
        left = self.arguments["budget"] - self.arguments["probes"]
        given = {**self.arguments, **strategy, "budget": left}
        own = {f"tts_{name}": given[name] for name in kind.ARGUMENTS if given.get(name) is not None}
        try:
            asked, _ = split_arguments(own, kind.ARGUMENTS, set())
            own["tts_budget"] = max(1, left // (1 + asked.get("lookahead", 0)))
            return kind({"base": self._base_name, "verifier": self.arguments["verifier"], **own}, like=self)
        except TtsEvalError as error:
            where = f"policy {self.arguments['policy']}, strategy {dict(strategy)}"
            raise TtsEvalError(f"{where}: {error} (here: in the policy)") from error

    @property
    def side_by_side(self) -> int:
        """The budget; without a policy what is sampled before it is asked whether to stop."""
        probes: int = self.arguments["probes"]
        return probes if self._policy is None else super().side_by_side

    @property
    def stepwise(self) -> bool:
        """Whether the policy has such a search for any bin."""
        return any(searcher.stepwise for searcher in self._searchers)

    def search(self, problem: Problem) -> Search:
        """See `tts_eval.search.optimal`; without a policy see `tts_eval.search.adaptive`."""
        policy = self._policy
        if policy is None:
            return self._adaptive(self.arguments["budget"], (), scored=self._verifier is not None)

        def choose(score: float, probes: tuple[Prefix, ...]) -> Search | None:
            if not self._searchers:
                return None
            searcher = self._searchers[policy.bin_of(score) - 1]
            if self.arguments["stop_at"] is not None and isinstance(searcher, BestOfN):
                return self._adaptive(searcher.arguments["budget"], probes, scored=True)
            return searcher.search(problem)

        def value(scores: tuple[float, ...]) -> float:
            return aggregate(scores, policy.difficulty.aggregation)

        return optimal(self.arguments["probes"], choose, value=value)

    def _adaptive(self, budget: int, seen: tuple[Prefix, ...], *, scored: bool) -> Search:
        batch, stop_at = self.arguments["probes"], self.arguments["stop_at"]
        return adaptive(budget, batch, stop_at, self._classes, scored=scored, seen=seen)

    def _classes(self, solutions: Sequence[Prefix]) -> Integers:
        """Which solutions have the same answer; whether it is right is not known here."""
        fallback = self.arguments["answer_fallback"]
        return as_classes(default_grader().group([extract_answer(one.text, fallback) for one in solutions]))

    def identity(self) -> dict[str, Any]:
        """See `SearchLM.identity`. The policy counts by what it says; in the strategy it is a hash of that."""
        identity = super().identity()
        if self._policy is not None:
            content = {key: value for key, value in asdict(self._policy).items() if key != "made_from"}
            digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
            identity |= {"policy": content, "strategy": {**identity["strategy"], "policy": digest}}
        return identity


def _runnable(arguments: Mapping[str, Any]) -> Policy | None:
    """Reads the policy, and refuses what can't be run before a model is loaded.

    Raises:
        TtsEvalError: Says what is missing or doesn't fit.
    """
    if arguments["policy"] is None:
        if arguments["stop_at"] is None:
            raise TtsEvalError(
                "tts-optimal needs a policy, or a rule that says when to stop: add policy=FILE, or stop_at=0.95, to "
                "--model_args"
            )
        return None
    if arguments["verifier"] is None:
        raise TtsEvalError("a policy puts problems into bins by the verifier's scores: add verifier= to --model_args")
    if arguments["probes"] > arguments["budget"]:
        raise TtsEvalError(
            f"probes={arguments['probes']} samples are part of the budget, which is {arguments['budget']}: lower "
            "probes= or raise budget= in --model_args"
        )
    path = Path(arguments["policy"]).expanduser()
    policy = read_policy(path)
    kind = policy.difficulty.kind
    if kind != "predicted":
        raise TtsEvalError(
            f"policy {path}: its bins are {kind}, which needs gold answers or labels that a new problem doesn't have: "
            "use a policy with difficulty.kind: predicted"
        )
    require_choice(f"difficulty.aggregation in policy {path}", policy.difficulty.aggregation, AGGREGATIONS)
    for strategy in _choice(policy, arguments):
        _require_fitting(path, strategy, arguments)
    return policy


def _choice(policy: Policy | None, arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """For each bin the strategy that spends what the probes leave; none where they leave nothing."""
    budget = arguments["budget"]
    if policy is None or arguments["probes"] == budget:
        return []
    return [policy.strategy(bin, budget) for bin in range(1, policy.bins + 1)]


def _require_fitting(path: Path, strategy: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    name = strategy["name"]
    require_choice(f"strategy in policy {path}", name, tuple(STRATEGIES))
    for key, value in strategy.items():
        if key != "name":
            require_choice(f"parameter of {name} in policy {path}", key, STRATEGIES[name].PARAMETERS)
        if key in _OF_THE_RUN and value != arguments[key]:
            raise TtsEvalError(
                f"policy {path}: {name} was chosen with {key}={value!r}, and this run has {arguments[key]!r}: give it "
                f"the same {key}= in --model_args"
            )
