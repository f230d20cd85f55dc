"""Samples that come after others of the same prompt: numbered on from them, and the prompt isn't read again."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from searching import METHODS, Results, assert_same, search_all
from tiny import encode, run, tiny_engine, tiny_model

from tts_eval.engines.text import TextEngine
from tts_eval.search import adaptive, best_of_n, optimal
from tts_eval.types import Decoding, Outcome, Prefix, Problem, Sample, Score, Search


MODEL = tiny_model()
DECODING = Decoding(temperature=1.0, seed=5, step_delimiter="\n", max_step_tokens=9)
ROOT = Prefix()
PROBLEMS = [Problem(f"p{index}", "abcdefgh"[: 1 + 2 * index], ("ab",), 40) for index in range(4)]

every_method = pytest.mark.parametrize("method", METHODS)


def results(make: Callable[[], Search], *, kept: int | None = None, problems: list[Problem] = PROBLEMS) -> Results:
    return search_all(tiny_engine(MODEL, DECODING, None, kept), [(p, make()) for p in problems])


def probed(method: str) -> Search:
    return optimal(3, lambda score, probes: METHODS[method](5, 4))


def test_probes_and_the_rest_are_the_samples_of_best_of_n() -> None:
    found, expected = results(lambda: probed("best-of-n")), results(lambda: best_of_n(8, scored=True))
    assert_same(found, expected)
    for uid, (outcome, usage) in found.items():
        plain = expected[uid][1]
        assert usage.decode_tokens == plain.decode_tokens
        assert usage.probe_tokens == sum(len(probe.tokens) for probe in outcome.finals[:3]) > 0
        assert plain.probe_tokens == 0


def test_batches_of_adaptive_sampling_are_the_samples_of_best_of_n() -> None:
    found = results(lambda: adaptive(7, 3, 1.0, lambda solutions: np.arange(len(solutions)), scored=True))
    assert_same(found, results(lambda: best_of_n(7, scored=True)))
    for p in PROBLEMS:  # of a prompt that was kept the last token is read again
        assert found[p.uid][1].prefill_tokens == len(encode(p.prompt)) + 2


@every_method
def test_the_prompt_is_read_once_and_what_is_kept_changes_nothing_else(method: str) -> None:
    kept, forgotten = results(lambda: probed(method)), results(lambda: probed(method), kept=0)
    assert_same(kept, forgotten)
    assert_same(results(lambda: probed(method), problems=PROBLEMS[2:3]), {"p2": kept["p2"]})
    for p in PROBLEMS:
        (_, usage), (_, other) = kept[p.uid], forgotten[p.uid]
        assert usage.prefill_tokens + usage.reused_tokens == other.prefill_tokens + other.reused_tokens
        if method == "best-of-n":
            assert usage.prefill_tokens == len(encode(p.prompt)) + 1
            assert other.prefill_tokens == 2 * len(encode(p.prompt))


def test_running_out_of_memory_after_the_probes_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = results(lambda: probed("beam"))
    forward, sizes = MODEL.forward, []

    def short_of_memory(input_ids: torch.Tensor, **kwargs: object) -> object:
        if input_ids.shape[1] == 1:
            sizes.append(len(input_ids))
            if len(sizes) in (3, 50):
                raise torch.OutOfMemoryError("no memory for that")
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(MODEL, "forward", short_of_memory)
    assert_same(results(lambda: probed("beam")), expected)
    assert len(sizes) > 50


def revised_after_probes() -> Search:
    probes = yield Sample((ROOT,), 2, "end", alive=(ROOT,))
    revised = yield Sample((Prefix(probes[0].path),), 2, "end", prompts=("hgfed",))
    return Outcome(revised, (yield Score(revised)), generations=4)


def test_a_prompt_of_its_own_is_not_taken_for_the_one_that_is_kept() -> None:
    assert_same(results(revised_after_probes), results(revised_after_probes, kept=0))


def repeated() -> Search:
    """Two chains of revisions, of which one repeats its prompt and the other doesn't."""
    first = yield Sample((ROOT,), 2, "end")
    for prompts in (("hgfed", "abcab"), ("hgfed", "bcabc"), ("hgfed", "bcabc")):
        first = yield Sample(tuple(Prefix(one.path) for one in first), 1, "end", prompts=prompts)
    return Outcome(first, (yield Score(first)), generations=8)


def test_a_prompt_that_comes_again_is_not_read_again() -> None:
    found, forgotten = results(repeated), results(repeated, kept=0)
    assert_same(found, forgotten)
    for p in PROBLEMS:
        (_, usage), (_, other) = found[p.uid], forgotten[p.uid]
        assert usage.prefill_tokens == len(encode(p.prompt)) + 3 * 5 + 3 * 1  # three prompts, three last tokens
        assert usage.prefill_tokens + usage.reused_tokens == other.prefill_tokens + other.reused_tokens


def test_a_text_engine_gives_later_samples_seeds_of_their_own() -> None:
    engine = TextEngine(
        lambda pairs: [str(random.Random(arguments["seed"]).random()) for _, arguments in pairs],
        decoding=Decoding(),
        count_tokens=None,
        takes_seed=True,
    )
    requests = [(PROBLEMS[0], request) for request in (Sample((ROOT,), 5, "end"), Sample((ROOT,), 3, "end", first=2))]
    (whole, _), (later, _) = run(engine, requests)
    assert later == whole[2:]
