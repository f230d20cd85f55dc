"""A policy that pays for its prediction: what it spends, and that what was drawn is what it is judged by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tts_eval.analysis import Pool, PoolSet
from tts_eval.analysis.charged import Probed, charged, probe
from tts_eval.analysis.policies import Option
from tts_eval.types import Candidate


SAMPLED, SEARCH = {"name": "best-of-n"}, {"name": "beam"}
BINS = np.array([1, 1, 2, 2])


def options(sampled: list[float], search: list[float]) -> list[Option]:
    return [Option("s", SAMPLED, 4.0, np.array(sampled)), Option("b", SEARCH, 4.0, np.array(search))]


def probed(means: list[list[float]], right: list[list[float]]) -> Probed:
    """One probe, so many draws."""
    return Probed(SAMPLED, np.array(means)[..., None], {4: np.array(right)})


SURE = probed([[0.9], [0.9], [0.1], [0.1]], [[1.0], [1.0], [0.0], [0.0]])


def test_samples_that_are_voted_on_are_the_probes_too_and_a_search_pays_for_them() -> None:
    found = charged(SURE, options([1, 1, 0, 0], [0, 0, 1, 1]), BINS, [0.5], budget=4, probes=1)
    assert found.values == pytest.approx([1, 1, 1, 1])
    assert found.costs == pytest.approx([4, 4, 5, 5])
    assert found.same_bin == 1

    alone = charged(SURE, options([1, 1, 1, 1], [0, 0, 0, 0])[:1], BINS, [0.5], budget=4, probes=1)
    assert alone.costs == pytest.approx([4] * 4), "the probes are part of the N"


def test_a_wrong_prediction_gets_the_other_bin_s_strategy() -> None:
    misled = probed([[0.1], [0.9], [0.1], [0.1]], [[1.0], [1.0], [0.0], [0.0]])
    found = charged(misled, options([1, 1, 0, 0], [0, 0, 1, 1]), BINS, [0.5], budget=4, probes=1)
    assert found.values == pytest.approx([0, 1, 1, 1])
    assert found.same_bin == 0.75


def test_the_samples_that_were_drawn_decide_not_their_average() -> None:
    """With one draw lucky and one not, the bin and the vote go together."""
    two = probed([[0.9, 0.1]] * 4, [[1.0, 0.0]] * 4)
    found = charged(two, options([0.5] * 4, [0.25] * 4), np.array([1, 1, 1, 1]), [0.5], budget=4, probes=1)
    # Bin 1 chooses the samples; in bin 2, where no problem chose, both options share.
    assert found.values == pytest.approx([(1.0 + (0.0 + 0.25) / 2) / 2] * 4)


def test_probing_takes_the_first_samples_of_each_order() -> None:
    def candidate(score: float, answer: str | None) -> Candidate:
        return Candidate("", answer, ("",), None if answer is None else (score,), None, None, 1, "eos", 0, 0)

    of = (candidate(0.2, "1"), candidate(0.6, "2"), candidate(0.0, None), candidate(0.4, "1"))
    classes, correct = np.array([0, 1, -1, 0]), np.array([True, False, False, True])
    pools = PoolSet("toy", "best-of-n", 4, True, (Pool("a", 0, None, of, classes, correct),))

    found = probe(pools, ["a"], [1, 4], most=4, selection="best_of_n_weighted", draws=60)

    assert found is not None
    assert found.means[0, :, 3] == pytest.approx(0.3), "a solution without an answer counts as hopeless"
    assert set(np.round(found.means[0, :, 0], 6)) == {0.0, 0.2, 0.4, 0.6}
    assert found.right[4][0] == pytest.approx(0.5), "the sums tie"
    assert found.right[1][0].mean() == pytest.approx(0.5, abs=0.2)
    bare = Pool("a", 0, None, (replace(of[0], step_scores=None),), classes[:1], correct[:1])
    assert probe(PoolSet("t", "s", 1, True, (bare,)), ["a"], [1], most=1, selection="majority") is None
