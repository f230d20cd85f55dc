"""Generative verifiers: logits against one forward pass a step, sampled verdicts against a scripted engine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from toys import CHATML, CONTEXT, OTHER, PROBLEM, STEPS, llama, prefix, saved, tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tts_eval.engines.hf import HFEngine
from tts_eval.engines.text import TextEngine
from tts_eval.types import Decoding, Prefix, Problem, Sample, TtsEvalError, Usage
from tts_eval.verifiers import load_verifier
from tts_eval.verifiers.generative import SampledGenerativeVerifier, plain_prompt, verdict_of, verdict_question


ROOM = llama(max_position_embeddings=4 * CONTEXT)

SO_FAR = """\
Here is a math problem and a solution to it, which may not be finished yet.

Problem:
What is 2 + 3 * 4?

Solution:
3 * 4 = 12

2 + 12 = 14.

Is the solution correct so far? Answer Yes or No."""


def test_question() -> None:
    assert verdict_question(PROBLEM, STEPS[:2]) == SO_FAR
    # Steps look the same whatever delimiter the policy has, and braces in them are text.
    assert verdict_question(PROBLEM, ["3 * 4 = 12\n", " 2 + 12 = 14. "]) == SO_FAR
    assert "\\boxed{14}" in verdict_question(PROBLEM, STEPS)


def by_hand(model: LlamaForCausalLM, tok: PreTrainedTokenizerFast, prompt: str, *, special: bool) -> float:
    """P(yes) / (P(yes) + P(no)): to a tokenizer of bytes, yes is any of Y and y."""
    ids = tok.encode(prompt, add_special_tokens=special)
    with torch.no_grad():
        p = model(torch.tensor([ids])).logits[0, -1].softmax(-1)
    yes, no = (sum(float(p[tok.convert_tokens_to_ids(letter)]) for letter in letters) for letters in ("Yy", "Nn"))
    return yes / (yes + no)


@pytest.mark.parametrize("chat", [True, False])
def test_logits(tmp_path: Path, chat: bool) -> None:
    model, tok = saved(tmp_path, LlamaForCausalLM, ROOM, chat=chat), tokenizer(chat=chat)
    expected = []
    for count in (1, 2, 3):
        question = verdict_question(PROBLEM, STEPS[:count])
        turn = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        prompt = turn if chat else f"{question}\nAnswer:"
        expected.append(by_hand(model, tok, prompt, special=not chat))
    assert max(expected) - min(expected) > 1e-3  # otherwise this test could not fail
    verifier = load_verifier(str(tmp_path), "generative")
    assert (verifier.kind, verifier.aggregation) == ("process", "last")
    items = [(OTHER, prefix("7 - 1 = 6")), (PROBLEM, prefix(*STEPS)), (OTHER, prefix()), (PROBLEM, prefix(STEPS[0]))]
    scores = [found for found, _ in verifier.score(items)]
    assert scores[1] == pytest.approx(expected, abs=1e-5)
    assert scores[2] == () and scores[3] == pytest.approx(expected[:1], abs=1e-5)
    # Alone, and again from what was kept.
    assert verifier.score(items[1:2])[0][0] == pytest.approx(expected, abs=1e-5)
    fresh = load_verifier(str(tmp_path), "generative", cache_bytes=0)
    assert fresh.score(items[1:2])[0][0] == pytest.approx(expected, abs=1e-5)
    assert verifier.score([]) == []


def test_a_step_is_read_once(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForCausalLM, ROOM)
    tok = tokenizer()
    verifier = load_verifier(str(tmp_path), "generative")
    ((_, first),) = verifier.score([(PROBLEM, prefix(*STEPS[:1]))])
    ((_, cost),) = verifier.score([(PROBLEM, prefix(*STEPS))])
    assert first.verifier_tokens is not None and cost.verifier_tokens is not None
    asking = "\n\nIs the solution correct so far? Answer Yes or No.<|im_end|>\n<|im_start|>assistant\n"
    question = len(tok.encode(asking))
    steps = len(tok.encode("".join(STEPS[1:])))
    assert cost.verifier_tokens <= steps + 2 * question < first.verifier_tokens


def test_noise(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForCausalLM, ROOM)
    items = [(PROBLEM, prefix(*STEPS))]
    ((clean, _),) = load_verifier(str(tmp_path), "generative").score(items)
    ((turned, _),) = load_verifier(str(tmp_path), "generative", noise=1.0).score(items)
    assert turned == pytest.approx([1 - score for score in clean])


def test_too_long_for_the_context(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForCausalLM, llama())
    verifier = load_verifier(str(tmp_path), "generative")
    with pytest.raises(TtsEvalError, match=r"problem p: question and solution have .* context is 512"):
        verifier.score([(PROBLEM, prefix("1 + 1 = 2" * 60))])


def test_yes_and_no_must_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, LlamaForCausalLM, ROOM)
    encode = PreTrainedTokenizerFast.encode
    monkeypatch.setattr(PreTrainedTokenizerFast, "encode", lambda self, text, **how: encode(self, f"?{text}", **how))
    with pytest.raises(TtsEvalError, match=r"begins Yes and No with the same token.* is not of format generative"):
        load_verifier(str(tmp_path), "generative")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(TtsEvalError, match="nowhere"):
        load_verifier(str(tmp_path / "nowhere.gguf"), "generative")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Yes", True),
        (" no.", False),
        ("**Yes**, there is no error.", True),
        ("3 * 4 is 12, so there is no error yet. The answer: Yes", True),
        ("Step 2 is wrong, yes it is. No", False),
        ("I know nothing of yesterday.", None),
        ("", None),
    ],
)
def test_verdict(text: str, verdict: bool | None) -> None:
    assert verdict_of(text) is verdict


class Scripted:
    """Answers every question by what its prompt holds, the last question first."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Problem, Sample]] = []
        self.prompts: list[str] = []

    tokens_written = None

    def release(self, ticket: int) -> None: ...

    def check(self, problem: Problem) -> None:
        if "too long" in problem.prompt:
            raise TtsEvalError("the prompt is too long")

    def submit(self, ticket: int, problem: Problem, request: Sample) -> None:
        self.asked.append((ticket, problem, request))
        self.prompts.append(problem.prompt)

    def poll(self) -> Iterable[tuple[int, tuple[Prefix, ...], Usage]]:
        ticket, problem, request = self.asked.pop()
        answers = ("Yes", "No", "Hm", "Yes") if "14" in problem.prompt else ("No",) * 4
        assert request.n == 4 and request.until == "end" and request.prefixes == (Prefix(),)
        yield ticket, tuple(Prefix(steps=(text,)) for text in answers), Usage(0, 100, 8, reused_tokens=300, seconds=1.0)


def test_sampled() -> None:
    verifier = SampledGenerativeVerifier(Scripted(), n=4)
    assert (verifier.kind, verifier.aggregation) == ("process", "last")
    (first, cost), (second, shared), (third, nothing) = verifier.score(
        [(PROBLEM, prefix(*STEPS[:2])), (PROBLEM, prefix(*STEPS)), (PROBLEM, prefix())]
    )
    assert first == (0.0, (1 + 0 + 0.5 + 1) / 4)
    assert second == (0.0, 0.625, 0.625)
    # Two prefixes are asked about once, the third for the second item alone.
    assert (cost.verifier_tokens, cost.reused_tokens, cost.seconds) == (216, 600, 2.0)
    assert (shared.verifier_tokens, shared.decode_tokens) == (108, 0)
    assert (third, nothing) == ((), Usage())


def test_sampled_asks_through_the_chat_template() -> None:
    engine = Scripted()
    verifier = SampledGenerativeVerifier(engine, chat=lambda question: f"<user>{question}<assistant>", n=4)
    verifier.score([(PROBLEM, prefix(*STEPS[:2]))])
    assert engine.prompts[1] == f"<user>{SO_FAR}<assistant>"
    assert plain_prompt("?") == "?\nAnswer:"


def test_sampled_over_a_transformers_model() -> None:
    torch.manual_seed(0)
    model, tok = LlamaForCausalLM(ROOM).eval(), tokenizer()
    engine = HFEngine(
        model,
        encode=tok.encode,
        decode=lambda ids: tok.decode(ids, skip_special_tokens=True),
        end_tokens=[],
        special_tokens={},
        context=4 * CONTEXT,
        decoding=Decoding(temperature=1.0),
    )
    # It babbles; of its verdicts, mostly none, only what the engine makes of the requests is of interest.
    verifier = SampledGenerativeVerifier(engine, n=4, max_tokens=3)
    ((alone, cost),) = verifier.score([(PROBLEM, prefix(*STEPS[:2]))])
    (_, (again, _)) = verifier.score([(OTHER, prefix("7 - 1 = 6")), (PROBLEM, prefix(*STEPS[:2]))])
    assert alone == again and len(alone) == 2
    prompts = [tok.encode(plain_prompt(verdict_question(PROBLEM, STEPS[:count]))) for count in (1, 2)]
    assert cost.verifier_tokens == sum(map(len, prompts)) + 2 * 4 * 3
    assert (cost.prefill_tokens, cost.decode_tokens, cost.generations) == (0, 0, 0)


def test_sampled_over_a_text_engine() -> None:
    """All verdicts are equal, which such an engine would take for a broken server."""
    engine = TextEngine(
        lambda pairs: ["Yes"] * len(pairs), decoding=Decoding(), count_tokens=None, takes_seed=True, constant=True
    )
    ((scores, cost),) = SampledGenerativeVerifier(engine, n=4).score([(PROBLEM, prefix(*STEPS))])
    assert scores == (1.0, 1.0, 1.0) and cost.verifier_tokens is None


def test_sampled_refuses_before_it_pays() -> None:
    with pytest.raises(TtsEvalError, match="too long"):
        SampledGenerativeVerifier(Scripted(), n=4).score([(PROBLEM, prefix("too long"))])


def test_templates_of_reasoning_models_are_told_not_to(tmp_path: Path) -> None:
    model, tok = saved(tmp_path, LlamaForCausalLM, ROOM), tokenizer()
    think = "{% if add_generation_prompt and enable_thinking is not defined %}<think>{% endif %}"
    tok.chat_template = CHATML + think
    tok.save_pretrained(tmp_path)
    ((scores, _),) = load_verifier(str(tmp_path), "generative").score([(PROBLEM, prefix(*STEPS[:2]))])
    prompt = f"<|im_start|>user\n{SO_FAR}<|im_end|>\n<|im_start|>assistant\n"
    assert scores[1] == pytest.approx(by_hand(model, tok, prompt, special=False), abs=1e-5)
