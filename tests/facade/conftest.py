"""Each test has a life of its own: nothing registered before, and nothing left behind."""

from collections.abc import Iterator

import pytest

from django_dbos import DBOS


@pytest.fixture(autouse=True)
def one_life(transactional_db: None) -> Iterator[None]:
    """A program that begins with the test and ends with it."""
    yield
    DBOS.destroy(destroy_registry=True)
