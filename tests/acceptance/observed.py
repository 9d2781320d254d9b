"""What a test sees of the bodies that run in other processes, and how it holds them where it wants them.

Both live in files, not in the database: they are written whatever becomes of a connection, and survive SIGKILL.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django_dbos import step_id, workflow_id
from tests.support import INTERVAL, eventually

#: How long a body stays at a gate that nobody opens, in seconds: longer than any test.
HELD = 120.0


@dataclass(frozen=True)
class Entry:
    """One line of a ledger: ``mark`` is "begin", "end" or "dead" (of a whole process)."""

    mark: str
    #: ``<workflow id>#<step number>``; empty for "dead".
    key: str
    #: The function's name.
    name: str
    pid: int
    #: Seconds since the epoch.
    at: float

    @property
    def workflow(self) -> str:
        """The id of the workflow."""
        return self.key.rpartition("#")[0]


@dataclass(frozen=True)
class Ledger:
    """Which bodies began and ended in which process, in the order in which it happened."""

    path: Path

    def write(self, mark: str, *, name: str = "", key: str = "", pid: int = 0) -> None:
        """Add a line, in one write that no other process's can come between."""
        line = json.dumps({"mark": mark, "key": key, "name": name, "pid": pid or os.getpid(), "at": time.time()})
        with open(self.path, "ab", buffering=0) as file:
            file.write(line.encode() + b"\n")

    @contextmanager
    def running(self, name: str) -> Iterator[str]:
        """Mark the begin and the end of the step that calls; yields its key."""
        key = f"{workflow_id()}#{step_id()}"
        self.write("begin", name=name, key=key)
        yield key
        self.write("end", name=name, key=key)

    def entries(self, mark: str | None = None, *, name: str | None = None, pid: int | None = None) -> list[Entry]:
        """The lines so far; only those with this mark, of this function, of this process."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        entries = [Entry(**json.loads(line)) for line in lines]
        return [
            entry
            for entry in entries
            if mark in (None, entry.mark) and name in (None, entry.name) and pid in (None, entry.pid)
        ]

    def begun(self, name: str | None = None) -> int:
        """How many bodies (of this function) have begun."""
        return len(self.entries("begin", name=name))


@dataclass(frozen=True)
class Gate:
    """Holds the first ``holds`` bodies that come to it until the test lets them go; whoever comes later passes."""

    path: Path
    holds: int = 1

    def hold(self) -> None:
        """Called by a body; returns when it may pass."""
        place = self._take_place()
        if place is not None:
            eventually(self._pass(place).exists, HELD)

    async def ahold(self) -> None:
        """See hold()."""
        place = self._take_place()
        while place is not None and not self._pass(place).exists():
            await asyncio.sleep(INTERVAL)

    def wait_held(self, place: int = 0, timeout: float = 30.0) -> int:
        """Wait until a body is held here (0: the first one that came); its process id."""
        path = self._place(place)
        return int(eventually(lambda: path.exists() and path.read_text(), timeout, message="nobody came"))

    @property
    def is_visited(self) -> bool:
        """Whether any body has come here."""
        return self._place(0).exists()

    def open(self, place: int = 0) -> None:
        """Let the body go on."""
        self._pass(place).touch()

    def _place(self, place: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{place}")

    def _pass(self, place: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{place}.open")

    def _take_place(self) -> int | None:
        for place in range(self.holds):
            try:
                with open(self._place(place), "x") as file:
                    file.write(str(os.getpid()))
            except FileExistsError:
                continue
            return place
        return None
