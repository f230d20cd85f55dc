"""The policy file: which strategy serves a problem, by its difficulty and the budget (Snell et al. 2024, section 3).

What chooses the strategies writes it, `tts-optimal` runs it. docs/optimal.md has the format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from tts_eval.schema import from_json
from tts_eval.types import TtsEvalError


SCHEMA = 1

_DEEPEST = 32
"""Levels of nesting; a policy needs five."""

_HEAD = "# For each difficulty bin, the easiest first, the strategy to run; an entry serves budgets up to the next.\n"


@dataclass(frozen=True)
class Difficulty:
    """What the bins are cut by.

    Attributes:
        kind: `predicted` by a verifier; every other kind needs gold answers or labels.
        aggregation: How the step scores of a sample become one score (section 2).
        thresholds: Descending, one less than there are bins: bin 1, the easiest, is where the mean score of the samples
            is at least the first, the last bin where it is below the last. None where new problems can't be put into
            the bins.
    """

    kind: str
    aggregation: str
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class PolicyChoice:
    """What is chosen from one budget on.

    Attributes:
        budget: The paper's N (section 3).
        strategies: For each bin, the easiest first, a name among `Policy.strategies`.
    """

    budget: int
    strategies: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """The map from difficulty bin and budget to a strategy.

    Attributes:
        task: lm-eval's name of the task that it was chosen on.
        difficulty: What the bins are cut by.
        strategies: By the name that `choices` use, each strategy's own `name` and parameters, as journals have them.
        choices: By budget, ascending.
        made_from: Where it comes from, for people to read.

    Raises:
        TtsEvalError: If the parts don't fit together.
    """

    task: str
    difficulty: Difficulty
    strategies: Mapping[str, Mapping[str, Any]]
    choices: tuple[PolicyChoice, ...]
    made_from: Mapping[str, Any]

    def __post_init__(self) -> None:
        thresholds, budgets = self.difficulty.thresholds, [choice.budget for choice in self.choices]
        if list(thresholds) != sorted(thresholds, reverse=True):
            raise TtsEvalError(f"difficulty.thresholds must descend, not {list(thresholds)}")
        if not budgets:
            raise TtsEvalError("choices is empty")
        if budgets != sorted(set(budgets)):
            raise TtsEvalError(f"the budgets of choices must ascend, not {budgets}")
        for name, strategy in self.strategies.items():
            if not isinstance(strategy, Mapping) or not (isinstance(strategy.get("name"), str) and strategy["name"]):
                raise TtsEvalError(f"strategies.{name} must be an object with a name, which is a string")
        if self.difficulty.kind == "predicted" and len(thresholds) != self.bins - 1:
            raise TtsEvalError(
                f"difficulty.thresholds must be one less than the bins, {self.bins - 1} for the {self.bins} strategies "
                f"of choices[0], not {len(thresholds)}"
            )
        for i, choice in enumerate(self.choices):
            if len(choice.strategies) != self.bins or not self.bins:
                raise TtsEvalError(f"choices[{i}] has {len(choice.strategies)} strategies; each bin must have one")
            for unknown in set(choice.strategies) - set(self.strategies):
                raise TtsEvalError(f"choices[{i}] names {unknown!r}, which isn't among strategies")

    @property
    def bins(self) -> int:
        """How many there are."""
        return len(self.choices[0].strategies)

    def bin_of(self, score: float) -> int:
        """The bin of a problem, 1 the easiest.

        Args:
            score: Mean over samples of the problem of their aggregated verifier scores.
        """
        return 1 + sum(score < threshold for threshold in self.difficulty.thresholds)

    def strategy(self, bin: int, budget: int) -> Mapping[str, Any]:
        """What serves a problem: the choice of the largest budget that isn't above, else of the smallest there is.

        Args:
            bin: Of the problem, from 1.
            budget: The paper's N.

        Returns:
            The strategy's `name` and parameters.
        """
        fitting = [choice for choice in self.choices if choice.budget <= budget] or self.choices[:1]
        return self.strategies[fitting[-1].strategies[bin - 1]]


class _Loader(yaml.SafeLoader):
    """Takes no aliases, of which a few lines can stand for more than any memory holds, and no deep nesting."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """See `yaml.composer.Composer`."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name); write out what it stands for")
        if self._depth > _DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


# PyYAML lets out whatever its constructors stumble over, such as KeyError for `!!bool x`.
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, yaml.YAMLError)


class _Dumper(yaml.SafeDumper):
    r"""Writes a delimiter as "\n", where YAML's own choice is to break the line."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Between single quotes PyYAML takes U+0085 and its kin for line breaks, which fold into a space.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.splitlines() == [text] else '"')


_Dumper.add_representer(str, _text)


def read_policy(path: Path) -> Policy:
    """Reads a policy file; `made_from` may be missing.

    Raises:
        TtsEvalError: If it can't be read, or names what is missing or wrong in it.
    """
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        values = json.loads(json.dumps(loaded, default=str))
    except _UNREADABLE as error:
        raise TtsEvalError(f"policy {path}: can't be read: {error}; check the path, and that it is YAML") from error
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise TtsEvalError(f"policy {path}: must have schema: {SCHEMA}, as in docs/optimal.md")
    row = {"made_from": {}, **values}
    try:
        policy: Policy = from_json(Policy, row)
    except TtsEvalError as error:
        raise TtsEvalError(f"policy {path}: {error}") from error
    return policy


def write_policy(policy: Policy, path: Path) -> None:
    """Writes a policy file that `read_policy` reads back as an equal policy.

    Raises:
        TtsEvalError: If the disk refuses.
    """
    values = json.loads(json.dumps({"schema": SCHEMA, **asdict(policy)}))
    how: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "allow_unicode": True, "width": 120}
    text = _HEAD + yaml.dump(values, Dumper=_Dumper, **how)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TtsEvalError(f"policy {path}: {error.strerror}; choose a file that can be written") from error
