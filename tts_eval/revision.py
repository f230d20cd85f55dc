"""How earlier attempts get into the prompt of the next one (Snell et al. 2024, section 4): for training and inference.

Both call this, so they can't drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence


SEPARATOR = "\n\nA corrected solution:\n\n"
"""What follows each attempt unless a model was trained with something else; the paper doesn't state its own."""


def revision_prompt(prompt: str, attempts: Sequence[str], separator: str) -> str:
    """The prompt of an attempt that sees earlier ones.

    Args:
        prompt: The problem's own prompt.
        attempts: Earlier attempts, the oldest first, at most as many as the window holds.
        separator: What follows each of them.

    Returns:
        The prompt alone without any attempt, so that a first attempt is an ordinary sample.
    """
    return prompt + "".join(attempt + separator for attempt in attempts)
