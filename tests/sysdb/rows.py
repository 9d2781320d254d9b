"""Rows as the tests of this floor need them, and threads with connections of their own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from django.db import connection, connections, transaction
from django.db.models.functions import Now

from django_dbos.models import Executor, Workflow
from django_dbos.states import ExecutorState, WorkflowStatus
from django_dbos.sysdb import vendor
from django_dbos.sysdb.queues import Claimant

T = TypeVar("T")

#: Tests of one thread: rolled back in the end, which is fast.
rolled_back = pytest.mark.django_db
#: Tests of several threads: committed, and the tables emptied in the end.
committed = pytest.mark.django_db(transaction=True)
postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")

#: The function that the rows below are runs of.
NAME = "some_workflow"


def workflow(workflow_id: str = "w", status: str = WorkflowStatus.ENQUEUED, **columns: Any) -> Workflow:
    """A workflow's row."""
    return Workflow.objects.create(id=workflow_id, status=status, **{"name": NAME, **columns})


def owned(workflow_id: str = "w", executor_id: str = "me", epoch: int = 1, **columns: Any) -> Workflow:
    """The row of a workflow that an executor has claimed ``epoch`` times."""
    values = {"executor_id": executor_id, "epoch": epoch, "attempts": epoch, **columns}
    return workflow(workflow_id, WorkflowStatus.PENDING, **values)


def executor(executor_id: str, *, silent_for: float = 0, state: str = ExecutorState.RUNNING) -> Executor:
    """An executor whose last heartbeat was so many seconds ago, by the database's clock."""
    heartbeat_at = Now() - timedelta(seconds=silent_for)
    return Executor.objects.create(id=executor_id, pid=1, state=state, heartbeat_at=heartbeat_at)


def seconds_since(moment: datetime | None) -> float:
    """How long ago something was, by the database's clock."""
    assert moment is not None
    return (vendor.current_time() - moment).total_seconds()


def state_of(executor_id: str) -> str:
    """What an executor's row says."""
    return Executor.objects.get(pk=executor_id).state


def claimant(executor_id: str = "me", *names: str, version: str = "") -> Claimant:
    """Who claims; by default it knows the function of these rows. It knows one class and one instance."""
    return Claimant(
        executor_id=executor_id,
        names=names or (NAME,),
        receivers=[("Shop", ""), ("Shop", "main")],
        application_version=version,
    )


def together(*works: Callable[[], T], timeout: float = 20.0) -> list[T]:
    """Do each on a thread and a connection of its own, all beginning at the same time; what they returned."""
    results: dict[int, T] = {}
    errors: list[BaseException] = []
    begin = threading.Barrier(len(works))

    def run(number: int, work: Callable[[], T]) -> None:
        try:
            begin.wait(timeout)
            results[number] = work()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
    if errors:
        raise errors[0]
    assert len(results) == len(works), "a thread did not end"
    return [results[number] for number in range(len(works))]


def elsewhere(work: Callable[[], T]) -> T:
    """Do something on a connection of its own, as another process would."""
    return together(work)[0]


@contextmanager
def holding(lock: Callable[[], object]) -> Iterator[None]:
    """Another connection has a transaction open in which ``lock`` was done, for as long as the block runs."""
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                lock()
                locked.set()
                done.wait(20)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert locked.wait(20)
        yield
    finally:
        done.set()
        thread.join(20)
