"""microMATH's problems: seeded, in MATH's own schema, and easier to check than to solve.

A problem of level L asks for L unknowns, one a step. Each is a small puzzle: a guess that no single computation leads
to, then honest arithmetic that starts from the guess, then a fact that only holds if the guess was right. A policy must
guess; a verifier can see the last fact fail. docs/micromath.md has the study that led here.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple


Split = Literal["train", "validation", "test"]

LEVELS = (1, 2, 3, 4, 5)
SIZES = (0, 0, 1, 2)
"""How large the numbers of a puzzle may be, the smallest twice as often: with them grows what a policy must know."""


class Puzzle(NamedTuple):
    """One unknown of a problem.

    Attributes:
        text: What is given.
        step: The line of the solution: a guess, and the check of it.
        value: The unknown.
    """

    text: str
    step: str
    value: int


class MicroProblem(NamedTuple):
    """A problem in MATH's schema. `solution` has a line for each unknown, and a last one with the boxed answer."""

    problem: str
    solution: str
    answer: str
    subject: str
    level: int
    unique_id: str


def equation(rng: random.Random, size: int) -> Puzzle | None:
    """A linear equation in two small whole numbers: `2x+3y=13`."""
    a, b = rng.sample(range(2, (5, 6, 8)[size]), 2)
    x, y = _two_counts(rng, (4, 5, 6)[size])
    total = a * x + b * y
    if _solutions(total, lambda u: a * u, b) > 1:
        return None
    return Puzzle(f"{a}x+{b}y={total}", f"x={x}: {a * x} {total}-{a * x}={b * y}={b}*{y}", x)


def square(rng: random.Random, size: int) -> Puzzle | None:
    """The same with a square: `2xx+3y=30`."""
    most, factor = (5, 7, 9)[size], rng.choice(((1,), (1,), (1, 2))[size])
    a = rng.randint(2, most)
    x, y = _two_counts(rng, most)
    first, rest = factor * x * x, a * y
    if first + rest > 99 or _solutions(first + rest, lambda u: factor * u * u, a) > 1:
        return None
    return Puzzle(f"{factor}xx+{a}y={first + rest}", f"x={x}: {first} {first + rest}-{first}={rest}={a}*{y}", x)


def congruences(rng: random.Random, size: int) -> Puzzle | None:
    """The least number with two given remainders: `n=1 mod 3, n=2 mod 5`."""
    p, q = rng.choice((((3, 4), (3, 5)), ((4, 5), (3, 7), (3, 8)), ((4, 7), (5, 6), (4, 9), (5, 7)))[size])
    n = rng.randrange(max(p, q), p * q)
    r, s = n % p, n % q
    checks = f"{n}-{r}={n - r}={p}*{n // p} {n}-{s}={n - s}={q}*{n // q}"
    return Puzzle(f"n={r} mod {p}, n={s} mod {q}", f"n={n}: {checks}", n)


def pair(rng: random.Random, size: int) -> Puzzle | None:
    """The first of two numbers in a list that have a given sum: `two of 4 7 1 add to 5`."""
    numbers = rng.sample(range(1, (10, 16, 21)[size]), (3, 3, 4)[size])
    first, second = (numbers[i] for i in sorted(rng.sample(range(len(numbers)), 2)))
    total = first + second
    if sum(u + v == total for u, v in itertools.combinations(numbers, 2)) > 1:
        return None
    listed = " ".join(map(str, numbers))
    return Puzzle(f"two of {listed} add to {total}", f"{first}: {total}-{first}={second}", first)


def coins(rng: random.Random, size: int) -> Puzzle | None:
    """How many coins of the first kind: `7 coins of 3 and 5 worth 27`."""
    a, b = rng.sample(range(2, (5, 6, 8)[size]), 2)
    x, y = _two_counts(rng, (4, 5, 6)[size])
    worth, rest = a * x + b * y, b * y
    step = f"{x}: {a * x} {worth}-{a * x}={rest} {x + y}-{x}={y} {rest}={b}*{y}"
    return Puzzle(f"{x + y} coins of {a} and {b} worth {worth}", step, x)


def _two_counts(rng: random.Random, most: int) -> tuple[int, int]:
    return rng.randint(1, most), rng.randint(1, most)


def _solutions(total: int, first: Callable[[int], int], factor: int) -> int:
    """How many x from 1 to 9 have a y from 1 to 9 such that first(x) + factor * y is the total."""
    rests = (total - first(x) for x in range(1, 10))
    return sum(rest % factor == 0 and 1 <= rest // factor <= 9 for rest in rests)


FAMILIES: dict[str, tuple[str, Callable[[random.Random, int], Puzzle | None]]] = {
    "Algebra": ("Find x, where x and y are from 1 to 9: ", equation),
    "Intermediate Algebra": ("Find x, where x and y are from 1 to 9: ", square),
    "Number Theory": ("Find the least n: ", congruences),
    "Prealgebra": ("Find the first of the two numbers: ", pair),
    "Counting & Probability": ("Find how many coins are of the first kind: ", coins),
}
"""Subject -> what is asked, and the puzzle; it gives None where what it drew has more than one solution."""


def draw_problem(rng: random.Random, subject: str, level: int) -> MicroProblem:
    """Draws a problem.

    Args:
        rng: Decides everything.
        subject: A key of `FAMILIES`.
        level: How many unknowns.
    """
    question, puzzle = FAMILIES[subject]
    drawn = (puzzle(rng, rng.choice(SIZES)) for _ in itertools.count())
    puzzles = list(itertools.islice(filter(None, drawn), level))
    text = question + "; ".join(p.text for p in puzzles)
    values = ",".join(str(p.value) for p in puzzles)
    answer = values if level == 1 else f"({values})"
    solution = "".join(p.step + "\n" for p in puzzles) + f"\\boxed{{{answer}}}"
    return MicroProblem(text, solution, answer, subject, level, hashlib.sha256(text.encode()).hexdigest()[:16])


def split_of(problem: MicroProblem) -> Split:
    """The split that a problem belongs to, by the hash of its text: no two splits can have one in common."""
    slot = int(problem.unique_id, 16) % 20
    return "test" if slot == 0 else "validation" if slot == 1 else "train"


def generate(split: Split, seed: str) -> Iterator[MicroProblem]:
    """Problems of a split without end, subjects and levels drawn evenly; the same may come again.

    Args:
        split: Which problems.
        seed: Any text; equal seeds give equal problems.
    """
    rng = random.Random(f"{split} {seed}")
    while True:
        problem = draw_problem(rng, rng.choice(list(FAMILIES)), rng.choice(LEVELS))
        if split_of(problem) == split:
            yield problem
