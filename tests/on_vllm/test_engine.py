"""`VLLMEngine` on SmolLM2: its tokens, texts and costs, beside transformers and beside vLLM's own counters."""

from __future__ import annotations

import re
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
import torch

from tts_eval.model_adapters.engines import build_engine
from tts_eval.scheduler import Scheduler
from tts_eval.search import beam, best_of_n
from tts_eval.types import Decoding, Engine, Outcome, Prefix, Problem, Sample, Search, TtsEvalError, Usage


DECODING = Decoding(temperature=0.8, seed=3, step_delimiter="\n", max_step_tokens=12)
QUESTIONS = ("What is 12 + 30?", "Name three colours.", "Why is the sky blue?")


def problem(question: str, **limits: Any) -> Problem:
    return Problem(question, f"Question: {question}\nAnswer:\n", **{"stop": ("\n\n",), "max_tokens": 24} | limits)


def ask(engine: Engine, problem: Problem, request: Sample) -> tuple[tuple[Prefix, ...], Usage]:
    engine.submit(7, problem, request)
    while True:
        for ticket, reply, cost in engine.poll():
            assert ticket == 7
            return reply, cost


@pytest.fixture(scope="module")
def engine(base: Any) -> Engine:
    return build_engine("vllm", base, DECODING, None)


class Constant:
    """Likes long texts."""

    kind, aggregation, history = "process", "last", False

    def score(self, items: Any) -> list[tuple[tuple[float, ...], Usage]]:
        return [(tuple(float(len(step)) for step in prefix.steps), Usage()) for _, prefix in items]

    def forget(self) -> None: ...


def run(engine: Engine, searches: list[tuple[Problem, Search]]) -> dict[str, tuple[Outcome, Usage]]:
    done = filter(None, Scheduler(engine, Constant()).run(searches))
    return {problem.uid: (outcome, usage) for problem, outcome, usage in done}


def counters(base: Any) -> dict[str, int]:
    from vllm.v1.metrics.reader import Counter

    return {
        metric.name.removeprefix("vllm:"): metric.value
        for metric in base.model.get_metrics()
        if isinstance(metric, Counter)
    }


def test_logprobs_are_those_of_transformers(engine: Engine, base: Any, smollm2: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    asked = problem(QUESTIONS[2])
    reply, _ = ask(engine, asked, Sample((Prefix(),), 4, "end"))
    prompt = base.tok_encode(asked.prompt)
    for prefix in reply:
        ids = torch.tensor([[*prompt, *prefix.tokens]])
        with torch.inference_mode():
            logs = model(ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
        expected = logs.gather(1, ids[0, len(prompt) :, None]).sum().item()
        assert prefix.logprob == pytest.approx(expected, abs=1e-2)


def test_samples_differ_and_are_keyed(engine: Engine, base: Any) -> None:
    asked = problem(QUESTIONS[0])
    reply, _ = ask(engine, asked, Sample((Prefix(),), 6, "end"))
    assert len({prefix.text for prefix in reply}) > 1
    assert [prefix.path for prefix in reply] == [(child,) for child in range(6)]
    later, _ = ask(engine, asked, Sample((Prefix(),), 2, "end", first=4))
    assert [prefix.text for prefix in later] == [prefix.text for prefix in reply[4:]]
    other = build_engine("vllm", base, Decoding(temperature=0.8, seed=4, step_delimiter="\n"), None)
    others, _ = ask(other, asked, Sample((Prefix(),), 6, "end"))
    assert [prefix.text for prefix in others] != [prefix.text for prefix in reply]


def test_steps_end_with_the_delimiter_and_go_on_from_their_tokens(engine: Engine) -> None:
    asked = problem(QUESTIONS[1], stop=(), max_tokens=40)
    first, _ = ask(engine, asked, Sample((Prefix(),), 4, "step"))
    going = tuple(prefix for prefix in first if prefix.finish is None)
    assert going
    second, cost = ask(engine, asked, Sample(going, (2,) * len(going), "step"))
    for before, prefix in zip((prefix for prefix in going for _ in range(2)), second):
        assert prefix.tokens[: len(before.tokens)] == before.tokens
        assert prefix.text.startswith(before.text)
        assert prefix.step_ends[-1] == len(prefix.tokens) == prefix.token_count
        if prefix.finish is None and prefix.step_ends[-1] - len(before.tokens) < DECODING.max_step_tokens:
            assert "\n" in prefix.steps[-1]
    assert cost.decode_tokens == sum(len(prefix.tokens) for prefix in second) - 2 * sum(len(p.tokens) for p in going)


def test_why_a_solution_ended(engine: Engine, base: Any) -> None:
    (cut,), _ = ask(engine, problem("Count to ten.", stop=(), max_tokens=5), Sample((Prefix(),), 1, "end"))
    assert (cut.finish, cut.token_count) == ("length", 5)
    chat = base.apply_chat_template([{"role": "user", "content": "Say yes."}])
    spoken = Problem("chat", chat, (), 100)
    (ended,), _ = ask(engine, spoken, Sample((Prefix(),), 1, "end", temperature=0))
    assert ended.finish == "eos" and ended.tokens[-1] == base.tokenizer.eos_token_id
    word = ended.text.split()[0]
    (stopped,), _ = ask(engine, Problem("chat", chat, (word,), 100), Sample((Prefix(),), 1, "end", temperature=0))
    assert stopped.finish == "stop" and word not in stopped.text


def test_a_stop_string_across_two_steps(engine: Engine) -> None:
    # The model copies lines, so the newline of a step and the first word of the next make a stop string.
    text = "One and two.\nThree and four.\nFive and six.\n"
    greedy = Sample((Prefix(),), 1, "end", temperature=0)
    (whole,), _ = ask(engine, Problem("copy", text * 6, (), 40), greedy)
    found = re.search(r"(?<=\S)\n+\w+", whole.text)
    assert found is not None, whole.text
    asked = Problem("copy", text * 6, (found[0],), 40)
    step, before = Prefix(), Prefix()
    while step.finish is None:
        before = step
        (step,), _ = ask(engine, asked, Sample((step,), 1, "step", temperature=0))
    assert (step.finish, step.text.rstrip()) == ("stop", whole.text[: found.start()].rstrip())
    assert before.text.endswith("\n") and len(step.tokens) - len(before.tokens) <= 4


def test_greedy_samples_are_written_once(engine: Engine) -> None:
    reply, cost = ask(engine, problem(QUESTIONS[0]), Sample((Prefix(),), 3, "step", temperature=0, lookahead=True))
    assert len({prefix.text for prefix in reply}) == 1
    assert [prefix.path for prefix in reply] == [(0,), (1,), (2,)]
    assert cost.decode_tokens == reply[0].token_count


def test_prompts_of_their_own(engine: Engine, base: Any) -> None:
    asked = problem(QUESTIONS[0])
    prompts = (asked.prompt, problem(QUESTIONS[2]).prompt)
    _, cost = ask(engine, asked, Sample((Prefix(), Prefix()), 1, "end", prompts=prompts))
    assert cost.prefill_tokens is not None and cost.reused_tokens is not None
    assert cost.prefill_tokens + cost.reused_tokens == sum(len(base.tok_encode(prompt)) for prompt in prompts)


def test_the_ledger_is_what_vllm_counted(engine: Engine, base: Any) -> None:
    # Long enough that some of it comes from the prefix cache, whose blocks are long on a CPU.
    problems = [problem(f"{question} Think of this: {'one and two and ' * 60}") for question in QUESTIONS]
    before = counters(base)
    found = run(engine, [(one, beam(4, 2, lookahead=1, rounds=3)) for one in problems])
    after = counters(base)
    usage = reduce(add, (usage for _, usage in found.values()))
    counted = {name: value - before[name] for name, value in after.items() if name in before}
    assert usage.decode_tokens == counted["generation_tokens"]
    assert usage.reused_tokens == counted["prompt_tokens_cached"] > 0
    assert usage.prefill_tokens == counted["prompt_tokens"] - counted["prompt_tokens_cached"]
    assert 0 < (usage.lookahead_tokens or 0) < (usage.decode_tokens or 0)


def test_a_problem_alone_and_among_others(engine: Engine) -> None:
    asked = [problem(question) for question in QUESTIONS]
    together = run(engine, [(one, best_of_n(4, scored=False)) for one in asked])
    alone = run(engine, [(asked[1], best_of_n(4, scored=False))])
    texts = [[prefix.text for prefix in found[asked[1].uid][0].finals] for found in (together, alone)]
    assert texts[0] == texts[1]


def test_many_long_prompts_at_once(engine: Engine) -> None:
    many = [problem(f"{index} {'and some more ' * 100}", max_tokens=4) for index in range(8)]
    found = run(engine, [(one, best_of_n(4, scored=False)) for one in many])
    assert [len(outcome.finals) for outcome, _ in found.values()] == [4] * len(many)


def test_what_is_refused(engine: Engine, base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TtsEvalError, match=r"tokens and its solution may have 1020, but the base takes 1024"):
        engine.check(problem(QUESTIONS[0], max_tokens=1020))
    with pytest.raises(TtsEvalError, match="it takes at least one"):
        engine.submit(1, problem(QUESTIONS[0]), Sample((Prefix(),), 1, "end", prompts=("word " * 2000,)))
    monkeypatch.setattr(base.model.llm_engine.vllm_config.scheduler_config, "enable_chunked_prefill", True)
    with pytest.raises(TtsEvalError, match="give enable_chunked_prefill=False"):
        build_engine("vllm", base, DECODING, None)
    monkeypatch.setattr(base, "data_parallel_size", 2)
    with pytest.raises(TtsEvalError, match=r"data_parallel_size=2: .* use tensor_parallel_size= instead"):
        build_engine("vllm", base, DECODING, None)
    monkeypatch.setattr(base.model.llm_engine.vllm_config.cache_config, "enable_prefix_caching", False)
    with pytest.raises(TtsEvalError, match="give enable_prefix_caching=True"):
        engine.submit(1, problem(QUESTIONS[0]), Sample((Prefix(),), 1, "step"))
