"""Texts that a model wrote, for a line of a terminal."""

from __future__ import annotations


def one_line(text: str, width: int) -> str:
    """Escapes all that isn't printable, so that no text moves the cursor or breaks the line, and shortens the rest.

    Args:
        text: Anything.
        width: Most characters of the result, at least 1.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text.strip())
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"
