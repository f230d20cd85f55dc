"""Everything that a report says of one task, as tables: what `tts_eval.analysis.measuring` finds out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tts_eval.analysis.accuracy import Row
from tts_eval.analysis.approaches import Approach
from tts_eval.analysis.chain_attempts import AttemptRow
from tts_eval.analysis.chain_shapes import ShapeRow
from tts_eval.analysis.compute_optimal import ChoiceRow, PolicyCurve, PolicyRow
from tts_eval.analysis.costs import RunCost
from tts_eval.analysis.coverage_law import CoverageLaw, SelectionGap
from tts_eval.analysis.difficulty import Kind, Stability
from tts_eval.analysis.exchange import Exchange, Threshold, TotalFlops
from tts_eval.analysis.flops import ACCOUNTINGS, RATIOS, Accounting
from tts_eval.analysis.hacking import HackingRow
from tts_eval.analysis.larger import PlainRun
from tts_eval.analysis.ledger_flops import ModelShape
from tts_eval.analysis.pools import PoolSet
from tts_eval.analysis.roles import Roles
from tts_eval.selection import Aggregation


THIRDS = {"easy": (1, 2), "medium": (3,), "hard": (4, 5)}
"""The paper's groups of bins in its bars of relative gains (figure 1)."""


@dataclass(frozen=True)
class Settings:
    """How a study is made.

    Attributes:
        aggregation: How step scores become one score.
        probes: The k of policies that pay for their prediction.
        times: M, how many times larger the larger model is; None without one.
        ratios: R, inference tokens over pretraining tokens.
        accounting: See `tts_eval.analysis.flops`.
        pretraining_tokens: D_pretrain of the base, for total FLOPs; None leaves them out.
        splits: Random halvings of a bin.
        resamples: Draws of every bootstrap.
        subsets: Random subsets a problem and budget.
        seed: Of all of them.
        shapes: Shapes of the models by name, those that are known: for FLOPs.
    """

    aggregation: Aggregation = "last"
    probes: tuple[int, ...] = (1, 2, 4, 8, 16)
    times: float | None = None
    ratios: tuple[float, ...] = RATIOS["v1"]
    accounting: Accounting = ACCOUNTINGS["v1"]
    pretraining_tokens: float | None = None
    splits: int = 100
    resamples: int = 1000
    subsets: int = 200
    seed: int = 0
    shapes: Mapping[str, ModelShape] = field(default_factory=dict)


@dataclass(frozen=True)
class StrategyRow:
    """A fixed strategy at one budget.

    Attributes:
        approach: `search` or `revisions`.
        strategy: The strategy, or another selection from independent samples.
        level: The problems' oracle bin; None for all.
        budget: N of the run.
        cost: Generations a problem.
        accuracy: 0 to 1, with the ends
        low: of its 95 % interval,
        high: see `wilson_interval`.
        difference: Its accuracy less the baseline's with as many generations; None where the baseline has no run of so
            many. With
        difference_low: the ends of its 95 % interval, by a paired bootstrap over the problems.
        difference_high: The upper one.
        detectable: The smallest true difference that so many problems would show in four of five cases.
        n: Number of problems.
    """

    approach: str
    strategy: str
    level: Any
    budget: int
    cost: float
    accuracy: float
    low: float
    high: float
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    detectable: float | None
    n: int


@dataclass(frozen=True)
class Duel:
    """One run against the larger model, problem by problem: McNemar's exact test.

    Attributes:
        strategy: The strategy.
        budget: N of the run.
        ours: Problems that only the run solves.
        theirs: Problems that only the larger model solves.
        p_value: Two-sided.
        n: Number of problems.
    """

    strategy: str
    budget: int
    ours: int
    theirs: int
    p_value: float
    n: int


@dataclass
class Study:
    """The tables of a report, all problems and by oracle bin.

    Attributes:
        roles: The runs.
        settings: How it was made.
        difficulty: Independent samples of the base model, by which bins are cut.
        approaches: Search, and revisions where there are any.
        bins: By kind of difficulty the bin of each problem.
        thresholds: What separates the predicted bins, in the verifier's mean score.
        larger: The larger model, or None.
        stability: How far bins depend on the samples.
        agreement: Share of the problems whose predicted bin is their oracle bin; None without predictions.
        strategies: Every strategy, every budget.
        policies: Compute-optimal policies.
        curves: Their held-out values, by approach and policy.
        choices: What they choose.
        exchanges: Against the larger model.
        worth: From which R on the larger model is worth it.
        duels: Single runs against it.
        totals: Total FLOPs of both at each R.
        aggregations: Every aggregation of the base's samples.
        attempts: What each revision is worth.
        shapes: Every shape of chains.
        without_history: The same chains read by a verifier without history.
        coverage: The power law of coverage, or None.
        gaps: Coverage less selected accuracy.
        hacking: The verifier's score of the selected answer against accuracy, by budget.
        costs: Every run that was used.
        notes: What was left out.
    """

    roles: Roles
    settings: Settings
    difficulty: PoolSet
    approaches: list[Approach] = field(default_factory=list)
    bins: dict[Kind, Mapping[str, int]] = field(default_factory=dict)
    thresholds: tuple[float, ...] = ()
    larger: PlainRun | None = None
    stability: list[Stability] = field(default_factory=list)
    agreement: float | None = None
    strategies: list[StrategyRow] = field(default_factory=list)
    policies: list[PolicyRow] = field(default_factory=list)
    curves: dict[tuple[str, str], PolicyCurve] = field(default_factory=dict)
    choices: list[ChoiceRow] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    worth: list[Threshold] = field(default_factory=list)
    duels: list[Duel] = field(default_factory=list)
    totals: list[TotalFlops] = field(default_factory=list)
    aggregations: list[Row] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    shapes: list[ShapeRow] = field(default_factory=list)
    without_history: list[ShapeRow] = field(default_factory=list)
    coverage: CoverageLaw | None = None
    gaps: list[SelectionGap] = field(default_factory=list)
    hacking: list[HackingRow] = field(default_factory=list)
    costs: list[RunCost] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def shares_samples(self) -> bool:
        """Whether bins are cut by the very samples that are best-of-N's, which flatters policies by oracle bins."""
        return self.difficulty is self.roles.base
