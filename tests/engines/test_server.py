"""The engine on a stub server: steps, ends, samples, the ledger, and what a server may say wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_server import Stub
from tiny import run

from tts_eval.engines.server import ServerEngine
from tts_eval.engines.server_replies import Ask, Served, read_answer
from tts_eval.engines.stops import split_steps
from tts_eval.replicas import Replicas
from tts_eval.types import Decoding, Prefix, Problem, Sample, TtsEvalError, Usage


ROOT = Prefix()
DELIMITER = "\n\n"


def problem(index: int | str = 0, **changes: Any) -> Problem:
    fields: dict[str, Any] = {"uid": f"p{index}", "prompt": f"What is {index}?\n", "stop": (), "max_tokens": 60}
    return Problem(**(fields | changes))


def payload(ask: Ask) -> dict[str, Any]:
    body = {"model": "m", "prompt": ask.prompt + ask.text, "max_tokens": ask.most, "temperature": ask.temperature}
    body |= {"stop": list(ask.stop)} | ({"n": ask.n} if ask.n > 1 else {})
    return body | ({} if ask.seed is None else {"seed": ask.seed})


def words(text: str) -> int:
    return len(text.split())


@pytest.fixture
def stub(recording_stub: Stub) -> Stub:
    """The server, as it was when it started."""
    fresh = {"style": "vllm", "usage": True, "cached": False, "choices": None, "seeded": True, "constant": False}
    recording_stub.set(**fresh, ends=0.3, next=[])
    return recording_stub


def engine(stub: Stub, decoding: Decoding | None = None, **changes: Any) -> ServerEngine:
    served = Served(payload, **({"goes_on": True, "count_tokens": words} | changes))
    return ServerEngine(Replicas([stub.completions], headers={}, tries=2), served, decoding or Decoding(seed=1))


def solved(on: ServerEngine, asked: Problem, n: int) -> tuple[list[Prefix], Usage]:
    """Solutions sampled step by step, until all are finished."""
    ((reply, cost),) = run(on, [(asked, Sample((ROOT,), n, "step"))])
    finals: list[Prefix] = []
    while True:
        finals += [prefix for prefix in reply if prefix.finish is not None]
        going = tuple(prefix for prefix in reply if prefix.finish is None)
        if not going:
            return finals, cost
        ((reply, more),) = run(on, [(asked, Sample(going, 1, "step"))])
        cost += more


@pytest.mark.parametrize("style", ["vllm", "sglang", "plain"])
def test_steps_end_with_the_delimiter_and_solutions_with_the_models_end(stub: Stub, style: str) -> None:
    stub.set(style=style)
    finals, _ = solved(engine(stub), problem(max_tokens=500), 8)
    assert len(finals) == 8
    for final in finals:
        assert all(step.startswith("Add ") and step.endswith(f".{DELIMITER}") for step in final.steps[:-1])
        assert final.steps[-1].startswith("So it is ") and final.steps[-1].endswith("}.")
        assert (final.finish, final.steps) == ("eos", split_steps(final.text, DELIMITER))
    assert len({len(final.steps) for final in finals}) > 1


def test_a_whole_solution_says_why_it_ended(stub: Stub) -> None:
    stub.set(ends=0.0)  # never by itself
    on = engine(stub)
    ((cut, _), (stopped, _)) = run(
        on,
        [
            (problem(max_tokens=7), Sample((ROOT,), 2, "end")),
            (problem(1, stop=("and",)), Sample((ROOT,), 2, "end")),
        ],
    )
    assert [(prefix.finish, prefix.token_count, words(prefix.text)) for prefix in cut] == [("length", 6, 6)] * 2
    assert [(prefix.finish, "and" in prefix.text) for prefix in stopped] == [("stop", False)] * 2
    stub.set(ends=1.0)
    ((ended, _),) = run(on, [(problem(2), Sample((ROOT,), 2, "end"))])
    assert [prefix.finish for prefix in ended] == ["eos"] * 2


def test_limits_of_step_and_solution(stub: Stub) -> None:
    stub.set(ends=0.0)
    on = engine(stub, Decoding(max_step_tokens=3), native_n=False)
    ((reply, _),) = run(on, [(problem(), Sample((ROOT,), 2, "step"))])
    assert [(prefix.finish, prefix.token_count, len(prefix.steps)) for prefix in reply] == [(None, 3, 1)] * 2
    finals, _ = solved(engine(stub, native_n=False), problem(max_tokens=12), 2)
    assert [(final.finish, final.token_count) for final in finals] == [("length", 12)] * 2
    for limit in (3, 6):  # both limits are met at once
        finals, _ = solved(engine(stub, Decoding(max_step_tokens=3)), problem(max_tokens=limit), 2)
        assert [(final.finish, final.token_count) for final in finals] == [("length", limit)] * 2


def test_a_stop_string_that_begins_with_the_delimiter_ends_the_solution(stub: Stub) -> None:
    stub.set(ends=0.0)
    finals, _ = solved(engine(stub), problem(stop=(f"{DELIMITER}Add",)), 2)
    assert [(final.finish, len(final.steps), final.text.count("Add")) for final in finals] == [("stop", 1, 1)] * 2


def test_a_sample_is_the_same_alone_and_among_others(stub: Stub) -> None:
    requests = [(problem(index), Sample((ROOT,), 3, "end")) for index in range(5)]
    together = [[prefix.text for prefix in reply] for reply, _ in run(engine(stub), requests)]
    alone = [[prefix.text for prefix in run(engine(stub), [request])[0][0]] for request in requests]
    assert together == alone
    assert len({text for texts in together for text in texts}) > 12
    other_seed = run(engine(stub, Decoding(seed=2)), requests[:1])[0][0]
    assert [prefix.text for prefix in other_seed] != together[0]


def test_several_samples_are_one_request_and_what_is_missing_is_asked_for(stub: Stub) -> None:
    before = stub.stats()["requests"]
    run(engine(stub), [(problem(), Sample((ROOT,), 8, "end"))])
    assert stub.stats()["requests"] - before == 1
    stub.set(choices=1)
    on = engine(stub)
    ((reply, _),) = run(on, [(problem(), Sample((ROOT,), 8, "end"))])
    assert len({prefix.text for prefix in reply}) > 1 and [prefix.path for prefix in reply] == [(i,) for i in range(8)]
    assert stub.stats()["requests"] - before == 9
    run(on, [(problem(1), Sample((ROOT,), 8, "end"))])
    assert stub.stats()["requests"] - before == 17, "it isn't asked for several again"


@pytest.mark.parametrize("refusal", ["400", "one"])
def test_where_several_samples_are_refused_they_are_asked_for_one_by_one(stub: Stub, refusal: str) -> None:
    expected = run(engine(stub, native_n=False), [(problem(), Sample((ROOT,), 4, "end"))])[0][0]
    before, on = stub.stats()["requests"], engine(stub)
    stub.set(next=[refusal])
    assert run(on, [(problem(), Sample((ROOT,), 4, "end"))])[0][0] == expected
    assert stub.stats()["requests"] - before == 5
    run(on, [(problem(1), Sample((ROOT,), 4, "end"))])
    assert stub.stats()["requests"] - before == 9, "it isn't asked for several again"


def test_what_is_refused_for_another_reason_is_asked_for_once_more(stub: Stub) -> None:
    before = stub.stats()["requests"]
    stub.set(next=["400", "400"])
    with pytest.raises(TtsEvalError, match="HTTP 400: stub says 400"):
        run(engine(stub), [(problem(), Sample((ROOT,), 4, "end"))])
    assert stub.stats()["requests"] - before == 2


def test_seeds_are_sent_distinct_or_not_at_all(stub: Stub) -> None:
    already = len(stub.received())
    run(engine(stub, native_n=False), [(problem(), Sample((ROOT,), 8, "end", first=4))])
    seeds = [body["seed"] for body in stub.received()[already:]]
    assert len(set(seeds)) == 8 and all(0 <= seed < 2**31 for seed in seeds)
    run(engine(stub, seeds=False), [(problem(), Sample((ROOT,), 2, "end"))])
    assert "seed" not in stub.received()[-1]


def test_greedy_children_are_one_request(stub: Stub) -> None:
    already = len(stub.received())
    ((reply, _),) = run(engine(stub), [(problem(), Sample((ROOT,), 4, "end", temperature=0))])
    assert len(stub.received()) == already + 1 and stub.received()[-1]["temperature"] == 0
    assert [prefix.path for prefix in reply] == [(0,), (1,), (2,), (3,)] and len({one.text for one in reply}) == 1


@pytest.mark.parametrize("native_n", [True, False])
@pytest.mark.parametrize("style", ["vllm", "plain"])
def test_the_ledger_is_the_servers_own(stub: Stub, native_n: bool, style: str) -> None:
    stub.set(style=style, cached=True)
    before, already = stub.stats(), len(stub.received())
    _, cost = solved(engine(stub, native_n=native_n), problem(f"{style} {native_n}"), 6)
    spent = {name: count - before[name] for name, count in stub.stats().items()}
    assert cost.decode_tokens == spent["completion_tokens"]
    assert cost.prefill_tokens == spent["prompt_tokens"] - spent["cached_tokens"]
    assert cost.reused_tokens is not None
    # A reply has the prompt of its samples once.
    together = any(body.get("n", 1) > 1 for body in stub.received()[already:])
    assert (cost.reused_tokens > spent["cached_tokens"]) == together == native_n


def test_a_prompt_of_several_samples_is_charged_once(stub: Stub) -> None:
    # The server says what the last sample found in the cache, and that is what the first one had put there.
    stub.set(cached=True)
    asked = problem("charged")
    for count, prefill in ((1, 3), (4, 3), (1, 0)):
        ((_, cost),) = run(engine(stub), [(asked, Sample((ROOT,), count, "end"))])
        assert (cost.prefill_tokens, cost.reused_tokens) == (prefill, 3 * count - prefill)


def test_without_usage_the_tokenizer_counts_and_without_both_nothing_is_known(stub: Stub) -> None:
    stub.set(usage=False)
    ((reply, cost),) = run(engine(stub), [(problem(), Sample((ROOT,), 2, "end"))])
    assert [prefix.token_count for prefix in reply] == [words(prefix.text) for prefix in reply]
    assert (cost.prefill_tokens, cost.decode_tokens) == (3, sum(words(prefix.text) for prefix in reply))
    on = engine(stub, count_tokens=None)
    ((reply, cost),) = run(on, [(problem(), Sample((ROOT,), 2, "end"))])
    assert {prefix.token_count for prefix in reply} == {None} and cost.decode_tokens is None
    assert on.tokens_written is None
    ((reply, _),) = run(on, [(problem(), Sample((ROOT,), 4, "step"))])
    going = tuple(prefix for prefix in reply if prefix.finish is None)
    with pytest.raises(TtsEvalError, match=r"doesn't say how many tokens.*tokenizer="):
        run(on, [(problem(), Sample(going, 1, "step"))])


def test_seconds_are_shared_out(stub: Stub) -> None:
    stub.set(seconds=0.2)
    costs = [cost for _, cost in run(engine(stub), [(problem(i), Sample((ROOT,), 2, "end")) for i in range(10)])]
    stub.set(seconds=0.0)
    assert 0.15 < sum(cost.seconds or 0 for cost in costs) < 1.5, "ten at a time take as long as one"


def test_equal_samples_of_the_last_problems_pass(stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    stub.set(constant=True, seeded=False, ends=0.0)
    assert len(run(engine(stub), [(problem(index), Sample((ROOT,), 4, "end")) for index in range(2)])) == 2
    assert "came back equal, for each of 2 problems" in caplog.text


def test_a_server_that_gives_copies_is_refused(stub: Stub) -> None:
    stub.set(constant=True, ends=0.0)
    requests = [(problem(index, prompt="x"), Sample((ROOT,), 4, "end")) for index in range(4)]
    stub.set(seeded=False)
    with pytest.raises(TtsEvalError, match=r"all samples of a problem came back equal.*temperature 0.8"):
        run(engine(stub), requests)
    steps = [(problem(index, prompt="x"), Sample((ROOT,), 4, "step")) for index in range(60)]
    with pytest.raises(TtsEvalError, match=r"came back equal, 50 times in a row"):
        run(engine(stub), steps)
    assert len(run(engine(stub, Decoding(temperature=0)), requests)) == 4


def test_a_chat_without_prefill_is_refused_for_steps(stub: Stub) -> None:
    for request in (Sample((ROOT,), 2, "step"), Sample((Prefix(steps=("a",)),), 2, "end")):
        with pytest.raises(TtsEvalError, match=r"can't go on from a partial.*prefill=true"):
            engine(stub, goes_on=False).submit(0, problem(), request)


def test_a_prompt_that_does_not_fit_is_refused(stub: Stub) -> None:
    with pytest.raises(TtsEvalError, match=r"p0 has 3 tokens.*may have 60.*takes 62.*max_length="):
        engine(stub, context=62).check(problem())
    engine(stub, context=63).check(problem())


def test_what_the_server_refuses_is_said_in_its_words(stub: Stub) -> None:
    stub.set(next=["400"])
    with pytest.raises(TtsEvalError, match=r"refuses the request, HTTP 400: stub says 400"):
        run(engine(stub), [(problem(), Sample((ROOT,), 1, "end"))])


@pytest.mark.parametrize("fault", ["truncated", "malformed", "empty", "null", "no_text", "drop", "429", "500"])
def test_a_failed_try_is_made_again(stub: Stub, fault: str) -> None:
    expected = run(engine(stub), [(problem(), Sample((ROOT,), 3, "end"))])[0][0]
    stub.set(next=[fault])
    assert run(engine(stub), [(problem(), Sample((ROOT,), 3, "end"))])[0][0] == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["index", "text", "message", "content"]), inner),
)
FIELDS = {"choices": st.lists(JSON) | JSON, "usage": JSON}


@given(JSON | st.fixed_dictionaries({}, optional=FIELDS))
def test_any_reply_is_read_or_refused(reply: Any) -> None:
    try:
        answer = read_answer(reply)
    except ValueError:
        return
    assert answer.pieces and all(isinstance(piece.text, str) for piece in answer.pieces)


def test_replies_are_read_in_the_order_of_their_index() -> None:
    choices = [{"index": 1, "text": "b", "finish_reason": "length"}, {"index": 0, "message": {"content": None}}]
    answer = read_answer({"choices": choices, "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    assert [(piece.text, piece.cut) for piece in answer.pieces] == [("", False), ("b", True)]
    assert (answer.read, answer.written, answer.pieces[0].tokens) == (3, 4, None)
    with pytest.raises(ValueError, match="gave up writing: finish_reason abort"):
        read_answer({"choices": [{"text": "a", "finish_reason": "abort"}]})
