"""Monte-Carlo rollouts on the Hugging Face engine: the same in any batch, and those of the simplest correct sampler."""

from __future__ import annotations

import pytest
from tiny import decode, naive_tokens, tiny_engine, tiny_model

from tts_eval.scheduler import Scheduler
from tts_eval.search import Rollouts, monte_carlo
from tts_eval.types import Decoding, Problem


MODEL = tiny_model()
DECODING = Decoding(temperature=1.0, seed=3, step_delimiter="\n")
PROBLEMS = [Problem(f"p{index}", "abcdefgh. "[index:], (), 40) for index in range(5)]


def rollouts(*, in_flight: int, max_rows: int | None) -> dict[str, Rollouts]:
    scheduler = Scheduler(tiny_engine(MODEL, DECODING, max_rows), in_flight=in_flight)
    searches = ((problem, monte_carlo(4, 3, parsable=lambda text: "a" in text)) for problem in PROBLEMS)
    return {found[0].uid: found[1] for found in scheduler.run(searches) if found is not None}


EXPECTED = rollouts(in_flight=5, max_rows=None)


@pytest.mark.parametrize(("in_flight", "max_rows"), [(1, None), (2, 7), (5, 3)])
def test_rollouts_do_not_depend_on_what_else_runs(in_flight: int, max_rows: int | None) -> None:
    found = rollouts(in_flight=in_flight, max_rows=max_rows)
    for uid, expected in EXPECTED.items():
        assert [s.tokens for s in found[uid].solutions] == [s.tokens for s in expected.solutions]
        assert list(found[uid].rollouts) == list(expected.rollouts)
        for tokens, group in expected.rollouts.items():
            assert [end.tokens for end in found[uid].rollouts[tokens]] == [end.tokens for end in group]


def test_a_rollout_is_what_the_naive_sampler_draws_after_the_prefix() -> None:
    checked = 0
    for problem in PROBLEMS:
        for tokens, group in EXPECTED[problem.uid].rollouts.items():
            for end in group:
                assert end.finish is not None and end.path[-2] == -1
                prompt = problem.prompt + decode(tokens)
                count = len(end.tokens) - len(tokens)
                assert naive_tokens(MODEL, prompt, problem.uid, end.path, DECODING, count)[0] == list(
                    end.tokens[len(tokens) :]
                )
                checked += 1
    assert checked > 20
