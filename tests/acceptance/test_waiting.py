"""Waiting costs nothing: many workflows wait in one real worker, on a few connections, and go on when they shall.

``DBOS_TEST_WAITING=full`` runs the full size: see FULL.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection, connections
from django.db.transaction import atomic

from django_dbos import SendMessage, WorkflowHandle, send_bulk, wait_all
from django_dbos.models import Step, Workflow
from tests.acceptance import workflows
from tests.support import WorkerProcess, eventually

pytestmark = pytest.mark.django_db(transaction=True)

#: How many wait at a time: of sync ones, each of which has a thread, and of async ones.
FULL = (1000, 10_000)
SYNC, ASYNC = FULL if os.environ.get("DBOS_TEST_WAITING") == "full" else (300, 2000)

#: The most connections of one worker that runs nothing but waits, and of one whose workflows all wait.
CONNECTIONS, IDLE = 20, 5
#: How long the slowest machine may take, in seconds.
PATIENCE = 300.0
#: What a waiting workflow may occupy, in kilobytes; far more than docs/worker.md says, and far less than a leak would.
MEMORY = 400


def resident(pid: int) -> int:
    """The resident memory of a process, in kilobytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


def call_ourselves_tests() -> None:
    """Name this thread's connection, so that it is told from a worker's."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET application_name = 'dbos tests'")


def connections_of_others() -> int:
    """How many connections there are to the database, besides those that are called as above."""
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = CURRENT_DATABASE()"
            " AND backend_type = 'client backend' AND application_name <> 'dbos tests'"
        )
        return int(cursor.fetchone()[0])


@contextmanager
def watched_connections() -> Iterator[list[int]]:
    """Every number of connections of others that there was meanwhile, seen from a thread of its own."""
    seen, over = [0], threading.Event()

    def watch() -> None:
        call_ourselves_tests()
        while not over.wait(0.005):
            seen.append(connections_of_others())
        connections.close_all()

    call_ourselves_tests()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    """A worker with the default settings, ready."""
    with WorkerProcess(settings="tests.acceptance.default_settings") as process:
        process.wait_ready()
        yield process


def enqueued(function: Callable[..., object], count: int, *args: object) -> list[WorkflowHandle[object]]:
    """So many runs of a function, in one transaction."""
    with atomic():
        return [workflows.plain.enqueue(function, *args) for _ in range(count)]


def all_wait(count: int) -> Callable[[], bool]:
    """Whether so many workflows have recorded when their wait ends."""
    return lambda: Step.objects.filter(name="DBOS.sleep").count() == count


def all_have_ended() -> bool:
    return not Workflow.objects.exclude(status="SUCCESS").exists()


@pytest.mark.parametrize(
    ("function", "count"),
    [(workflows.waiting_receiver, SYNC), (workflows.awaiting_receiver, ASYNC)],
    ids=["sync", "async"],
)
def test_a_few_connections_are_enough_for_all_who_receive(
    worker: WorkerProcess, function: Callable[..., object], count: int
) -> None:
    idle = resident(worker.pid)
    with watched_connections() as seen:
        handles = enqueued(function, count)
        eventually(all_wait(count), PATIENCE)
        eventually(lambda: connections_of_others() <= IDLE, PATIENCE)
        each = (resident(worker.pid) - idle) / count
        send_bulk([SendMessage(handle.workflow_id, place) for place, handle in enumerate(handles)])
        eventually(all_have_ended, PATIENCE)
    print(f"{count} x {function.__name__}: {each:.0f} kB each, {max(seen)} connections at most")  # noqa: T201
    assert wait_all(handles) == list(range(count))
    assert max(seen) <= CONNECTIONS
    assert each <= MEMORY


@pytest.mark.parametrize(
    ("function", "count"),
    [(workflows.waiting_sleeper, SYNC), (workflows.awaiting_sleeper, ASYNC)],
    ids=["sync", "async"],
)
def test_a_few_connections_are_enough_for_all_who_sleep_and_wake_up_together(
    worker: WorkerProcess, function: Callable[..., object], count: int
) -> None:
    with watched_connections() as seen:
        enqueued(function, count, 5.0)
        eventually(all_have_ended, PATIENCE)
    assert max(seen) <= CONNECTIONS


def family_size(depth: int, width: int) -> int:
    """How many there are in a family: each has one called child, one on a queue, and the others started."""
    return 1 if depth == 0 else 1 + (width + 1) * family_size(depth - 1, width)


@pytest.mark.parametrize("function", [workflows.waiting_ancestor, workflows.awaiting_ancestor], ids=["sync", "async"])
def test_families_of_five_generations_share_one_slot(
    start_worker: Callable[..., WorkerProcess], function: Callable[..., object]
) -> None:
    start_worker("--concurrency", "1")
    (handle,) = enqueued(function, 1, 5, 2)
    assert handle.get_result(PATIENCE) == family_size(5, 2) == Workflow.objects.count()
