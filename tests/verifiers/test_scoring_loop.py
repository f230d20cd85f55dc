"""The scoring loop: alone as in any batch, step by step as all at once, and refusals."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import (
    CONTEXT,
    OTHER,
    PROBLEM,
    SIZE,
    STEPS,
    llama,
    prefix,
    qwen,
    saved,
    saved_with_head,
    vocabulary,
)
from transformers import (
    BertConfig,
    BertForTokenClassification,
    BloomConfig,
    BloomForTokenClassification,
    GPT2Config,
    GPT2ForTokenClassification,
    LlamaForCausalLM,
    LlamaForTokenClassification,
    MistralConfig,
    MistralForTokenClassification,
    Qwen2Model,
)

from tts_eval.types import Prefix, Problem, TtsEvalError, Usage
from tts_eval.verifiers import load_verifier


OWN = {"kind": "prm", "step_delimiter": "\n\n"}
SMALL = {"n_embd": 24, "n_head": 4, "n_layer": 2, "initializer_range": 0.3}

MODELS: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaForTokenClassification, llama(num_labels=1, tts_eval=OWN)),
    # A window of less tokens than a step.
    "window": (
        MistralForTokenClassification,
        MistralConfig(vocab_size=vocabulary(), sliding_window=8, num_labels=1, tts_eval=OWN, **SIZE),
    ),
    "learned positions": (
        GPT2ForTokenClassification,
        GPT2Config(vocab_size=vocabulary(), n_positions=CONTEXT, num_labels=1, tts_eval=OWN, **SMALL),
    ),
    "bias by distance": (
        BloomForTokenClassification,
        BloomConfig(
            vocab_size=vocabulary(),
            hidden_size=24,
            n_head=4,
            n_layer=2,
            initializer_range=0.3,
            num_labels=1,
            tts_eval=OWN,
        ),
    ),
    "looks ahead": (
        BertForTokenClassification,
        BertConfig(
            vocab_size=vocabulary(),
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            initializer_range=0.3,
            num_labels=1,
            tts_eval=OWN,
        ),
    ),
}


def solutions(count: int, seed: int = 0) -> list[tuple[Problem, Prefix]]:
    """Solutions of several lengths to two problems, some of which share their first steps."""
    generator = random.Random(seed)
    texts = [f"{a} + {b} = {a + b}.\n\n" for a in (1, 23) for b in (4, 5678)]
    return [
        (generator.choice([PROBLEM, OTHER]), prefix(*generator.choices(texts, k=generator.randint(1, 5))))
        for _ in range(count)
    ]


def flat(replies: Any) -> list[float]:
    return [score for scores, _ in replies for score in scores]


def alone(folder: Path, items: list[tuple[Problem, Prefix]], **options: Any) -> list[float]:
    """Each item by a verifier that has read nothing yet."""
    verifier = load_verifier(str(folder), cache_bytes=0, **options)
    return [score for item in items for score in verifier.score([item])[0][0]]


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_the_same_alone_in_any_batch_and_piece_by_piece(tmp_path: Path, name: str) -> None:
    saved(tmp_path, *MODELS[name])
    items = solutions(12)
    expected = alone(tmp_path, items)
    assert max(expected) - min(expected) > 0.1
    for batch_tokens in (300, 10_000):
        verifier = load_verifier(str(tmp_path), batch_tokens=batch_tokens)
        assert flat(verifier.score(items)) == pytest.approx(expected, abs=1e-5)
    verifier = load_verifier(str(tmp_path))
    for depth in range(1, 6):
        growing = [(problem, prefix(*whole.steps[:depth])) for problem, whole in items]
        found = flat(verifier.score(growing))
        if name == "looks ahead":  # to such a model a prefix is another text
            expected = alone(tmp_path, growing)
        else:
            expected = [score for scores, _ in load_verifier(str(tmp_path)).score(items) for score in scores[:depth]]
        assert found == pytest.approx(expected, abs=1e-4)
    reused = sum(usage.reused_tokens or 0 for _, usage in verifier.score([(PROBLEM, prefix(*items[0][1].steps, "!"))]))
    assert (reused > 0) == (name != "looks ahead")


def test_implicit_rewards_are_the_same_piece_by_piece(tmp_path: Path) -> None:
    saved(tmp_path / "policy", LlamaForCausalLM, llama(), seed=1)
    saved(tmp_path / "reference", LlamaForCausalLM, llama(), seed=2)
    options = {"format": "implicit", "reference": str(tmp_path / "reference")}
    items = solutions(6)
    verifier = load_verifier(str(tmp_path / "policy"), **options)
    for depth in range(1, 6):
        growing = [(problem, prefix(*whole.steps[:depth])) for problem, whole in items]
        assert flat(verifier.score(growing)) == pytest.approx(alone(tmp_path / "policy", growing, **options), abs=1e-6)
    whole = (PROBLEM, prefix(*STEPS[:2]))
    verifier.score([whole])
    usage = verifier.score([(PROBLEM, prefix(*STEPS))])[0][1]
    # What is new, and once more the token before it, whose logits are those of the first new one.
    assert usage.verifier_tokens == len(f"\n\nStep 3: {STEPS[2]}") - 2 + 2


def test_neither_model_of_implicit_rewards_reads_beyond_its_context(tmp_path: Path) -> None:
    saved(tmp_path / "policy", LlamaForCausalLM, llama())
    saved(tmp_path / "reference", LlamaForCausalLM, llama(max_position_embeddings=90))
    verifier = load_verifier(str(tmp_path / "policy"), "implicit", reference=str(tmp_path / "reference"))
    with pytest.raises(TtsEvalError, match="the verifier's context is 90 and nothing is cut"):
        verifier.score([(PROBLEM, prefix(*STEPS))])


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    saved(folder, *MODELS["llama"])
    return folder


def lengths(*steps: str, problem: Problem = PROBLEM) -> int:
    """Tokens of prompt and steps: every byte is one, apart from `.` with a blank line and the start token."""
    text = problem.prompt + "".join(step if step.endswith("\n\n") else step + "\n\n" for step in steps)
    return 1 + len(text) - 2 * text.count(".\n\n") - text.replace(".\n\n", "").count("\n\n")


def test_only_what_is_new_is_read(llama_folder: Path) -> None:
    verifier = load_verifier(str(llama_folder))

    def read(*items: tuple[Problem, Prefix]) -> list[tuple[int | None, int | None]]:
        return [(usage.verifier_tokens, usage.reused_tokens) for _, usage in verifier.score(items)]

    prompt, first, both = lengths(), lengths(STEPS[0]), lengths(STEPS[0], STEPS[1])
    # The prompt is read once for all, what is said twice once.
    other = lengths("9\n\n")
    assert read((PROBLEM, prefix(STEPS[0])), (PROBLEM, prefix("9\n\n")), (PROBLEM, prefix(STEPS[0]))) == [
        (first, 0),
        (other - prompt, prompt),
        (0, first),
    ]
    assert read((PROBLEM, prefix(STEPS[0], STEPS[1]))) == [(both - first, first)]
    assert read((PROBLEM, prefix(STEPS[0], STEPS[1]))) == [(0, both)]
    # A sibling that shares half a step, and another problem whose prompt begins alike.
    assert read((PROBLEM, prefix("3 * 4 = 13\n\n"))) == [(2, lengths("3 * 4 = 13\n\n") - 2)]
    assert read((OTHER, prefix("6\n\n"))) == [(lengths("6\n\n", problem=OTHER) - 12, 12)]


def test_forgetting_costs_only_time(llama_folder: Path) -> None:
    items = solutions(40)
    roomy = load_verifier(str(llama_folder))
    tight = load_verifier(str(llama_folder), cache_bytes=60_000)
    spent = dict.fromkeys(("roomy", "tight"), Usage())
    for depth in (1, 2, 3, 4, 5):
        growing = [(problem, prefix(*whole.steps[:depth])) for problem, whole in items]
        expected, found = roomy.score(growing), tight.score(growing)
        assert flat(found) == pytest.approx(flat(expected), abs=1e-5)
        for name, replies in (("roomy", expected), ("tight", found)):
            spent[name] += sum((usage for _, usage in replies), Usage())
    assert (spent["tight"].verifier_tokens or 0) > 1.5 * (spent["roomy"].verifier_tokens or 0)
    total = [(usage.verifier_tokens or 0) + (usage.reused_tokens or 0) for usage in spent.values()]
    assert total[0] == total[1]
    assert spent["roomy"].seconds is not None and spent["roomy"].seconds > 0


def test_a_probability_of_exactly_zero_is_a_score(tmp_path: Path) -> None:
    torch.manual_seed(0)
    size = SIZE["hidden_size"]
    head = torch.nn.Sequential(torch.nn.Linear(size, size), torch.nn.ReLU(), torch.nn.Linear(size, 2))
    with torch.no_grad():
        head[2].weight *= 1e4
    saved_with_head(tmp_path, Qwen2Model(qwen()).eval(), head, "score", starts=False)
    items = solutions(20)
    replies = load_verifier(str(tmp_path), "qwen-prm").score(items)
    assert 0.0 in flat(replies) and 1.0 in flat(replies)
    assert [len(scores) for scores, _ in replies] == [len(solution.steps) for _, solution in items]
    single = [load_verifier(str(tmp_path), "qwen-prm").score([item])[0][0] for item in items[:3]]
    assert [scores for scores, _ in replies[:3]] == single


@pytest.mark.parametrize("family", ["math-shepherd", "rlhflow-deepseek"])
def test_a_chat_template_or_a_last_line_does_not_move_the_steps(tmp_path: Path, family: str) -> None:
    """The toy's template strips what it is given; a partial solution must have its scores within the whole."""
    saved(tmp_path, LlamaForCausalLM, llama())
    whole = load_verifier(str(tmp_path), family).score([(PROBLEM, prefix(*STEPS))])[0][0]
    for count in (1, 2):
        part = load_verifier(str(tmp_path), family).score([(PROBLEM, prefix(*STEPS[:count]))])[0][0]
        assert part == pytest.approx(whole[:count], abs=1e-5)


def test_nothing_is_cut_to_fit(llama_folder: Path) -> None:
    verifier = load_verifier(str(llama_folder))
    fits = prefix("x" * (CONTEXT - lengths() - 1))
    assert len(verifier.score([(PROBLEM, fits)])[0][0]) == 1
    with pytest.raises(TtsEvalError, match=f"problem p: .* {CONTEXT + 1} tokens, .* context is {CONTEXT}"):
        verifier.score([(PROBLEM, prefix("x" * (CONTEXT - lengths())))])


def test_a_step_mark_in_the_text_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, LlamaForCausalLM, llama())
    verifier = load_verifier(str(tmp_path), "math-shepherd")
    with pytest.raises(TtsEvalError, match=r"problem p: format math-shepherd finds the ends of 2 steps .* with 1"):
        verifier.score([(PROBLEM, prefix("1 ки 2"))])


def test_scores_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = saved(tmp_path, *MODELS["llama"])
    with torch.no_grad():
        model.score.bias.fill_(float("nan"))
    model.save_pretrained(tmp_path)
    with pytest.raises(TtsEvalError, match=r"problem p are no numbers: .* \(try verifier_dtype=float32\)"):
        load_verifier(str(tmp_path)).score([(PROBLEM, prefix(*STEPS))])


def test_a_bare_prompt_has_no_steps_to_score(llama_folder: Path, tmp_path: Path) -> None:
    replies = load_verifier(str(llama_folder)).score([(PROBLEM, Prefix()), (PROBLEM, prefix("4\n\n"))])
    assert replies[0][0] == () and replies[0][1].verifier_tokens == 0
    assert len(replies[1][0]) == 1
    saved(tmp_path, LlamaForTokenClassification, llama(num_labels=1, tts_eval={**OWN, "kind": "orm"}))
    assert len(load_verifier(str(tmp_path)).score([(PROBLEM, Prefix())])[0][0]) == 1


def test_out_of_memory_halves_what_is_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, LlamaForTokenClassification, llama(num_labels=1, tts_eval=OWN))
    problems = [Problem(f"p{index}", f"Q: What is {index} + 1?\nA: ", (), 100) for index in range(20)]
    items = [(problem, prefix(*STEPS)) for problem in problems]
    expected = [scores for scores, _ in load_verifier(str(tmp_path)).score(items)]
    verifier = load_verifier(str(tmp_path))
    model = verifier._reader._model  # type: ignore[attr-defined]
    forward, most, refused = model.forward, 500, 0

    def short_of_memory(*, input_ids: torch.Tensor, **rest: Any) -> Any:
        nonlocal refused
        if input_ids.numel() > most:
            refused += 1
            raise torch.OutOfMemoryError("no memory for that")
        return forward(input_ids=input_ids, **rest)

    monkeypatch.setattr(model, "forward", short_of_memory)
    for scores, others in zip([scores for scores, _ in verifier.score(items)], expected, strict=True):
        assert scores == pytest.approx(others, abs=1e-5)
    assert refused > 1
    most = 0
    verifier.forget()
    with pytest.raises(TtsEvalError, match=r"runs out of memory on a single solution of \d+ tokens"):
        verifier.score(items)
