"""In which order MKL adds up a product, which decides its last digit."""

from __future__ import annotations

import os


def fix_order() -> None:
    """Asks MKL (x86 processors) for one order, whatever the number of rows and threads.

    It reads this when it first multiplies, so it must be called before any model is used; it costs nothing measurable.
    What the user has set stays.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
