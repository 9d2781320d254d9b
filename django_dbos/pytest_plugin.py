"""A plugin that pytest loads by itself where django-dbos is installed. It imports nothing of ours until it is used."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import Tools


@pytest.fixture
def dbos(db: None) -> "Iterator[Tools]":
    """Run, crash and recover workflows, and move their clock; no wait blocks the test."""
    from .testing import Tools, conducted  # not before the apps are ready

    with conducted():
        yield Tools()
