"""microMATH's problems: seeded, in MATH's own schema, and easier to check than to solve.

A problem of level L asks for L unknowns in a row, each a small puzzle. A puzzle is a guess that no arithmetic leads
to directly, and a check of single-digit facts that holds for the right guess alone: what makes a verifier worth having
(docs/micromath.md has the study that led here).
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple


Split = Literal["train", "validation", "test"]

LEVELS = (1, 2, 3, 4, 5)


class Puzzle(NamedTuple):
    """One unknown of a problem.

    Attributes:
        text: What is asked.
        step: The line of the solution: the guess, and the check of it.
        value: The digits that go into the answer.
    """

    text: str
    step: str
    value: str


class MicroProblem(NamedTuple):
    """A problem in MATH's schema; `solution` has one step a line."""

    problem: str
    solution: str
    answer: str
    subject: str
    level: int
    unique_id: str


def linear_system(rng: random.Random) -> Puzzle | None:
    """Two equations in two digits."""
    x, y = rng.randint(1, 9), rng.randint(1, 9)
    a, b, c, d = (rng.randint(1, 5) for _ in range(4))
    if a * d == b * c:
        return None
    p, q, r, s = a * x, b * y, c * x, d * y
    return Puzzle(f"{a}x+{b}y={p + q}, {c}x+{d}y={r + s}", f"x={x} y={y}: {p}+{q}={p + q}, {r}+{s}={r + s}", f"{x}{y}")


def congruences(rng: random.Random) -> Puzzle | None:
    """A number below 60 by its remainders."""
    moduli = rng.sample((3, 4, 5, 7), 2)
    n = rng.randint(2, moduli[0] * moduli[1] - 1)
    p, q = moduli
    u, v = n // p, n // q
    return Puzzle(
        f"n={n % p} mod {p}, n={n % q} mod {q}, n<{p * q}",
        f"n={n}: {p}*{u}={p * u}+{n % p}={n}, {q}*{v}={q * v}+{n % q}={n}",
        f"{n}",
    )


def picks(rng: random.Random) -> Puzzle | None:
    """Three of five numbers with a given sum."""
    numbers = rng.sample(range(1, 16), 5)
    chosen = sorted(rng.sample(range(5), 3))
    total = sum(numbers[i] for i in chosen)
    if sum(sum(c) == total for c in itertools.combinations(numbers, 3)) > 1:
        return None
    a, b, c = (numbers[i] for i in chosen)
    listed = ",".join(map(str, numbers))
    return Puzzle(f"three of {listed} add to {total}", f"{a},{b},{c}: {a}+{b}={a + b}+{c}={total}", f"{a}{b}{c}")


def coins(rng: random.Random) -> Puzzle | None:
    """Three kinds of coins, by their number and their worth."""
    values = sorted(rng.sample(range(1, 10), 3))
    counts = [rng.randint(1, 5) for _ in range(3)]
    n, worth = sum(counts), sum(v * c for v, c in zip(values, counts))
    solutions = [
        (x, y, n - x - y)
        for x in range(1, n)
        for y in range(1, n - x)
        if values[0] * x + values[1] * y + values[2] * (n - x - y) == worth
    ]
    if len(solutions) > 1:
        return None
    x, y, z = counts
    p, q, r = (v * c for v, c in zip(values, counts))
    return Puzzle(
        f"{n} coins of {values[0]},{values[1]},{values[2]} worth {worth}",
        f"{x},{y},{z}: {x}+{y}={x + y}+{z}={n}, {p}+{q}={p + q}+{r}={worth}",
        f"{x}{y}{z}",
    )


def squares(rng: random.Random) -> Puzzle | None:
    """Two quadratic equations in two digits."""
    x, y = rng.randint(1, 9), rng.randint(1, 9)
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    p, q, r, s = x * x, a * y, y * y, b * x
    others = [
        (u, v)
        for u in range(1, 10)
        for v in range(1, 10)
        if u * u + a * v == p + q and v * v + b * u == r + s
    ]
    if len(others) > 1:
        return None
    return Puzzle(
        f"xx+{a}y={p + q}, yy+{b}x={r + s}", f"x={x} y={y}: {p}+{q}={p + q}, {r}+{s}={r + s}", f"{x}{y}"
    )


FAMILIES: dict[str, Callable[[random.Random], Puzzle | None]] = {
    "Algebra": linear_system,
    "Number Theory": congruences,
    "Prealgebra": picks,
    "Counting & Probability": coins,
    "Intermediate Algebra": squares,
}
"""Subject -> a function that draws one of its puzzles, or None if the draw has no unique solution."""


def problem_of(rng: random.Random, subject: str, level: int) -> MicroProblem:
    """Draws a problem."""
    puzzles: list[Puzzle] = []
    while len(puzzles) < level:
        puzzle = FAMILIES[subject](rng)
        if puzzle is not None:
            puzzles.append(puzzle)
    text = "; ".join(p.text for p in puzzles)
    answer = "".join(p.value for p in puzzles)
    solution = "".join(p.step + "\n" for p in puzzles) + f"\\boxed{{{answer}}}"
    return MicroProblem(text, solution, answer, subject, level, hashlib.sha256(text.encode()).hexdigest()[:12])


def split_of(problem: MicroProblem) -> Split:
    """Which split a problem belongs to, by the hash of its text: splits are disjoint by construction."""
    slot = int(problem.unique_id[:6], 16) % 20
    return "test" if slot == 0 else "validation" if slot == 1 else "train"


def generate(split: Split, seed: int) -> Iterator[MicroProblem]:
    """Problems of a split without end, subjects and levels drawn uniformly."""
    rng = random.Random(f"{split} {seed}")
    while True:
        problem = problem_of(rng, rng.choice(list(FAMILIES)), rng.choice(LEVELS))
        if split_of(problem) == split:
            yield problem
