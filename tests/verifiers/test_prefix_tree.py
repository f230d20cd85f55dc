from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tts_eval.verifiers.cache import PrefixTree, common_length


ALL = 10**6
"""Bytes that hold whatever is tried."""

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple), min_size=1, max_size=25)


def kv_of(ids: tuple[int, ...]) -> torch.Tensor:
    """Stand-in for keys and values: each token's depends on all tokens up to it, as the real ones do."""
    codes = [hash(ids[: end + 1]) % 2**31 for end in range(len(ids))]
    return torch.tensor(codes, dtype=torch.int64).expand(4, 2, -1)[..., None]  # [2 x layers, heads, tokens, dim]


def outputs_of(ids: tuple[int, ...]) -> torch.Tensor:
    return kv_of(ids)[0, 0]


@settings(max_examples=150, deadline=None)
@given(SEQUENCES, st.just(ALL) | st.integers(0, 3000))
def test_what_is_found_is_what_was_read(sequences: list[tuple[int, ...]], limit: int) -> None:
    tree = PrefixTree(limit)
    added: list[tuple[int, ...]] = []
    for ids in sequences:
        known = tree.find(ids)
        longest = max((common_length(ids, other) for other in added), default=0)
        assert known.length == longest if limit == ALL else known.length <= longest
        if known.length:
            assert torch.equal(torch.cat(known.kv, dim=2), kv_of(ids)[:, :, : known.length])
            assert torch.equal(torch.cat(known.outputs), outputs_of(ids)[: known.length])
            short = known.length // 2
            assert torch.equal(torch.cat(known.kv_until(short), dim=2), kv_of(ids)[:, :, :short])
        tree.add(ids, known.length, kv_of(ids)[:, :, known.length :], outputs_of(ids)[known.length :])
        added.append(ids)
        assert 0 <= tree.size <= limit


def test_the_least_recently_used_goes_first_and_never_a_stem_before_its_branches() -> None:
    token = kv_of((0,)).nbytes + outputs_of((0,)).nbytes
    tree = PrefixTree(6 * token)
    for ids in ((0, 0, 1, 1), (0, 0, 2, 2)):
        start = tree.find(ids).length
        tree.add(ids, start, kv_of(ids)[:, :, start:], outputs_of(ids)[start:])
    assert tree.size == 6 * token  # the two tokens that they share are kept once
    tree.find((0, 0, 1, 1))
    tree.add((2, 2), 0, kv_of((2, 2)), outputs_of((2, 2)))
    assert [tree.find(ids).length for ids in ((0, 0, 1, 1), (0, 0, 2, 2), (2, 2))] == [4, 2, 2]


def test_what_hangs_on_forgotten_tokens_is_not_kept() -> None:
    tree = PrefixTree(10_000)
    ids = (1, 2, 3, 4)
    tree.add(ids, 2, kv_of(ids)[:, :, 2:], outputs_of(ids)[2:])
    assert tree.size == 0 and tree.find(ids).length == 0


def test_kept_tokens_hold_no_memory_of_the_batch() -> None:
    batch = torch.zeros(4, 8, 2, 100, 1)
    tree = PrefixTree(10_000)
    tree.add((1, 2), 0, batch[:, 0, :, :2], torch.zeros(2, 1))
    assert tree.find((1, 2)).kv[0].untyped_storage().nbytes() == 4 * 2 * 2 * 4
