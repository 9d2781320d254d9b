"""What the acceptance tests share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.db import connection

from tests.acceptance.observed import Gate, Ledger
from tests.support import WorkerProcess, eventually

NewGate = Callable[..., Gate]


@pytest.fixture(autouse=True)
def ended_sessions(request: pytest.FixtureRequest, _django_db_helper: None) -> Iterator[None]:
    """The server ends the last statement of a killed worker before the tables are emptied under it."""
    yield
    if request.node.get_closest_marker("django_db") is not None and connection.vendor == "postgresql":
        eventually(lambda: not busy_sessions(), message="a session is still at work")


def busy_sessions() -> list[str]:
    """What other sessions of this database are executing, or have begun and not committed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT query FROM pg_stat_activity WHERE datname = CURRENT_DATABASE() AND pid <> PG_BACKEND_PID()"
            " AND backend_type = 'client backend' AND state <> 'idle'"
        )
        return [query for (query,) in cursor.fetchall()]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """An empty ledger."""
    return Ledger(tmp_path / "ledger.jsonl")


@pytest.fixture
def new_gate(tmp_path: Path) -> NewGate:
    """``new_gate(name, holds=1)``: a closed gate of that name."""
    return lambda name, holds=1: Gate(tmp_path / name, holds)


@pytest.fixture
def gate(new_gate: NewGate) -> Gate:
    """A closed gate."""
    return new_gate("gate")


@pytest.fixture
def start_patient_worker() -> Iterator[Callable[..., WorkerProcess]]:
    """See start_worker(); these workers take nobody for dead, so what goes on elsewhere was handed over."""
    with ExitStack() as stack:

        def start(*args: str) -> WorkerProcess:
            worker = WorkerProcess(*args, settings="tests.acceptance.patient_settings")
            stack.callback(worker.close)
            stack.callback(lambda: print(worker.report()))  # noqa: T201 - pytest shows it with a failure
            worker.start().wait_ready()
            return worker

        yield start
