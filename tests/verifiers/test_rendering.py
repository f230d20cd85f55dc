"""Laws of every family's rendering, whatever the text: no model needed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import PROBLEM, tokenizer

from tts_eval.types import Problem, TtsEvalError
from tts_eval.verifiers.formats import FORMATS, Format, own_format
from tts_eval.verifiers.generative import VERDICT
from tts_eval.verifiers.rendering import bare, render_steps


PROCESS = [family for family in FORMATS.values() if family.kind == "process"] + [own_format("prm", "\n\n")]
TOKENIZER = tokenizer()

# Text of few letters that matter: white space at the ends, full stops that merge with it, signs, other alphabets.
TEXTS = st.text(alphabet="a1+-. \nжé", max_size=8).map(lambda text: text.replace("\n\n", "\n"))
STEPS = st.lists(TEXTS, min_size=1, max_size=4).map(lambda texts: tuple(f"{text}\n\n" for text in texts))


@pytest.mark.parametrize("family", PROCESS, ids=lambda family: family.name)
@settings(max_examples=60, deadline=None)
@given(steps=STEPS, closed=st.booleans())
def test_every_step_is_read_once_and_in_order(family, steps, closed) -> None:  # type: ignore[no-untyped-def]
    if not closed:
        steps = (*steps[:-1], steps[-1].removesuffix("\n\n"))
    rendered = family.render(TOKENIZER, PROBLEM, steps)
    assert len(rendered.positions) == len(steps)
    assert rendered.start <= rendered.positions[0] < len(rendered.ids)
    # Implicit rewards: an empty step may end in the token that holds the delimiter before it.
    assert list(rendered.positions) == sorted(set(rendered.positions))


@pytest.mark.parametrize("family", [f for f in PROCESS if f.name != "implicit"], ids=lambda family: family.name)
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_a_partial_solution_is_rendered_as_the_beginning_of_the_whole(family, steps) -> None:  # type: ignore[no-untyped-def]
    """The toy's chat template strips what it is given, the trailing blank line of a partial answer included."""
    whole = family.render(TOKENIZER, PROBLEM, steps)
    for count in range(1, len(steps)):
        part = family.render(TOKENIZER, PROBLEM, steps[:count])
        end = part.positions[-1] + 1
        assert part.positions == whole.positions[:count]
        assert part.ids[:end] == whole.ids[:end]


def test_own_rendering_by_hand() -> None:
    rendered = render_steps(TOKENIZER, "ab", ["c\n", "d"], "\n")
    assert TOKENIZER.convert_ids_to_tokens(list(rendered.ids)) == ["<s>", "a", "b", "c", "Ċ", "d", "Ċ"]
    assert rendered.positions == (4, 6)
    assert render_steps(TOKENIZER, "ab", [], "\n").positions == ()


def test_a_start_token_that_the_prompt_has_is_not_repeated() -> None:
    assert render_steps(TOKENIZER, "<s>ab", ["c\n"], "\n") == render_steps(TOKENIZER, "ab", ["c\n"], "\n")


def chat(*turns: tuple[str, object]) -> Problem:
    """A problem as lm-eval renders it for a chat endpoint: a tuple of the messages' JSON."""
    return Problem("p", (json.dumps([{"role": role, "content": text} for role, text in turns]),), (), 100)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", [*FORMATS.values(), VERDICT], ids=lambda family: family.name)
def test_the_question_of_a_chat_is_the_users_last_message(family: Format) -> None:
    asked = chat(("user", "1 + 1?"), ("assistant", "2"), ("user", str(PROBLEM.question)), ("assistant", "Let me"))
    assert family.render(TOKENIZER, asked, ("a\n\n", "b")) == family.render(TOKENIZER, PROBLEM, ("a\n\n", "b"))
    for nothing in (chat(("system", "Think.")), chat(("user", [{"type": "image"}]))):
        with pytest.raises(TtsEvalError, match=r"problem p: the verifier reads the question as text, .* use a base"):
            family.render(TOKENIZER, nothing, ("a\n\n", "b"))


def test_messages_are_no_text() -> None:
    with pytest.raises(TtsEvalError, match=r"reads the prompt as text, .* use a base that takes text"):
        render_steps(TOKENIZER, ('[{"role": "user"}]',), ["c\n"], "\n")  # type: ignore[arg-type]


def test_steps_closed_by_math_shepherds_tag_lose_it() -> None:
    assert [bare(step) for step in ("Step 1: x ки\n", " y\n\n", "ки")] == ["Step 1: x", "y", ""]
    assert bare("Остались ошибки\n") == "Остались ошибки"
    math_shepherd = FORMATS["math-shepherd"].render
    assert math_shepherd(TOKENIZER, PROBLEM, ("Step 1: x ки\n", "y")) == math_shepherd(TOKENIZER, PROBLEM, ("x", "y\n"))
