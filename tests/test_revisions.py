"""Pairs for revision models, graded chains, and the files that keep them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_eval.commands.revisions_build import summary
from tts_eval.jsonl import Header
from tts_eval.revisions import (
    Attempt,
    ChainedProblem,
    ChainFile,
    Pair,
    PairedProblem,
    PairFile,
    chain_problem,
    make_pairs,
    pair_problem,
    rest_em_pairs,
)
from tts_eval.types import Outcome, Prefix, Problem, TtsEvalError, Usage


HEADER = Header({"policy": {"base": "hf"}, "task": "toy", "samples": 7, "seed": 0, "started": "now"})


def last_digit(text: str) -> str | None:
    return text[-1] if text[-1:].isdigit() else None


def equal(pairs: Sequence[tuple[str, str | None]]) -> list[bool]:
    return [gold == answer for gold, answer in pairs]


def sampled(*texts: str, length: int = 1) -> Outcome:
    finals = tuple(Prefix((index,), (text,), (), len(text), None, "eos") for index, text in enumerate(texts))
    return Outcome(finals, None, len(texts), length)


def paired(*texts: str, uid: str = "u", seed: int = 0, most_pairs: int | None = None) -> PairedProblem:
    """The correct answer is 1."""
    problem, usage = Problem(uid, "prompt", (), 20, question="question"), Usage(generations=len(texts))
    return pair_problem(
        problem, "1", sampled(*texts), usage, seed=seed, most_pairs=most_pairs, extract=last_digit, grade=equal
    )


class Scripted(random.Random):
    """Draws the sizes that it is given, and always the first of a population."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(0)
        self.sizes = iter(sizes)

    def randint(self, a: int, b: int) -> int:
        assert (a, b) == (0, 4)
        return next(self.sizes)

    def sample(self, population: Any, k: int, *, counts: Any = None) -> Any:
        return population[:k]


INCORRECT = ("abd2", "xyz2", "abc2", "abc3")
BY_HAND = (
    Pair(("abd2", "xyz2", "abc2"), "abc1", 1),  # abc2 and abc3 are as near: the first of them
    Pair((), "abc1", None),
    Pair(("xyz2",), "xyz1", 1),
    Pair(("xyz2", "abc2", "abc3", "abd2"), "abd1", 1),
)


def test_pairs_by_hand() -> None:
    assert make_pairs(("abc1", "abc1", "xyz1", "abd1"), INCORRECT, Scripted(3, 0, 1, 4)) == BY_HAND
    assert make_pairs(("abc1",), ("xyz2", "ab2"), Scripted(4)) == (Pair(("xyz2", "ab2"), "abc1", 2),)
    assert make_pairs(("abc1", "b1"), (), Scripted(4, 1)) == (Pair((), "abc1"), Pair((), "b1"))
    assert make_pairs((), INCORRECT, Scripted()) == ()


def test_statistics_by_hand() -> None:
    usage = Usage(prefill_tokens=1000, decode_tokens=20, reused_tokens=3, seconds=0.5)
    kept = {"prompt": "p", "gold": "1", "usage": usage}
    problems = [
        PairedProblem(uid="a", pairs=BY_HAND, correct=4, incorrect=4, dropped=1, **kept),
        PairedProblem(uid="b", pairs=(), correct=0, incorrect=3, dropped=6, **kept),
        PairedProblem(uid="c", pairs=(Pair((), "1"),), correct=1, incorrect=0, dropped=8, **kept),
    ]
    # Before the last: abd2 and xyz2 to abc1 are 2 and 4; xyz2, abc2 and abc3 to abd1 are 4, 2 and 2.
    assert summary(problems).splitlines() == [
        "3 problems, 27 samples: 15 without an answer dropped, 5 correct, 7 incorrect",
        "1 problems skipped without a correct sample; 1 without an incorrect one, whose pairs have no context",
        "5 pairs; by attempts in context: 0: 2, 1: 1, 3: 1, 4: 1",
        "mean edit distance to the target: 1.0 of the last attempt, 2.8 of those before it",
        "tokens: 3,000 read, 9 reused, 60 written; 1.5 s",
    ]


def edit_distance(one: str, other: str) -> int:
    """The textbook's table, row by row."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        above, row = row, [i]
        for j, b in enumerate(other, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]


text = st.text("abc\n", max_size=6)
seeds = st.integers(0, 1000)


@given(st.lists(st.tuples(text, st.sampled_from(["1", "1", "2", "2", "3", ""])), max_size=16), seeds, st.text("uv"))
def test_a_target_is_correct_its_context_incorrect_and_the_last_of_it_the_nearest(
    samples: list[tuple[str, str]], seed: int, uid: str
) -> None:
    texts = [body + answer for body, answer in samples]
    correct = [text for text in texts if last_digit(text) == "1"]
    incorrect = [text for text in texts if last_digit(text) in ("2", "3")]
    problem = paired(*texts, uid=uid, seed=seed)
    assert (problem.correct, problem.incorrect) == (len(correct), len(incorrect))
    assert problem.correct + problem.incorrect + problem.dropped == len(texts)
    assert [pair.target for pair in problem.pairs] == correct
    for pair in problem.pairs:
        assert len(pair.context) <= min(4, len(incorrect))
        assert Counter(pair.context) <= Counter(incorrect)  # drawn without replacement
        if pair.context:
            distances = [edit_distance(text, pair.target) for text in incorrect]
            assert pair.distance == min(distances)
            assert pair.context[-1] == incorrect[distances.index(min(distances))]
        else:
            assert pair.distance is None
    assert paired(*texts, uid=uid, seed=seed) == problem


MANY = [f"{i:03}{answer}" for i in range(400) for answer in "12"]


def test_context_sizes_are_uniform_and_the_others_drawn_evenly() -> None:
    pairs = paired(*MANY).pairs
    sizes = Counter(len(pair.context) for pair in pairs)
    assert sorted(sizes) == [0, 1, 2, 3, 4] and all(50 <= count <= 110 for count in sizes.values())
    others = [int(text[:3]) for pair in pairs for text in pair.context[:-1]]
    assert 180 < sum(others) / len(others) < 220


def test_seed_and_uid_decide_the_draws() -> None:
    assert paired(*MANY).pairs != paired(*MANY, seed=1).pairs
    assert paired(*MANY).pairs != paired(*MANY, uid="v").pairs


def test_some_of_the_pairs_at_random() -> None:
    every = paired(*MANY).pairs
    some = paired(*MANY, most_pairs=40).pairs
    places = [every.index(pair) for pair in some]
    assert len(places) == 40 and places == sorted(set(places)) and places[0] < 100 and places[-1] > 300
    assert paired("a1", "b2", most_pairs=3).correct == len(paired("a1", "b2", most_pairs=3).pairs) == 1


def chained(*texts: str, length: int) -> ChainedProblem:
    problem = Problem("u", "prompt", (), 20, question="question")
    return chain_problem(
        problem, "1", sampled(*texts, length=length), Usage(generations=len(texts)), extract=last_digit, grade=equal
    )


def test_chains_are_graded_attempt_by_attempt() -> None:
    assert chained("a1", "b", "c2", "d1", length=2) == ChainedProblem(
        uid="u",
        prompt="prompt",
        question="question",
        gold="1",
        chains=(
            (Attempt(("a1",), "1", True, "eos", 2), Attempt(("b",), None, False, "eos", 1)),
            (Attempt(("c2",), "2", False, "eos", 2), Attempt(("d1",), "1", True, "eos", 2)),
        ),
        usage=Usage(generations=4),
    )


def test_rest_em_pairs_end_at_the_first_correct_one_of_five() -> None:
    chains = (
        *("a1", "b1", "c2", "d2", "e2", "f2"),  # right at once
        *("a2", "b", "b1", "c1", "d2", "e2"),  # the second has no answer
        *("a2", "b2", "c2", "d2", "e1", "f1"),
        *("a2", "b2", "c2", "d2", "e2", "f1"),  # too late
        *("a2", "b2", "c2", "d2", "e2", "f2"),
    )
    assert rest_em_pairs(chained(*chains, length=6)) == (
        Pair((), "a1"),
        Pair(("a2", "b"), "b1", 1),
        Pair(("a2", "b2", "c2", "d2"), "e1", 2),
    )


def test_round_trip(tmp_path: Path) -> None:
    pairs, chains = tmp_path / "new" / "pairs.jsonl", tmp_path / "chains.jsonl"
    one, none, chain = paired("a1", "b2", "c"), paired("c", uid="v"), chained("a1", "b", "c2", "d1", length=2)
    with PairFile.open(pairs, HEADER) as file:
        file.append(one)
        file.append(none)
    with ChainFile.open(chains, HEADER) as file:
        file.append(chain)
    assert PairFile.read(pairs) == (HEADER, [one, none])
    assert ChainFile.read(chains) == (HEADER, [chain])
    with pytest.raises(TtsEvalError, match=f"revision pair file {pairs}: written by another run.*samples is 7 there"):
        PairFile.open(pairs, Header({**HEADER.run, "samples": 8}))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (PairFile, {"pairs": [{"context": ["a"], "target": None}]}, r"pairs\[0\].target must be a string, not null"),
        (PairFile, {"pairs": [{"target": "a"}]}, r"pairs\[0\].context is missing"),
        (PairFile, {"correct": "1"}, "correct must be an integer"),
        (ChainFile, {"chains": [[{"steps": ["a"], "answer": "1"}]]}, r"chains\[0\]\[0\].correct is missing"),
        (ChainFile, {}, "chains is missing"),
    ],
)
def test_a_malformed_line_is_named(
    tmp_path: Path, kind: type[PairFile] | type[ChainFile], changes: dict[str, object], message: str
) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps({**paired("a1").to_json(), **changes}))
    with pytest.raises(TtsEvalError, match=f"{path}:1: {message}"):
        kind.read(path)


def test_the_documented_examples_are_such_files(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "revisions.md").read_text().split("\n## Data\n")[1]
    blocks = [block.split("```")[0] for block in page.split("```json\n")[1:3]]
    path = tmp_path / "example.jsonl"
    path.write_text(blocks[0])
    header, (pairs,) = PairFile.read(path)
    assert header is not None and len(pairs.pairs) == pairs.correct and pairs.pairs[1].context
    path.write_text(blocks[1])
    header, (chains,) = ChainFile.read(path)
    assert header is not None and rest_em_pairs(chains)[0].distance is not None
