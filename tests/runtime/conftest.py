"""What the tests of the runtime share."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_dbos import clock


@dataclass
class Opened:
    """Every connection that was opened since, with the name of its thread; by Django that is, not the listener's."""

    connections: list[tuple[str, BaseDatabaseWrapper]] = field(default_factory=list)

    def by(self, prefix: str) -> list[BaseDatabaseWrapper]:
        """Those opened on threads whose names begin so."""
        return [database for thread, database in self.connections if thread.startswith(prefix)]

    def still_open(self, prefix: str = "") -> int:
        """How many of those are open now."""
        return sum(
            database.connection is not None for database in {id(each): each for each in self.by(prefix)}.values()
        )


@pytest.fixture
def opened() -> Iterator[Opened]:
    """See Opened."""
    seen = Opened()

    def add(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        seen.connections.append((threading.current_thread().name, connection))

    connection_created.connect(add)
    yield seen
    connection_created.disconnect(add)


class Time:
    """The monotonic clock of this process, which can be moved on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real, self._ahead = clock.monotonic, 0.0
        monkeypatch.setattr(clock, "monotonic", lambda: real() + self._ahead)

    def advance(self, seconds: float) -> None:
        """Let so much time pass here; the database's clock does not know of it."""
        self._ahead += seconds


@pytest.fixture
def passing_time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """See Time."""
    return Time(monkeypatch)


def threads(prefix: str) -> list[threading.Thread]:
    """The living threads whose names begin so."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]


@pytest.fixture
def inline_journal(settings: Any) -> None:
    """Runtimes whose workflows each write for themselves, on their own connections."""
    settings.DBOS = {**settings.DBOS, "GROUPED_JOURNAL": False}
