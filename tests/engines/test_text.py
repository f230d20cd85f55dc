"""The text-only fallback engine."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tiny import run

from tts_eval.engines.text import TextEngine
from tts_eval.types import Decoding, Prefix, Problem, Sample, TtsEvalError


PROBLEM = Problem("p", "two words", ("\n\nQ:",), 6)
ROOT = Prefix()


def seeded(pairs: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """A server that honours seeds."""
    return [f"{prompt} {random.Random(arguments['seed']).random()}" for prompt, arguments in pairs]


def engine(generate: Any = seeded, **options: Any) -> TextEngine:
    options = {"decoding": Decoding(temperature=0.5, seed=1), "count_tokens": None, "takes_seed": True, **options}
    return TextEngine(generate, **options)


def test_every_sample_has_its_own_seed_and_the_same_one_in_any_batch() -> None:
    requests = [(Problem(f"p{i}", "x", (), 5), Sample((ROOT,), 4, "end")) for i in range(9)]
    texts = [[prefix.text for prefix in reply] for reply, _ in run(engine(), requests)]
    assert len({text for of_problem in texts for text in of_problem}) == 36
    assert texts == [[prefix.text for prefix in run(engine(batch=1), [request])[0][0]] for request in requests]


def test_the_arguments_are_lm_evals() -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    def generate(pairs: list[tuple[str, dict[str, Any]]]) -> list[str]:
        seen.extend(pairs)
        return ["a"]

    run(engine(generate, takes_seed=False), [(PROBLEM, Sample((ROOT,), 1, "end"))])
    expected = {"until": ["\n\nQ:"], "max_gen_toks": 6, "do_sample": True, "temperature": 0.5}
    assert seen == [("two words", expected)]


def test_a_model_is_not_asked_for_nothing() -> None:
    assert engine(lambda pairs: 1 // len(pairs)).poll() == []


def test_equal_samples_stop_the_run() -> None:
    requests = [(Problem(f"p{i}", "x", (), 5), Sample((ROOT,), 4, "end")) for i in range(3)]
    with pytest.raises(TtsEvalError, match=r"all samples of a problem came back equal.*3 problems.*temperature 0.5"):
        run(engine(lambda pairs: ["same " * 20] * len(pairs)), requests)


@pytest.mark.parametrize("batch", [1, 64])
def test_short_answers_may_be_equal_for_long(batch: int) -> None:
    """All samples of an easy question are its answer."""
    requests = [(Problem(f"p{i}", "x", (), 5), Sample((ROOT,), 4, "end")) for i in range(49)]
    one = engine(lambda pairs: ["(B)"] * len(pairs), batch=batch)
    assert len(run(one, requests)) == 49
    with pytest.raises(TtsEvalError, match=r"came back equal, 50 times in a row"):
        run(one, requests[:1])


def test_equal_samples_pass_where_they_are_expected_or_one_problem_differs() -> None:
    requests = [(Problem(f"p{i}", "x", (), 5), Sample((ROOT,), 4, "end")) for i in range(3)]
    same = [lambda pairs: ["same"] * len(pairs), lambda pairs: ["other", *["same"] * (len(pairs) - 1)]]
    assert len(run(engine(same[0], constant=True), requests)) == 3
    assert len(run(engine(same[1]), requests)) == 3
    assert len(run(engine(same[0], decoding=Decoding(temperature=0)), requests)) == 3
    assert len(run(engine(same[0]), [(PROBLEM, Sample((ROOT,), 1, "end"))])) == 1


def test_tokens_are_counted_where_there_is_a_tokenizer_and_unknown_elsewhere() -> None:
    def generate(pairs: list[tuple[str, dict[str, Any]]]) -> list[str]:
        return ["one two three", "1 2 3 4 5 6"]

    request = (PROBLEM, Sample((ROOT,), 2, "end"))
    counting = engine(generate, count_tokens=lambda text: len(text.split()))
    ((reply, usage),) = run(counting, [request])
    assert [(prefix.token_count, prefix.finish) for prefix in reply] == [(3, "eos"), (6, "length")]
    assert (usage.decode_tokens, usage.prefill_tokens, counting.tokens_written) == (9, 4, 9)
    ((reply, usage),) = run(engine(generate), [request])
    assert [prefix.token_count for prefix in reply] == [None, None]
    assert usage.decode_tokens is None and usage.prefill_tokens is None


def test_going_on_from_a_partial_solution_is_refused_with_the_mend() -> None:
    for request in (Sample((ROOT,), 2, "step"), Sample((Prefix(steps=("a",)),), 2, "end")):
        with pytest.raises(TtsEvalError, match="tts-best-of-n"):
            engine().submit(0, PROBLEM, request)


def test_equal_samples_of_the_first_problems_are_held_back_until_others_differ() -> None:
    requests = [(Problem(f"p{i}", "easy" if i < 2 else "hard", (), 5), Sample((ROOT,), 4, "end")) for i in range(4)]

    def easy_first(pairs: list[tuple[str, dict[str, Any]]]) -> list[str]:
        return [prompt if prompt == "easy" else f"{arguments['seed']}" for prompt, arguments in pairs]

    texts = [[prefix.text for prefix in reply] for reply, _ in run(engine(easy_first, batch=4), requests)]
    assert texts[0] == ["easy"] * 4 and len(set(texts[3])) == 4


def test_a_prompt_that_would_be_cut_is_refused() -> None:
    counting = engine(count_tokens=lambda text: len(text.split()), context=7)
    with pytest.raises(TtsEvalError, match=r"p has 2 tokens.*may have 6.*takes 7.*max_length="):
        counting.check(PROBLEM)
    engine(count_tokens=lambda text: len(text.split()), context=8).check(PROBLEM)
