"""From training examples to tensors: tokens, where each label sits, and which examples go together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from tts_eval.training.data import TrainingExample
from tts_eval.types import TtsEvalError
from tts_eval.verifiers.rendering import render_steps


Kind = Literal["prm", "orm"]
"""A process verifier is trained on the label of every step, an outcome verifier on the outcome at the last one."""

_POOL = 50  # batches; sorting by length within that many at once leaves little padding and enough chance


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A training example in tokens.

    Attributes:
        ids: Prompt and steps, [tokens].
        start: Index of the solution's first token.
        ends: Index of the last token of each labelled step, [labels].
        labels: Values in [0, 1], [labels]; NaN for a step without one.
        question: See `TrainingExample`.
    """

    ids: NDArray[np.int32]
    start: int
    ends: NDArray[np.int32]
    labels: NDArray[np.float32]
    question: str


class Batch(NamedTuple):
    """Examples padded on the right.

    Attributes:
        ids: [rows, tokens].
        mask: 1 where there is a token, [rows, tokens].
        targets: Labels where a step ends, NaN elsewhere, [rows, tokens].
        solution: 1 where a token is the solution's, [rows, tokens].
    """

    ids: torch.Tensor
    mask: torch.Tensor
    targets: torch.Tensor
    solution: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """Moves all tensors."""
        return Batch(*(tensor.to(device) for tensor in self))


def encode(examples: Sequence[TrainingExample], tokenizer: Any, kind: Kind, delimiter: str) -> list[Encoded]:
    """Tokenises examples exactly as a verifier of ours renders what it scores (`render_steps`).

    Examples without a label of the kind (PRM800K knows no outcomes) are left out, and so are those that the tokenizer
    can't write: a policy may put tokens together to a text that it would itself read otherwise.

    Raises:
        TtsEvalError: If the tokenizer can't write most of them.
    """
    encoded = []
    unknown: list[str] = []
    for example in examples:
        labels = np.array([np.nan if label is None else label for label in example.labels], dtype=np.float32)
        if kind == "orm":
            labels = np.array([] if example.outcome is None else [example.outcome], dtype=np.float32)
        if not example.steps or np.isnan(labels).all():
            continue
        rendered = render_steps(tokenizer, example.prompt, example.steps, delimiter)
        start = rendered.start
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in rendered.ids[start:]:
            unknown.append(example.source)
            continue
        ends = np.array(rendered.positions[-len(labels) :], dtype=np.int32)
        encoded.append(Encoded(np.array(rendered.ids, dtype=np.int32), start, ends, labels, example.question))
    if len(unknown) > len(encoded):
        raise TtsEvalError(
            f"{unknown[0]}: a step has characters that the backbone's tokenizer doesn't know, and so have most others; "
            "use the policy's model as --backbone"
        )
    return encoded


def labelled(examples: Sequence[Encoded]) -> int:
    """How many labels examples have."""
    return sum(int((~np.isnan(example.labels)).sum()) for example in examples)


def collate(examples: Sequence[Encoded]) -> Batch:
    """Pads examples to a batch."""
    ids, targets, solution = [], [], []
    for example in examples:
        at_ends = torch.full((len(example.ids),), torch.nan)
        at_ends[example.ends] = torch.from_numpy(example.labels)
        ids.append(torch.from_numpy(example.ids).long())
        targets.append(at_ends)
        solution.append((torch.arange(len(example.ids)) >= example.start).long())
    return Batch(
        pad_sequence(ids, batch_first=True),
        pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        pad_sequence(targets, batch_first=True, padding_value=torch.nan),
        pad_sequence(solution, batch_first=True),
    )


def endless_batches(lengths: Sequence[int], batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yields batches of indices, epoch after epoch, each epoch in an order of its own.

    Examples of a batch are of similar length. What doesn't fill a batch is left out of its epoch, unless that would be
    all.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples a batch.
        seed: Decides the orders.
    """
    for epoch in itertools.count():
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(lengths))
        order = order[: max(batch_size, len(order) // batch_size * batch_size)]
        pools = [order[i : i + _POOL * batch_size] for i in range(0, len(order), _POOL * batch_size)]
        order = np.concatenate([pool[np.argsort(np.take(lengths, pool), kind="stable")] for pool in pools])
        batches = [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
        yield from (batches[i] for i in rng.permutation(len(batches)))


def pieces(examples: Sequence[Encoded], batch_tokens: int) -> Iterator[list[Encoded]]:
    """Cuts examples, in their order, into batches of at most `batch_tokens` tokens, padding included, or of one."""
    piece: list[Encoded] = []
    longest = 0
    for example in examples:
        longest = max(longest, len(example.ids))
        if piece and (len(piece) + 1) * longest > batch_tokens:
            yield piece
            piece, longest = [], len(example.ids)
        piece.append(example)
    if piece:
        yield piece
