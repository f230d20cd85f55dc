"""A zygote for all tests here, and the page that they fill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Zygote
from page import FaultsPage
from runs import arguments, clock


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """As everywhere, with a clock that can be turned back."""
    folder = tmp_path_factory.mktemp("zygote")
    with Zygote(folder, clock(folder)) as started:
        yield started


@pytest.fixture(scope="session")
def whole(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the run that nothing happens to: six problems, four samples each."""
    folder = tmp_path_factory.mktemp("whole")
    zygote.done(arguments(folder))
    return folder


@pytest.fixture(scope="session")
def page() -> Iterator[FaultsPage]:
    page = FaultsPage()
    yield page
    page.write()
