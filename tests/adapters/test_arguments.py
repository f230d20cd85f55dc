"""Which argument is whose, and what each may be."""

from __future__ import annotations

import pytest
from lm_eval.models.dummy import DummyLM
from lm_eval.utils import simple_parse_args_string

from tts_eval.model_adapters.arguments import (
    REQUIRED,
    Argument,
    number,
    one_of,
    parameters_of,
    split_arguments,
    text,
    whole,
)
from tts_eval.model_adapters.base import SearchLM
from tts_eval.types import TtsEvalError


OURS = {
    "budget": Argument(whole(1), REQUIRED),
    "temperature": Argument(number(0), 0.8),
    "seed": Argument(whole(0), 0),
    "step_delimiter": Argument(text, "\n\n"),
    "selection": Argument(one_of("majority", "best_of_n"), "majority"),
}


def split(arguments: str, base: set[str] | None = None) -> tuple[dict, dict]:
    return split_arguments(simple_parse_args_string(arguments), OURS, base or set())


def test_ours_are_cast_and_the_rest_is_untouched() -> None:
    ours, rest = split(r"budget=1e2,temperature=1,step_delimiter=\n,pretrained=a/b,dtype=float16,revision=007")
    assert ours == {"budget": 100, "temperature": 1.0, "seed": 0, "step_delimiter": "\n", "selection": "majority"}
    assert isinstance(ours["budget"], int) and isinstance(ours["temperature"], float)
    assert rest == {"pretrained": "a/b", "dtype": "float16", "revision": 7}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("budget=0", "budget=0 should be a whole number of at least 1"),
        ("budget=many", "budget=many should be a whole number"),
        ("budget=2.5", "budget=2.5 should be a whole number"),
        ("budget=True", "budget=True should be a whole number"),
        ("budget=nan", "budget=nan should be a whole number"),
        ("budget=-1", "budget=-1 should be a whole number"),
        ("temperature=0.5", "argument budget= is missing"),
        ("budget=4,temperature=-0.1", "temperature=-0.1 should be a number of at least 0"),
        ("budget=4,temperature=inf", "temperature=inf should be a number"),
        ("budget=4,selection=vote", "selection=vote should be one of majority, best_of_n"),
        ("budget=4,step_delimiter=", "step_delimiter= should be a text that is not empty"),
        ("budgte=4", "unknown argument budgte=.*did you mean budget="),
        ("budget=4,temprature=1", "did you mean temperature="),
    ],
)
def test_what_is_wrong_is_named(arguments: str, message: str) -> None:
    with pytest.raises(TtsEvalError, match=message):
        split(arguments)


def test_an_argument_of_the_base_stays_the_bases_and_ours_takes_the_prefix() -> None:
    ours, rest = split("budget=4,seed=5,tts_seed=6", base={"seed"})
    assert ours["seed"] == 6 and rest == {"seed": 5}
    assert split("budget=4,tts_seed=6")[0]["seed"] == 6


def test_a_near_miss_that_the_base_declares_is_the_bases() -> None:
    assert split("budget=4,seeds=5", base={"seeds"})[1] == {"seeds": 5}


@pytest.mark.parametrize("name", ["top_p", "top_k", "min_p", "repetition_penalty"])
def test_what_would_shape_samples_is_refused_unless_the_base_declares_it(name: str) -> None:
    with pytest.raises(TtsEvalError, match=f"{name}= can't be set, since only the temperature shapes what is drawn"):
        split(f"budget=4,{name}=0.9")
    assert split(f"budget=4,{name}=0.9", base={name})[1] == {name: 0.9}


def test_parameters_are_those_of_the_whole_family() -> None:
    pytest.importorskip("tenacity", reason="lm-eval[api] is not installed")
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    assert {"base_url", "tokenizer_backend", "seed", "num_concurrent"} <= parameters_of(LocalCompletionsAPI)
    assert parameters_of(DummyLM) == {"write_out"}


def test_no_argument_of_ours_clashes_with_the_hf_base() -> None:
    from lm_eval.models.huggingface import HFLM

    assert not set(SearchLM.ARGUMENTS) & parameters_of(HFLM)
