"""Labels from rollouts, what sharing saves, and the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tts_eval.jsonl import Header
from tts_eval.labels import (
    LabelFile,
    LabelledProblem,
    LabelledSolution,
    Saving,
    label_problem,
    read_labels,
    unshared,
)
from tts_eval.search import Rollouts
from tts_eval.types import Prefix, Problem, TtsEvalError, Usage


RUN = {"policy": {"base": "hf"}, "tokenizer": "ab" * 32, "task": "toy", "samples": 4, "rollouts": 2, "seed": 0}
HEADER = Header({**RUN, "versions": {"tts-eval": "0.1.0"}, "git_hash": None, "started": "now"})


def solution(text: str, *path: int) -> Prefix:
    """One token a character, one step a line."""
    steps = tuple(text.splitlines(keepends=True))
    ends = tuple(sum(map(len, steps[: index + 1])) for index in range(len(steps)))
    return Prefix(path, steps, tuple(map(ord, text)), len(text), None, "eos", ends)


def rolled(prefix: str, *tails: str) -> tuple[tuple[int, ...], tuple[Prefix, ...]]:
    return tuple(map(ord, prefix)), tuple(solution(prefix + tail) for tail in tails)


SAMPLED = (solution("a\nb\n1", 0), solution("a\nb\n2", 1), solution("x", 2), solution("1", 3))
OUTCOME = Rollouts(
    SAMPLED,
    (SAMPLED[0], SAMPLED[1], SAMPLED[3]),
    dict([rolled("a\n", "b\n1", "longer\n2"), rolled("a\nb\n", "1", "x")]),
)


def last_digit(text: str) -> str | None:
    return text[-1] if text[-1:].isdigit() else None


def equal(pairs: Sequence[tuple[str, str | None]]) -> list[bool]:
    return [gold == answer for gold, answer in pairs]


def labelled(uid: str = "u") -> LabelledProblem:
    problem = Problem(uid, "prompt", (), 20, question="question")
    usage = Usage(generations=8)
    return label_problem(problem, "1", OUTCOME, usage, prompt_tokens=6, extract=last_digit, grade=equal)


def test_a_label_is_the_share_of_rollouts_that_end_correct() -> None:
    assert labelled() == LabelledProblem(
        uid="u",
        prompt="prompt",
        question="question",
        gold="1",
        solutions=(
            LabelledSolution(("a\n", "b\n", "1"), (0.5, 0.5, 1.0), "1", True, "eos", 5),
            LabelledSolution(("a\n", "b\n", "2"), (0.5, 0.5, 0.0), "2", False, "eos", 5),
            LabelledSolution(("1",), (1.0,), "1", True, "eos", 1),
        ),
        dropped=1,
        usage=Usage(generations=8),
        saving=unshared(OUTCOME, 6),
    )


def test_a_rollout_without_an_answer_is_wrong() -> None:
    everything_right = label_problem(
        Problem("u", "p", (), 9),
        "1",
        OUTCOME,
        Usage(),
        prompt_tokens=1,
        extract=last_digit,
        grade=lambda pairs: [answer is not None for _, answer in pairs],
    )
    assert everything_right.solutions[0].labels == (1.0, 0.5, 1.0)


def test_the_plain_way_reads_every_prefix_for_every_rollout_of_every_solution() -> None:
    # Four prompts of 6; then, for both solutions that begin so, two rollouts from 6+2 and two from 6+4 tokens.
    read = 4 * 6 + 2 * (2 * (6 + 2) + 2 * (6 + 4))
    # Solutions of 5, 5, 1 and 1; rollouts that add 3, 8, 1 and 1, for both.
    written = 12 + 2 * (3 + 8 + 1 + 1)
    assert unshared(OUTCOME, 6) == Saving(steps=4, prefixes=2, rollouts=4, decode_tokens=written, prefill_tokens=read)
    assert unshared(OUTCOME, 6) + Saving(1, 1, 1, 1, 1) == Saving(5, 3, 5, written + 1, read + 1)


def write(path: Path, *uids: str, header: Header = HEADER) -> None:
    with LabelFile.open(path, header) as file:
        for uid in uids:
            file.append(labelled(uid))


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "labels.jsonl"
    write(path, "a", "b")
    assert read_labels(path) == (dict(HEADER.run), [labelled("a"), labelled("b")])
    row = json.loads(path.read_text().splitlines()[1])
    assert list(row) == [
        *("schema", "uid", "prompt", "question", "gold", "solutions", "dropped", "usage", "saving"),
    ]
    assert list(row["solutions"][0]) == ["steps", "labels", "answer", "correct", "finish", "tokens"]


def test_a_torn_last_line_is_left_out_and_redone(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    write(path, "a", "b")
    content = path.read_bytes()
    for lost in (2, 50, 400):
        path.write_bytes(content[:-lost])
        assert [problem.uid for problem in read_labels(path)[1]] == ["a"]
        write(path, "b")
        assert path.read_bytes() == content


def test_a_file_cut_in_the_middle_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    write(path, "a", "b", "c")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1] + lines[2][:70] + "\n" + lines[3])
    for read in (read_labels, write):
        with pytest.raises(TtsEvalError, match=f"{path}:3: not JSON.*mend or delete the line"):
            read(path)


def test_another_run_is_refused_and_other_versions_are_not(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    write(path, "a")
    write(path, "b", header=Header({**RUN, "started": "later"}))
    other = Header({**RUN, "rollouts": 4, "policy": {"base": "hf", "pretrained": "x"}})
    with pytest.raises(TtsEvalError, match="rollouts is 2 there and 4 here") as error:
        LabelFile.open(path, other)
    assert str(error.value).startswith(f"label file {path}") and "name another --output" in str(error.value)
    assert [problem.uid for problem in read_labels(path)[1]] == ["a", "b"]


def changed(**changes: object) -> str:
    row = labelled("z").to_json()
    return json.dumps({**row, "solutions": [{**row["solutions"][0], **changes}]})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (changed(labels=[0.5, 1.0]), r"solutions\[0\] has 3 steps but 2 labels"),
        (changed(labels=[0.5, 1.5, 0.0]), r"solutions\[0\].labels must be between 0 and 1"),
        (changed(labels=[0.5, float("nan"), 0.0]), r"solutions\[0\].labels\[1\] must be a finite number, not NaN"),
        (changed(correct=1), r"solutions\[0\].correct must be true or false, not 1"),
        (changed(finish="done"), r"solutions\[0\].finish must be eos or stop or length"),
        (json.dumps({**labelled("z").to_json(), "gold": None}), "gold must be a string, not null"),
        (json.dumps({**labelled("z").to_json(), "saving": {}}), "saving.steps is missing"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "labels.jsonl"
    write(path, "a")
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(TtsEvalError, match=f"{path}:3: {message}"):
        read_labels(path)


def test_question_and_saving_may_be_absent_and_so_may_the_header(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    row = labelled().to_json()
    path.write_text(json.dumps({key: value for key, value in row.items() if key not in ("question", "saving")}))
    run, (problem,) = read_labels(path)
    assert run is None and problem.question is None and problem.saving is None
    assert problem.solutions == labelled().solutions


def test_the_documented_example_is_a_label_file(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "labels.md").read_text()
    path = tmp_path / "example.jsonl"
    path.write_text(page.split("```json\n")[1].split("```")[0])
    run, (example,) = read_labels(path)
    assert run is not None and len(run["tokenizer"]) == 64
    assert json.loads(json.dumps(example.to_json())) == json.loads(path.read_text().splitlines()[1])
