"""Transcripts hold every node of every search, with the score that the verifier gave it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import World

from tts_eval.journal import Node, Record
from tts_eval.search import beam, best_of_n, dvts, rebase
from tts_eval.transcripts import Transcript
from tts_eval.types import Candidate, Outcome, Prefix, Problem, Sample, Score, Search, TtsEvalError, Usage


PROBLEM = Problem("u", "prompt", (), 100)

SEARCHES = {
    "beam": lambda n: beam(n, 4, rounds=6),
    "lookahead": lambda n: beam(n, 2, lookahead=2, rounds=6),
    "dvts": lambda n: dvts(n, 3, rounds=6),
    "rebase": lambda n: rebase(n, rounds=6),
}


def transcribe(search: Search, seed: int) -> tuple[World, Outcome, tuple[Node, ...]]:
    world, transcript = World(seed), Transcript()
    outcome = world.run(search, watch=lambda request, reply: transcript(PROBLEM, request, reply))
    return world, outcome, transcript.take(PROBLEM, outcome)


def record(outcome: Outcome, nodes: tuple[Node, ...]) -> Record:
    candidates = tuple(
        Candidate(final.text, None, final.steps, None, None, None, None, final.finish or "length", i, 0)
        for i, final in enumerate(outcome.finals)
    )
    return Record("u", "toy", {"name": "any"}, len(candidates), 0, candidates, Usage(), nodes=nodes)


@given(st.sampled_from(sorted(SEARCHES)), st.integers(1, 9), st.integers(0, 10**6))
def test_every_solution_is_the_steps_on_its_way(strategy: str, budget: int, seed: int) -> None:
    world, outcome, nodes = transcribe(SEARCHES[strategy](budget), seed)
    steps: dict[object, tuple[str, ...]] = {((), 0): ()}
    for node in nodes:
        steps[node.key] = steps[node.parent] + node.steps
        assert node.lookahead == 0 or node.candidate is None
        assert node.scores == world.scores(Prefix(steps=steps[node.key]))[-1:]
    ended = {node.candidate: steps[node.key] for node in nodes if node.candidate is not None}
    assert [ended[i] for i in range(budget)] == [final.steps for final in outcome.finals]
    asked = [request for request in world.requests if isinstance(request, Sample)]
    assert len(nodes) == len(steps) - 1 == sum(sum(request.counts) for request in asked)
    assert sum(node.lookahead > 0 for node in nodes) == sum(len(r.prefixes) for r in asked if r.lookahead)
    whole = record(outcome, nodes)
    assert Record.from_json(json.loads(json.dumps(whole.to_json()))) == whole


def extend(parent: Prefix, index: int, *steps: str, finish: str | None = None) -> Prefix:
    return Prefix((*parent.path, index), (*parent.steps, *steps), finish=finish)


def test_a_rollout_and_a_sample_with_the_same_path_and_text_are_two_nodes() -> None:
    transcript, root = Transcript(), Prefix()
    a, b = extend(root, 0, "a"), extend(root, 1, "a")
    rolled, sampled = extend(a, 0, "x", finish="eos"), extend(a, 0, "x", finish="eos")
    assert rolled == sampled
    transcript(PROBLEM, Sample((root,), 2, "step"), (a, b))
    transcript(PROBLEM, Sample((a,), 1, "step", temperature=0.0, lookahead=True), (rolled,))
    transcript(PROBLEM, Score((rolled, rolled)), ((0.2, 0.9), (0.2, 0.9)))
    transcript(PROBLEM, Sample((a,), 1, "step"), (sampled,))
    transcript(PROBLEM, Score((sampled,)), ((0.2, 0.9),))
    assert transcript.take(PROBLEM, Outcome((sampled,), ((0.2, 0.9),), 4)) == (
        Node((0,), 0, ("a",), (0.2,)),
        Node((1,), 0, ("a",), (0.2,)),  # never read itself, but its equal was
        Node((0, 0), 1, ("x",), (0.9,), "eos"),
        Node((0, 0), 0, ("x",), (0.9,), "eos", candidate=0),
    )


@pytest.mark.parametrize("scores", [(0.1, 0.2, 0.3), (0.7,)])
def test_whole_solutions_are_one_node_with_a_score_a_step_or_one_for_the_whole(scores: tuple[float, ...]) -> None:
    transcript, search = Transcript(), best_of_n(1, scored=True)
    solution = extend(Prefix(), 0, "a", "b", "c", finish="stop")
    transcript(PROBLEM, next(search), (solution,))
    transcript(PROBLEM, search.send((solution,)), (scores,))
    outcome = Outcome((solution,), (scores,), 1)
    assert transcript.take(PROBLEM, outcome) == (Node((0,), 0, ("a", "b", "c"), scores, "stop", 0),)


def test_problems_in_progress_are_kept_apart_even_if_equal() -> None:
    transcript = Transcript()
    twins = [Problem("u", "p", (), 9), Problem("u", "p", (), 9)]
    finals = [extend(Prefix(), 0, text, finish="eos") for text in "ab"]
    for twin, final in zip(twins, finals):
        transcript(twin, Sample((Prefix(),), 1, "end"), (final,))
    assert [transcript.take(twin, Outcome((final,), None, 1))[0].steps for twin, final in zip(twins, finals)] == [
        ("a",),
        ("b",),
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": [3, 0]}, r"nodes\[0\] has no node above it: path \[3, 0\], lookahead 0"),
        ({"candidate": 1}, r"nodes\[0\].candidate is 1, of 1 candidates"),
        ({"finish": "done"}, r"nodes\[0\].finish must be eos or stop or length"),
        ({"scores": ["x"]}, r"nodes\[0\].scores\[0\] must be a finite number"),
    ],
)
def test_a_journal_with_impossible_nodes_is_refused(change: dict[str, object], words: str) -> None:
    final = extend(Prefix(), 0, "a", finish="eos")
    row = json.loads(json.dumps(record(Outcome((final,), None, 1), (Node((0,), 0, ("a",)),)).to_json()))
    row["nodes"][0] |= change
    with pytest.raises(TtsEvalError, match=words):
        Record.from_json(row)


def test_equal_attempts_after_others_have_scores_of_their_own() -> None:
    transcript, root = Transcript(), Prefix()
    attempts = (extend(root, 0, "same", finish="eos"), extend(root, 1, "same", finish="eos"))
    for prompt, attempt in zip(("p", "p same"), attempts, strict=True):
        transcript(PROBLEM, Sample((root,), 1, "end", prompts=(prompt,)), (attempt,))
    transcript(PROBLEM, Score(attempts, ("p", "p same")), ((0.9,), (0.1,)))
    nodes = transcript.take(PROBLEM, Outcome(attempts, None, generations=2))
    assert [node.scores for node in nodes] == [(0.9,), (0.1,)]
