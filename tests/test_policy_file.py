"""Policy files: what they say, what they refuse, and that they are read as they were written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.policy import Difficulty, Policy, PolicyChoice, read_policy, write_policy
from tts_eval.types import TtsEvalError


FILE = """
schema: 1
task: tts_micromath
difficulty: {kind: predicted, aggregation: last, thresholds: [0.83, 0.52, 0.27, 0]}
strategies:
  best-of-n: {name: best-of-n}
  beam (width=4): {name: beam, width: 4, step_delimiter: "\\n"}
choices:
  - {budget: 4, strategies: [best-of-n, best-of-n, beam (width=4), best-of-n, best-of-n]}
  - {budget: 16, strategies: [best-of-n, best-of-n, best-of-n, best-of-n, beam (width=4)]}
"""
BEST_OF_N, BEAM = {"name": "best-of-n"}, {"name": "beam", "width": 4, "step_delimiter": "\n"}


def read(path: Path, text: str = FILE) -> Policy:
    path.write_text(text, encoding="utf-8")
    return read_policy(path)


def changed(change: dict[str, Any]) -> str:
    return yaml.safe_dump({**yaml.safe_load(FILE), **change})


def test_a_file_as_people_write_it(tmp_path: Path) -> None:
    policy = read(tmp_path / "policy.yaml")
    assert policy == Policy(
        task="tts_micromath",
        difficulty=Difficulty("predicted", "last", (0.83, 0.52, 0.27, 0.0)),
        strategies={"best-of-n": BEST_OF_N, "beam (width=4)": BEAM},
        choices=(
            PolicyChoice(4, ("best-of-n", "best-of-n", "beam (width=4)", "best-of-n", "best-of-n")),
            PolicyChoice(16, ("best-of-n", "best-of-n", "best-of-n", "best-of-n", "beam (width=4)")),
        ),
        made_from={},
    )
    assert policy.bins == 5


@pytest.mark.parametrize(
    ("score", "number"), [(1.0, 1), (0.83, 1), (0.82, 2), (0.52, 2), (0.27, 3), (0.26, 4), (0.0, 4), (-2.0, 5)]
)
def test_a_threshold_belongs_to_the_easier_bin(score: float, number: int, tmp_path: Path) -> None:
    assert read(tmp_path / "policy.yaml").bin_of(score) == number


@pytest.mark.parametrize(
    ("number", "budget", "strategy"),
    [(3, 4, BEAM), (3, 15, BEAM), (3, 16, BEST_OF_N), (5, 16, BEAM), (5, 1000, BEAM), (3, 1, BEAM), (5, 1, BEST_OF_N)],
)
def test_an_entry_serves_budgets_up_to_the_next_and_the_first_those_below_it_too(
    number: int, budget: int, strategy: dict[str, Any], tmp_path: Path
) -> None:
    assert read(tmp_path / "policy.yaml").strategy(number, budget) == strategy


finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(
    thresholds=st.lists(finite, max_size=4),
    names=st.lists(texts, min_size=1, max_size=4, unique=True),
    delimiter=texts,
    budgets=st.lists(st.integers(1, 4096), min_size=1, max_size=4, unique=True),
    data=st.data(),
)
def test_what_is_written_is_read(
    thresholds: list[float],
    names: list[str],
    delimiter: str,
    budgets: list[int],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    bins = st.lists(st.sampled_from(names), min_size=len(thresholds) + 1, max_size=len(thresholds) + 1)
    policy = Policy(
        task="t",
        difficulty=Difficulty("predicted", "min", tuple(sorted(thresholds, reverse=True))),
        strategies={name: {"name": "beam", "step_delimiter": delimiter, "answer_fallback": None} for name in names},
        choices=tuple(PolicyChoice(budget, tuple(data.draw(bins))) for budget in sorted(budgets)),
        made_from={"runs": ["a", "b"], "problems": 500},
    )
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    write_policy(policy, path)
    assert read_policy(path) == policy


@pytest.mark.parametrize("text", ["\x85", "a\u2028b", "\u2029", "\r", "\ufeff", ""])
def test_line_breaks_of_every_kind_survive(text: str, tmp_path: Path) -> None:
    policy = read(tmp_path / "policy.yaml")
    with_it = {name: {**of, "step_delimiter": text} for name, of in policy.strategies.items()}
    policy = replace(policy, strategies=with_it)
    write_policy(policy, tmp_path / "policy.yaml")
    assert read_policy(tmp_path / "policy.yaml") == policy


def test_a_written_file_shows_each_choice_and_each_delimiter_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    write_policy(read(path), path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "  strategies: [best-of-n, best-of-n, best-of-n, best-of-n, beam (width=4)]" in lines
    assert '    step_delimiter: "\\n"' in lines


def test_bins_that_are_not_predicted_need_no_thresholds(tmp_path: Path) -> None:
    oracle = {"difficulty": {"kind": "oracle", "aggregation": "last", "thresholds": []}}
    assert read(tmp_path / "policy.yaml", changed(oracle)).bins == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, r"must have schema: 1"),
        ({"task": None}, r"task must be a string, not null"),
        ({"difficulty": {"kind": "predicted", "thresholds": []}}, r"difficulty.aggregation is missing"),
        (
            {"difficulty": {"kind": "predicted", "aggregation": "last", "thresholds": [0.1, 0.2, 0, 0]}},
            r"difficulty.thresholds must descend, not \[0.1, 0.2, 0.0, 0.0\]",
        ),
        (
            {"difficulty": {"kind": "predicted", "aggregation": "last", "thresholds": [0.2, 0.1]}},
            r"difficulty.thresholds must be one less than the bins, 4 for the 5 strategies of choices\[0\], not 2",
        ),
        ({"strategies": {"best-of-n": {}}}, r"strategies.best-of-n must be an object with a name"),
        ({"strategies": {"best-of-n": "best-of-n"}}, r"strategies.best-of-n must be an object with a name"),
        ({"strategies": {"best-of-n": BEST_OF_N}}, r"choices\[0\] names 'beam \(width=4\)', which isn't among strat"),
        ({"choices": []}, r"choices is empty"),
        ({"choices": [{"budget": 4.5, "strategies": []}]}, r"choices\[0\].budget must be an integer, not 4.5"),
        (
            {"choices": [{"budget": budget, "strategies": ["best-of-n"] * 5} for budget in (16, 4)]},
            r"the budgets of choices must ascend, not \[16, 4\]",
        ),
        (
            {"choices": [{"budget": budget, "strategies": ["best-of-n"] * budget} for budget in (5, 6)]},
            r"choices\[1\] has 6 strategies; each bin must have one",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_the_file(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(TtsEvalError, match=rf"policy .*policy.yaml: {words}"):
        read(tmp_path / "policy.yaml", changed(change))


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "nothing"])
def test_what_is_no_policy_at_all(text: str, tmp_path: Path) -> None:
    with pytest.raises(TtsEvalError, match=r"policy .*policy.yaml: (can't be read|must have schema: 1)"):
        read(tmp_path / "policy.yaml", text)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(TtsEvalError, match=r"policy .*none.yaml: can't be read: .*check the path"):
        read_policy(tmp_path / "none.yaml")
    with pytest.raises(TtsEvalError, match=r"policy .*: No such file or directory; choose a file that can be written"):
        write_policy(read(tmp_path / "policy.yaml"), tmp_path / "folder" / "policy.yaml")
