"""What token ids and texts have to do with each other: where steps end, and which tokenizer it was."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from tts_eval.engines.stops import Decode


def step_ends(decode: Decode, tokens: tuple[int, ...], steps: Sequence[str]) -> tuple[int, ...]:
    """Finds the token after which each step of a solution ends.

    Args:
        decode: Token ids to text.
        tokens: The solution's token ids; stop strings and end tokens at its end may have no text in `steps`.
        steps: Its text, cut into steps.

    Returns:
        For each step the smallest count of tokens whose text holds the step whole; for the last one all of them. A
        token that goes on into the next step counts as this one's.
    """
    ends: list[int] = []
    for text in accumulate(steps[:-1]):
        # Not by length: the pieces of a split character may decode to more characters than the whole of it.
        def reached(count: int, text: str = text) -> bool:
            return decode(tokens[:count]).startswith(text)

        ends.append(bisect_left(range(len(tokens)), True, lo=ends[-1] if ends else 0, key=reached))
    return (*ends, len(tokens)) if steps else ()


def decoder(tokenizer: Any) -> Decode:
    """Token ids to text as a transformers tokenizer has it, special tokens left out.

    A search decodes after every step, and what transformers puts around the tokenizer proper takes twice its time.
    """
    if tokenizer.is_fast and not tokenizer.clean_up_tokenization_spaces:
        return partial(tokenizer.backend_tokenizer.decode, skip_special_tokens=True)
    return partial(tokenizer.decode, skip_special_tokens=True)


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a prompt as lm-eval's `hf` makes them: a chat template may have written the start token already."""
    start = tokenizer.bos_token
    return list(tokenizer(text, add_special_tokens=not (start and text.startswith(start)))["input_ids"])


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """The tokens that `decoder` leaves out, which a problem may name as stop strings.

    Not all added tokens: Gemma has its runs of newlines among those, and decodes them like any text.
    """
    return {str(token): index for index, token in tokenizer.added_tokens_decoder.items() if token.special}


def vocabulary_hash(tokenizer: Any) -> str:
    r"""Names a transformers tokenizer by its vocabulary: the sha256 hex digest of its sorted lines `token\tid`.

    Two tokenizers with the same hash map the same tokens to the same ids, so a verifier can read what a policy wrote.
    """
    lines = sorted(f"{token}\t{index}" for token, index in tokenizer.get_vocab().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
