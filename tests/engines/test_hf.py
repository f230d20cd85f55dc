"""The Hugging Face engine against the simplest correct sampler, on a tiny random model."""

from __future__ import annotations

import random

import pytest
import torch
from tiny import CONTEXT, END, decode, encode, naive_tokens, run, tiny_engine, tiny_model

from tts_eval.engines.sampling import draw
from tts_eval.types import Decoding, Prefix, Problem, Sample, TtsEvalError


MODEL = tiny_model()
DECODING = Decoding(temperature=1.0, seed=3, step_delimiter="\n")
ROOT = Prefix()


def problem(index: int, *, stop: tuple[str, ...] = (), max_tokens: int = 24) -> Problem:
    letters = random.Random(index)
    prompt = "".join(letters.choice("abcdefgh ") for _ in range(3 + index % 17))
    return Problem(f"p{index}", prompt, stop, max_tokens)


def test_samples_are_those_of_the_naive_sampler() -> None:
    problems = [problem(index) for index in range(5)]
    answers = run(tiny_engine(MODEL, DECODING), [(p, Sample((ROOT,), 4, "end")) for p in problems])
    finishes = set()
    for p, (reply, _) in zip(problems, answers, strict=True):
        assert [prefix.path for prefix in reply] == [(0,), (1,), (2,), (3,)]
        for prefix in reply:
            tokens, logprobs = naive_tokens(MODEL, p.prompt, p.uid, prefix.path, DECODING, prefix.token_count)
            assert list(prefix.tokens) == tokens
            assert prefix.logprob == pytest.approx(sum(logprobs), abs=1e-9)
            assert prefix.text == decode(tokens)
            assert (prefix.finish == "eos") == (tokens[-1] == END)
            assert (prefix.finish == "length") == (END not in tokens)
            finishes.add(prefix.finish)
    assert finishes == {"eos", "length"}


@pytest.mark.parametrize("together", [1, 7, 64])
@pytest.mark.parametrize("max_rows", [1, 5, None])
def test_batched_equals_alone(together: int, max_rows: int | None) -> None:
    problems = [problem(index, stop=("ab",)) for index in range(together)]
    answers = run(tiny_engine(MODEL, DECODING, max_rows), [(p, Sample((ROOT,), 3, "end")) for p in problems])
    for p, (reply, _) in list(zip(problems, answers, strict=True))[:8]:
        ((alone, _),) = run(tiny_engine(MODEL, DECODING), [(p, Sample((ROOT,), 3, "end"))])
        assert [(r.text, r.tokens, r.finish) for r in reply] == [(r.text, r.tokens, r.finish) for r in alone]
        assert [r.logprob for r in reply] == pytest.approx([r.logprob for r in alone], abs=1e-9)


def test_greedy_is_that_of_transformers() -> None:
    p = problem(4, max_tokens=20)
    ((reply, _),) = run(tiny_engine(MODEL), [(p, Sample((ROOT,), 2, "end", temperature=0.0))])
    expected = MODEL.generate(torch.tensor([encode(p.prompt)]), max_new_tokens=20, do_sample=False)
    assert list(reply[0].tokens) == list(reply[1].tokens) == expected[0, len(p.prompt) :].tolist()


def test_a_stop_string_ends_its_own_row_only() -> None:
    free, stopped = problem(1, max_tokens=40), problem(1, stop=("e", "h."), max_tokens=40)
    (without, _), (reply, _) = run(
        tiny_engine(MODEL, DECODING), [(free, Sample((ROOT,), 8, "end")), (stopped, Sample((ROOT,), 8, "end"))]
    )
    assert "stop" in {prefix.finish for prefix in reply} and "stop" not in {prefix.finish for prefix in without}
    for whole, cut in zip(without, reply, strict=True):
        at = min((whole.text.find(s) for s in stopped.stop if s in whole.text), default=None)
        assert cut.text == whole.text[:at]
        assert cut.finish == ("stop" if at is not None else whole.finish)


def test_steps_continue_from_a_prefix_and_end_after_the_delimiter() -> None:
    p = problem(2, max_tokens=60)
    decoding = Decoding(temperature=1.0, seed=3, step_delimiter="\n", max_step_tokens=12)
    engine = tiny_engine(MODEL, decoding)
    ((first, _),) = run(engine, [(p, Sample((ROOT,), 6, "step"))])
    going = tuple(prefix for prefix in first if prefix.finish is None)
    assert going and all(prefix.steps[0].endswith("\n") or prefix.token_count == 12 for prefix in going)
    ((second, cost),) = run(engine, [(p, Sample(going, 2, "step"))])
    assert [s.path for s in second] == [(*prefix.path, child) for prefix in going for child in (0, 1)]
    for index, prefix in enumerate(second):
        parent = going[index // 2]
        assert prefix.steps[: len(parent.steps)] == parent.steps and len(prefix.steps) == len(parent.steps) + 1
        new = naive_tokens(MODEL, p.prompt + decode(parent.tokens), p.uid, prefix.path, decoding, 12)[0]
        assert list(prefix.tokens[parent.token_count :]) == new[: prefix.token_count - parent.token_count]
    # What was written here is not read again, but for the last token of each prefix, which nobody has read yet.
    assert cost.prefill_tokens == len(going)
    assert cost.reused_tokens == sum(2 * (len(p.prompt) + prefix.token_count) - 1 for prefix in going)


def test_a_delimiter_before_anything_else_is_no_step() -> None:
    p = problem(3, max_tokens=60)
    engine = tiny_engine(MODEL, Decoding(temperature=1.5, seed=3, step_delimiter="\n", max_step_tokens=30))
    ((reply, _),) = run(engine, [(p, Sample((ROOT,), 64, "step"))])
    assert any(prefix.text.startswith("\n") for prefix in reply)
    assert all(prefix.text.strip() for prefix in reply if prefix.finish is None and prefix.token_count < 30)


def test_the_prompt_is_read_once_and_every_token_is_counted() -> None:
    p = problem(5)
    ((reply, usage),) = run(tiny_engine(MODEL, DECODING), [(p, Sample((ROOT,), 7, "end"))])
    assert usage.prefill_tokens == len(p.prompt)
    assert usage.reused_tokens == 6 * len(p.prompt)
    assert usage.decode_tokens == sum(prefix.token_count for prefix in reply)
    assert usage.seconds > 0


def test_prefixes_with_the_same_tokens_are_read_once_and_greedy_extensions_written_once() -> None:
    p = problem(3, max_tokens=20)
    twins = (ROOT, Prefix(path=(7,)))
    ((greedy, cost),) = run(tiny_engine(MODEL, DECODING), [(p, Sample(twins, 2, "end", temperature=0.0))])
    assert [reply.path for reply in greedy] == [(0,), (1,), (7, 0), (7, 1)]
    assert len({reply.tokens for reply in greedy}) == 1 and cost.decode_tokens == greedy[0].token_count
    ((sampled, cost),) = run(tiny_engine(MODEL, DECODING), [(p, Sample(twins, 2, "end"))])
    assert [reply.path for reply in sampled] == [(0,), (1,), (7, 0), (7, 1)]
    assert len({reply.tokens for reply in sampled}) == 4  # each by the randomness of its own path
    read = len(encode(p.prompt))
    assert (cost.prefill_tokens, cost.reused_tokens) == (read, 3 * read)


def test_running_out_of_memory_halves_the_batch_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [(problem(index), Sample((ROOT,), 24, "end")) for index in range(4)]
    expected = [[prefix.tokens for prefix in reply] for reply, _ in run(tiny_engine(MODEL, DECODING), requests)]
    forward, sizes = MODEL.forward, []

    def short_of_memory(input_ids: torch.Tensor, **kwargs: object) -> object:
        sizes.append(len(input_ids))
        if len(input_ids) > 40:
            raise torch.OutOfMemoryError("no memory for that")
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(MODEL, "forward", short_of_memory)
    found = [[prefix.tokens for prefix in reply] for reply, _ in run(tiny_engine(MODEL, DECODING), requests)]
    assert found == expected
    assert max(sizes) > 40


def test_running_out_of_memory_while_drawing_loses_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [(problem(index), Sample((ROOT,), 2, "end")) for index in range(6)]
    expected = [[prefix.tokens for prefix in reply] for reply, _ in run(tiny_engine(MODEL, DECODING), requests)]
    calls = 0

    def sometimes(*args: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls % 7 == 0 and len(args[0]) > 1:
            raise torch.OutOfMemoryError("no memory for that")
        return draw(*args)

    monkeypatch.setattr("tts_eval.engines.hf.draw", sometimes)
    assert [[p.tokens for p in reply] for reply, _ in run(tiny_engine(MODEL, DECODING), requests)] == expected


def test_a_special_token_that_the_problem_names_as_a_stop_ends_the_solution() -> None:
    p = problem(6, stop=("<h>",), max_tokens=40)
    engine = tiny_engine(MODEL, DECODING)
    engine._special_tokens = {"<h>": encode("h")[0]}
    ((reply, _),) = run(engine, [(p, Sample((ROOT,), 12, "end"))])
    stopped = [prefix for prefix in reply if prefix.finish == "stop"]
    assert stopped and all(prefix.tokens[-1] == encode("h")[0] for prefix in stopped)
    assert all(encode("h")[0] not in prefix.tokens[:-1] for prefix in reply)


def test_no_memory_for_a_single_row_is_an_error_with_a_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(**kwargs: object) -> object:
        raise torch.OutOfMemoryError("none at all")

    engine = tiny_engine(MODEL, DECODING)
    monkeypatch.setattr(MODEL, "forward", no_memory)
    with pytest.raises(TtsEvalError, match=r"single row.*dtype="):
        run(engine, [(problem(0), Sample((ROOT,), 4, "end"))])


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers() -> None:
    long = Problem("long", "a" * CONTEXT, (), 5)
    with pytest.raises(TtsEvalError, match=f"long has {CONTEXT} tokens.*context is {CONTEXT}"):
        tiny_engine(MODEL).check(long)


def test_a_solution_ends_where_the_context_does() -> None:
    p = Problem("near", "a" * (CONTEXT - 4), (), 500)
    ((reply, _),) = run(tiny_engine(MODEL, DECODING), [(p, Sample((ROOT,), 12, "end"))])
    assert max(prefix.token_count for prefix in reply) == 4
    assert {prefix.finish for prefix in reply if prefix.token_count == 4} <= {"length", "eos"}
