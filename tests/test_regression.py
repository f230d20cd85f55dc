"""The pinned sweep gives what results/regression says, and a single other token would show (docs/regression.md)."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import regression
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from regression import FOLDER, TOLERANCE, Moved, compare, measured, read, report, update

from tts_eval.engines import hf
from tts_eval.engines.sampling import draw


# A minute on a core of its own, several minutes on one that many share.
pytestmark = pytest.mark.timeout(900)

EXPECTED = read()


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regression")
    regression.run(folder)
    return folder


def test_no_number_moved(output: Path) -> None:
    moved = compare(EXPECTED, measured(output))
    if moved:
        pytest.fail(report(moved), pytrace=False)


ALTERED = [
    "search/best-of-n/n16_s0",
    "search/beam_width-sqrt/n4_s0",
    "search/lookahead_lookahead-1_width-sqrt/n4_s0",
    "search/dvts_width-2/n16_s0",
    "search/rebase/n4_s0",
    "revise/revise_ratio-1/n4_s0",
]


class OneOtherToken:
    """Draws what the engine would draw, but for the 300th token of each cell."""

    drawn = 0

    def sample(self, engine: hf.HFEngine) -> None:
        self.drawn = engine.tokens_written
        SAMPLE(engine)

    def draw(
        self, logits: torch.Tensor, temperatures: torch.Tensor, uniforms: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, logprobs = draw(logits, temperatures, uniforms)
        row = 299 - self.drawn
        if not 0 <= row < len(tokens):
            return tokens, logprobs
        logits = logits.clone()
        logits[row, tokens[row]] = -torch.inf
        return draw(logits, temperatures, uniforms)


SAMPLE = hf.HFEngine._sample


@pytest.fixture(scope="module")
def altered(output: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Moved]:
    folder = tmp_path_factory.mktemp("altered") / "output"
    shutil.copytree(output, folder)
    for cell in ALTERED:
        shutil.rmtree(folder / cell)
    other = OneOtherToken()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hf, "draw", other.draw)
        patch.setattr(hf.HFEngine, "_sample", lambda engine: other.sample(engine))
        regression.run(folder)
    return compare(measured(output), measured(folder))


@pytest.mark.parametrize("cell", ALTERED)
def test_one_other_token_is_found(cell: str, altered: list[Moved]) -> None:
    """Even in a rollout, or in a step that the search then dropped."""
    _, strategy, budget = cell.split("/")
    place = ("tts_micromath", strategy, budget[1:-3])
    moved = [one for one in altered if one.place[:3] == place]
    (sampled,) = [one for one in moved if one.number == "sampled"]
    assert sampled.old and sampled.new and sampled.old != sampled.new
    # Randomness is keyed: nobody else's tokens are others.
    assert {one.place[3] for one in moved if one.number == "text"} <= {sampled.place[3]}
    where = f"task tts_micromath, strategy {strategy}, budget {place[2]}, problem {sampled.place[3]}"
    assert f"{where}: sampled: {sampled.old} -> {sampled.new}" in report(moved)


exact = st.sampled_from(
    [
        (table, place, number)
        for table, rows in EXPECTED.items()
        for place in list(rows)[::50]
        for number in rows[place]
        if number not in regression.APPROXIMATE
    ]
)


@settings(max_examples=30)
@given(at=exact, new=st.none() | st.text(max_size=3))
def test_what_differs_is_named(at: tuple[str, tuple[str, ...], str], new: str | None) -> None:
    table, place, number = at
    row = EXPECTED[table][place]
    assume(new != row[number])
    changed = {**row, number: new}
    got = {**EXPECTED, table: {**EXPECTED[table], place: {n: v for n, v in changed.items() if v is not None}}}
    assert compare(EXPECTED, got) == [Moved(table, place, number, row[number], new)]


@pytest.mark.parametrize("number", regression.APPROXIMATE)
def test_floats_may_differ_a_little(number: str) -> None:
    place = next(iter(EXPECTED["candidates"]))
    got = copy.deepcopy(EXPECTED)
    *others, last = got["candidates"][place][number].split()
    for change, found in ((TOLERANCE / 2, 0), (-TOLERANCE / 2, 0), (2 * TOLERANCE, 1), (-2 * TOLERANCE, 1)):
        got["candidates"][place][number] = " ".join([*others, f"{float(last) + change:.6f}"])
        assert len(compare(EXPECTED, got)) == found
    got["candidates"][place][number] += " 0.5"
    assert len(compare(EXPECTED, got)) == 1


def test_an_update_writes_what_moved_and_nothing_else(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    got = copy.deepcopy(EXPECTED)
    first, second, *_ = got["candidates"]
    gone = got["candidates"].popitem()[0]
    old = got["candidates"][first]["tokens"]
    got["candidates"][first]["tokens"] = "999"
    got["candidates"][second]["logprob"] = f"{float(got['candidates'][second]['logprob']) + TOLERANCE / 2:.6f}"
    shown = [str(one) for one in update(got, tmp_path)]
    assert shown[0].endswith(f"candidate {first[-1]}: tokens: {old} -> 999")
    assert all(f"candidate {gone[-1]}: " in line and line.endswith("-> nothing") for line in shown[1:])
    before = (FOLDER / "candidates.csv").read_text(encoding="utf-8").splitlines()
    after = (tmp_path / "candidates.csv").read_text(encoding="utf-8").splitlines()
    assert before[1] != after[1] and before[2:-1] == after[2:]
    assert compare(read(tmp_path), got) == []
    assert (tmp_path / "problems.csv").read_bytes() == (FOLDER / "problems.csv").read_bytes()
