"""microMATH's problems: their solutions hold, their answers are unique, their splits are apart."""

from __future__ import annotations

import itertools
import random
import re

import pytest
import sympy

from tts_eval.answers import extract_answer
from tts_eval.micro.problems import FAMILIES, LEVELS, MicroProblem, draw_problem, generate, split_of
from tts_eval.micro.tokenizer import train_tokenizer


def some(count: int, split: str = "test", seed: str = "t") -> list[MicroProblem]:
    return list(itertools.islice(generate(split, seed), count))


def puzzles(problem: MicroProblem) -> list[tuple[str, str, int]]:
    """Statement, step and value of each unknown."""
    texts = problem.problem.split(": ", 1)[1].split("; ")
    *steps, _ = problem.solution.split("\n")
    values = [int(value) for value in problem.answer.strip("()").split(",")]
    return list(zip(texts, steps, values, strict=True))


def test_every_fact_in_a_solution_holds() -> None:
    """Each line's arithmetic, such as 13-4=9=3*3, by sympy."""
    for problem in some(400):
        for _, step, _ in puzzles(problem):
            for chain in re.findall(r"\S+=\S+", step.split(": ", 1)[1]):
                assert len({sympy.sympify(side) for side in chain.split("=")}) == 1, step


def solve(text: str) -> set[int]:
    """All values of the unknown, from the statement alone."""
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    x, y = sympy.symbols("x y")
    if "mod" in text:
        (r, p, s, q) = numbers
        return {next(n for n in itertools.count() if n % p == r and n % q == s)}
    if "coins" in text:
        count, a, b, worth = numbers
        (found,) = sympy.linsolve([x + y - count, a * x + b * y - worth], x, y)
        return {int(found[0])}
    if "add" in text:
        *listed, total = numbers
        return {u for u, v in itertools.combinations(listed, 2) if u + v == total}
    factor, a, total = numbers
    power = 2 if "xx" in text else 1
    digits = range(1, 10)
    return {u for u in digits for v in digits if factor * u**power + a * v == total}


def test_the_answer_is_the_only_one() -> None:
    for problem in some(400):
        assert [solve(text) for text, _, _ in puzzles(problem)] == [{value} for *_, value in puzzles(problem)]


def test_schema() -> None:
    problems = some(1000)
    assert {problem.subject for problem in problems} == set(FAMILIES) and len(FAMILIES) >= 4
    assert {problem.level for problem in problems} == set(LEVELS)
    for problem in problems:
        assert extract_answer(problem.solution) == problem.answer
        assert problem.solution.count("\n") == problem.level


def test_splits_have_no_problem_in_common() -> None:
    splits = [{problem.problem for problem in some(3000, split)} for split in ("train", "validation", "test")]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(splits, 2))


def test_the_split_is_the_problems_own() -> None:
    rng = random.Random(0)
    drawn = [draw_problem(rng, "Prealgebra", 2) for _ in range(2000)]
    shares = [sum(split_of(problem) == split for problem in drawn) / 2000 for split in ("validation", "test")]
    assert shares == pytest.approx([0.05, 0.05], abs=0.015)


def test_seeds() -> None:
    assert some(50) == some(50)
    assert some(50) != some(50, seed="other")


def test_the_tokenizer_gives_back_what_it_read() -> None:
    tokenizer = train_tokenizer((p.problem + "\n" + p.solution for p in some(3000, "train")), 512)
    for problem in some(500):
        prompt, text = problem.problem + "\n", problem.problem + "\n" + problem.solution
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text and tokenizer.unk_token_id not in ids
        assert ids == tokenizer.encode(prompt) + tokenizer.encode(problem.solution)


def test_what_the_tokenizer_does_not_know_is_unknown() -> None:
    tokenizer = train_tokenizer(["1+1=2\n"], 512)
    assert tokenizer.unk_token_id in tokenizer.encode("é")
