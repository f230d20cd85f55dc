"""What a model that learns to revise reads, and where its loss is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import makers
import pytest
import revising
import torch
from transformers import AutoModelForCausalLM

from tts_eval.revision import revision_prompt
from tts_eval.revisions import Pair, chain_problem
from tts_eval.search.revise import revise
from tts_eval.training.batches import collate
from tts_eval.training.data import read_training_data
from tts_eval.training.reviser import Reviser
from tts_eval.training.revision_data import RevisionQuestion, encode_pairs, keep_some, read_revision_data
from tts_eval.types import Outcome, Prefix, Problem, Score, Search, TtsEvalError, Usage


PROBLEM = Problem("q/3", "3?\n", ("\n\n",), 6, "3?")
A, B, C, D, E, F = (chr(ord("a") + i) * 2 for i in range(6))


def encoded(*pairs: Pair, window: int = 4) -> list[list[int]]:
    question = RevisionQuestion("3?", PROBLEM, "1", pairs, 0.25)
    found = encode_pairs([question], revising.tokenizer(), separator="\n0\n", window=window)
    return [example.ids.tolist() for example in found]


def test_only_the_target_and_the_end_are_learnt() -> None:
    """By hand, a token a character: the prompt is `3?` and a newline, the attempt `aa`, the separator three tokens."""
    question = RevisionQuestion("3?", PROBLEM, "1", (Pair((A,), B, 2), Pair((), C, None)), 0.5)
    batch = collate(encode_pairs([question], revising.tokenizer(), separator="\n0\n", window=4))
    text = [revising.ALPHABET[i] for i in batch.ids[0].tolist()]
    assert text == [*"3?\naa\n0\nbb", "<e>"]
    learnt = [row.isfinite().nonzero()[:, 0].tolist() for row in batch.targets]
    assert learnt == [[8, 9, 10], [3, 4, 5]]
    assert batch.targets[batch.targets.isfinite()].tolist() == [1.0] * 6


def test_the_loss_is_the_surprise_at_these_tokens(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(revising.policy_folder(tmp_path)).eval()
    question = RevisionQuestion("3?", PROBLEM, "1", (Pair((A,), B, 2), Pair((), C, None)), 0.5)
    batch = collate(encode_pairs([question], revising.tokenizer(), separator="\n0\n", window=4))
    with torch.no_grad():
        reviser = Reviser(model)
        loss = reviser.loss(reviser(batch.ids, batch.mask, batch.solution), batch.targets)
        expected = 0.0
        for text, start in (("3?\naa\n0\nbb", 8), ("3?\ncc", 3)):
            ids = torch.tensor([[*revising.tokenizer()(text)["input_ids"], revising.END]])
            logprobs = model(ids).logits[0].log_softmax(-1)
            expected -= sum(float(logprobs[i - 1, ids[0, i]]) for i in range(start, ids.shape[1]))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_prompt_is_the_one_that_is_revised_from() -> None:
    """The window holds the latest attempts; the tokens are those that an engine makes of the same text."""
    ((*ids,),) = encoded(Pair((A, B, C), D, 1), window=2)
    prompt = revision_prompt(PROBLEM.prompt, (B, C), "\n0\n")
    before = revising.tokenizer()(prompt)["input_ids"]
    assert ids == [*before, *revising.tokenizer()(D, add_special_tokens=False)["input_ids"], revising.END]


def test_a_target_that_the_tokenizer_cannot_write_is_left_out() -> None:
    assert len(encoded(Pair((), "é", None), Pair(("é",), A, 1))) == 1


def test_the_target_stands_for_some_attempts() -> None:
    """A pair without context stays a first attempt; which others are changed depends on the question and the seed."""
    pairs = (Pair((), A), Pair((B, C), D, 2), *(Pair((B, C), chr(ord("a") + i % 10), 2) for i in range(400)))
    question = RevisionQuestion("3?", PROBLEM, "1", pairs, 0.25)
    other = RevisionQuestion("4?", PROBLEM, "1", pairs, 1.0)
    assert keep_some([question], 0, seed=0) == [question]
    (every,) = keep_some([question], 1, seed=0)
    assert every.pairs[:2] == (Pair((), A), Pair((D, D), D, 0))
    (some,) = keep_some([question], 0.25, seed=0)
    for place, attempt in enumerate((B, C)):
        found = [(pair.context[place], pair.target) for pair in some.pairs[1:]]
        assert all(seen in (attempt, target) for seen, target in found)
        assert 70 < sum(seen == target for seen, target in found) < 130
    assert all(pair.distance == (0 if pair.context[-1] == pair.target else 2) for pair in some.pairs[1:])
    assert {len(set(pair.context) - {pair.target}) for pair in some.pairs[1:]} == {0, 1, 2}
    assert keep_some([other, question], 0.25, seed=0)[1] == some
    assert keep_some([other], 0.25, seed=0)[0].pairs != some.pairs
    assert keep_some([question], 0.25, seed=1)[0].pairs != some.pairs
    assert keep_some([question, other], "on_policy", seed=0) == [some, *keep_some([other], 1, seed=0)]


def test_pair_files_with_questions_that_have_none(tmp_path: Path) -> None:
    data = read_revision_data([makers.write(tmp_path / "p.jsonl", revising.pair_rows(questions=3, pairs=2))], "pairs")
    assert [len(question.pairs) for question in data.questions] == [0, 2, 2]
    assert data.questions[1].problem == Problem("q/1", "1?\n", ("\n\n",), 6, "1?")
    assert (data.run.max_tokens, data.run.separator, data.run.window) == (6, None, None)


def test_rest_em_learns_the_first_correct_attempt_of_each_chain(tmp_path: Path) -> None:
    wrong, right = revising.attempt(A, "0", False), revising.attempt(B, "1", True)
    rows = revising.chain_rows([[wrong, wrong, right, right], [right, wrong, wrong, right], [wrong] * 4], questions=1)
    data = read_revision_data([makers.write(tmp_path / "c.jsonl", rows)], "rest-em")
    assert [(pair.context, pair.target) for pair in data.questions[0].pairs] == [((A, A), B), ((), B)]
    assert (data.run.separator, data.run.window) == ("\n0\n", 2)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    one = makers.write(tmp_path / "one.jsonl", revising.pair_rows(questions=2))
    other = makers.write(tmp_path / "other.jsonl", revising.pair_rows(questions=2, max_tokens=7))
    with pytest.raises(TtsEvalError, match=r"other\.jsonl was made in another way than .*one\.jsonl.*max_tokens"):
        read_revision_data([one, other], "pairs")
    with pytest.raises(TtsEvalError, match=r"one\.jsonl:2: chains is missing.*--recipe rest-em takes a revision chain"):
        read_revision_data([one], "rest-em")
    makers.write(one, revising.pair_rows(questions=2)[1:])
    with pytest.raises(TtsEvalError, match="has no header"):
        read_revision_data([one], "pairs")


def written(search: Search, texts: list[str]) -> tuple[Outcome, tuple[str, ...]]:
    """Runs a search on a policy that writes these texts one after the other.

    Returns:
        The outcome, and what a verifier reads before each attempt.
    """
    left, read, reply = iter(texts), (), None
    while True:
        try:
            request = search.send(reply)
        except StopIteration as done:
            return done.value, read
        if isinstance(request, Score):
            read, reply = request.prompts, ((0.5,),) * len(request.prefixes)
        else:
            paths = [
                (*prefix.path, child)
                for prefix, count in zip(request.prefixes, request.counts)
                for child in range(count)
            ]
            reply = tuple(Prefix(path, (next(left),), finish="eos") for path in paths)


def test_a_verifier_learns_behind_what_it_will_read_in_a_search(tmp_path: Path) -> None:
    """Two chains of four attempts with a window of 2: the prompts of training are those of the search's own request."""

    def prompt(seen: Sequence[str]) -> str:
        return revision_prompt(PROBLEM.prompt, seen, "\n0\n")

    search = revise(2, 4, prompt, window=2, scored=True, history=True)
    outcome, read = written(search, [A, B, C, D, E, F, A + B, C + D])
    record = chain_problem(
        PROBLEM, "1", outcome, Usage(), extract=lambda text: text[0], grade=lambda pairs: [a == "c" for _, a in pairs]
    )
    run = revising.run_of(window=2, separator="\n0\n")
    path = makers.write(tmp_path / "c.jsonl", [{"schema": 1, "run": run}, record.to_json()])
    examples = read_training_data([path], history=True).examples
    assert [example.prompt for example in examples] == list(read)
    assert examples[3].prompt == "3?\ncc\n0\nee\n0\n"  # the first chain is aa, cc, ee, aabb
    assert [(example.steps, example.outcome) for example in examples[:2]] == [((A,), 0.0), ((C,), 1.0)]
    plain = read_training_data([path]).examples
    assert {example.prompt for example in plain} == {PROBLEM.prompt}
    assert [example.steps for example in plain] == [example.steps for example in examples]


def test_an_attempt_without_an_answer_is_history_but_no_example(tmp_path: Path) -> None:
    chain = [revising.attempt(A, None, False), revising.attempt(B, "1", True)]
    path = makers.write(tmp_path / "c.jsonl", revising.chain_rows([chain], questions=1))
    (example,) = read_training_data([path], history=True).examples
    assert (example.prompt, example.steps, example.labels) == ("0?\naa\n0\n", (B,), (None,))


def test_labelled_solutions_have_no_history(tmp_path: Path) -> None:
    path = makers.write(tmp_path / "l.jsonl", makers.label_rows(questions=2))
    with pytest.raises(TtsEvalError, match=r"l\.jsonl: has no chains, so nothing has a history"):
        read_training_data([path], history=True)
