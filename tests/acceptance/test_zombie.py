"""A process that was stopped past its lease and goes on: it writes nothing, and then takes new work."""

import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psutil
import pytest
from django.db import connection

from django_dbos import start_workflow
from django_dbos.models import Executor, Step, Workflow
from django_dbos.sysdb.vendor import current_time
from tests.acceptance import workflows
from tests.acceptance.callers import direct_call
from tests.acceptance.observed import Gate, Ledger
from tests.models import Row
from tests.support import WorkerProcess, eventually

pytestmark = pytest.mark.django_db(transaction=True)

StartWorker = Callable[..., WorkerProcess]

NOT_ON_SQLITE = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="stopped there it holds SQLite's write lock: nobody can take over"
)


def recorders(workflow_id: str) -> list[str]:
    """By whom the steps of a workflow were recorded, in order."""
    return list(Step.objects.filter(workflow_id=workflow_id).order_by("number").values_list("executor_id", flat=True))


def stop(process: subprocess.Popen[Any]) -> None:
    """
    SIGSTOP. On SQLite at a moment at which no thread of it is writing: it would hold the one write lock, and there
    would be nothing to see (one that is stopped inside a transaction has a test of its own).
    """
    while True:
        process.send_signal(signal.SIGSTOP)
        eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        if connection.vendor != "sqlite" or others_can_write():
            return
        process.send_signal(signal.SIGCONT)


def others_can_write() -> bool:
    """Whether the write lock of the SQLite file can be had within a second."""
    database = sqlite3.connect(connection.settings_dict["NAME"], timeout=1, isolation_level=None)
    with closing(database):
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


def stop_when_settled(worker: WorkerProcess, ledger: Ledger) -> None:
    """Stop a worker (SIGSTOP) once what its bodies have ended is recorded, which may be a moment after the end."""
    eventually(lambda: Step.objects.count() == len(ledger.entries("end")))
    stop(worker.process)


def hand_over(
    workflow: Callable[[Ledger, Gate], Any], ledger: Ledger, gate: Gate, start_worker: StartWorker
) -> tuple[WorkerProcess, WorkerProcess, str]:
    """Stop a worker (SIGSTOP) that is held at the gate, and let another one finish its workflow; both, and its id."""
    # Only one at a time: that it takes new work shows that it has let go of the old.
    zombie = start_worker("--concurrency", "1")
    handle = start_workflow(workflow, ledger, gate)
    assert gate.wait_held() == zombie.pid
    stop_when_settled(zombie, ledger)
    heir = start_worker()
    handle.get_result(timeout=30)
    assert handle.get_status().executor_id == heir.executor_id
    return zombie, heir, handle.workflow_id


def wake_up(zombie: WorkerProcess, heir: WorkerProcess, ledger: Ledger, gate: Gate) -> None:
    """Let it go on where it was, without the other one, and see it run new work."""
    heir.terminate()
    assert heir.wait() == 0
    handle = start_workflow(workflows.where, ledger)
    queued = workflows.plain.enqueue(workflows.awhere, ledger)
    gate.open()
    zombie.cont()
    assert handle.get_result(timeout=30) == queued.get_result(timeout=30) == zombie.pid
    # It was given up, and says with its next heartbeat that it lives.
    eventually(lambda: Executor.objects.get(pk=zombie.executor_id).state == "running")


def snapshot(workflow_id: str) -> list[Any]:
    """Everything that a zombie could have written."""
    return [
        Workflow.objects.filter(pk=workflow_id).values().get(),
        list(Step.objects.filter(workflow_id=workflow_id).order_by("number").values()),
        list(Row.objects.order_by("name").values()),
    ]


@pytest.mark.parametrize("workflow", [workflows.held_in_step, workflows.aheld_in_step])
def test_a_worker_stopped_in_a_step_records_nothing_and_takes_new_work(
    workflow: Callable[[Ledger, Gate], Any], ledger: Ledger, gate: Gate, start_worker: StartWorker
) -> None:
    zombie, heir, workflow_id = hand_over(workflow, ledger, gate, start_worker)
    finished = snapshot(workflow_id)
    assert recorders(workflow_id)[-1] == heir.executor_id

    wake_up(zombie, heir, ledger, gate)

    held = [entry for entry in ledger.entries("end", pid=zombie.pid) if entry.name in ("held_step", "aheld_step")]
    assert len(held) == 1, "the body in which it was stopped did not come to its end"
    assert snapshot(workflow_id) == finished


def test_the_transaction_of_a_worker_stopped_before_it_is_rolled_back(
    ledger: Ledger, gate: Gate, start_worker: StartWorker
) -> None:
    zombie, heir, workflow_id = hand_over(workflows.held_before_transaction, ledger, gate, start_worker)
    finished = snapshot(workflow_id)

    wake_up(zombie, heir, ledger, gate)

    assert len(ledger.entries("end", name="booked", pid=zombie.pid)) == 1, "it did not come to its commit"
    assert [row.pid for row in Row.objects.all()] == [heir.pid]
    assert snapshot(workflow_id) == finished


@NOT_ON_SQLITE
def test_the_transaction_of_a_worker_stopped_inside_it_is_rolled_back(
    ledger: Ledger, gate: Gate, start_worker: StartWorker
) -> None:
    zombie, heir, workflow_id = hand_over(workflows.held_in_transaction, ledger, gate, start_worker)
    finished = snapshot(workflow_id)

    wake_up(zombie, heir, ledger, gate)

    assert len(ledger.entries("end", name="held_transaction", pid=zombie.pid)) == 1, "it did not come to its commit"
    assert [row.pid for row in Row.objects.all()] == [heir.pid]
    assert snapshot(workflow_id) == finished


@pytest.mark.parametrize(
    "workflow",
    [
        workflows.held_in_step,
        workflows.aheld_in_step,
        workflows.held_before_transaction,
        pytest.param(workflows.held_in_transaction, marks=NOT_ON_SQLITE),
    ],
)
def test_a_worker_that_goes_on_while_another_is_at_the_same_step_writes_nothing(
    workflow: Callable[[Ledger, Gate], Any], ledger: Ledger, new_gate: Callable[..., Gate], start_worker: StartWorker
) -> None:
    gate = new_gate("gate", holds=2)
    zombie = start_worker("--concurrency", "1")
    handle = start_workflow(workflow, ledger, gate)
    assert gate.wait_held() == zombie.pid
    stop_when_settled(zombie, ledger)
    heir = start_worker("--concurrency", "1")
    assert gate.wait_held(1) == heir.pid
    before = snapshot(handle.workflow_id)

    gate.open()
    zombie.cont()
    # The other one's only slot is taken: that the zombie runs this shows that it has let go of the old.
    assert start_workflow(workflows.where, ledger).get_result(timeout=30) == zombie.pid
    [lost] = ledger.entries("end", pid=zombie.pid)[-2:-1]
    assert lost.name in ("held_step", "aheld_step", "booked", "held_transaction"), "it did not come to its end"
    assert snapshot(handle.workflow_id) == before
    assert handle.get_status().executor_id == heir.executor_id

    gate.open(1)
    handle.get_result(timeout=30)
    assert [row.pid for row in Row.objects.all()] in ([], [heir.pid])
    assert recorders(handle.workflow_id)[-1] == heir.executor_id
    assert handle.get_status().attempts == 2


@pytest.mark.skipif(connection.vendor != "sqlite", reason="elsewhere another worker takes over")
def test_a_worker_stopped_inside_a_transaction_keeps_its_workflow_while_nobody_can_write(
    ledger: Ledger, gate: Gate, start_worker: StartWorker
) -> None:
    """
    SQLite has one writer at a time, and BEGIN IMMEDIATE makes it this one before the first line of the body runs:
    as long as it is stopped nobody can recover anything. Then its commit is as good as any: it happens once.
    """
    zombie, heir = start_worker("--concurrency", "1"), start_worker("--queue", "acceptance-other")
    handle = workflows.plain.enqueue(workflows.held_in_transaction, ledger, gate)
    assert gate.wait_held() == zombie.pid
    zombie.suspend()
    silent = Executor.objects.get(pk=zombie.executor_id).heartbeat_at
    # The other one cannot write either: nobody beats, so time has to be seen by the clock.
    eventually(lambda: (current_time() - silent).total_seconds() > 1.5)
    gate.open()
    zombie.cont()

    pids = handle.get_result(timeout=30)
    assert [row.pid for row in Row.objects.all()] == [zombie.pid]
    assert pids[:2] == [zombie.pid, zombie.pid]
    assert heir.alive
    assert start_workflow(workflows.where, ledger).get_result(timeout=30) in (zombie.pid, heir.pid)


def test_a_direct_call_that_lost_its_workflow_returns_what_the_winner_made_of_it(
    ledger: Ledger, gate: Gate, start_worker: StartWorker
) -> None:
    with direct_call("held_in_step", ledger, gate) as caller:
        assert gate.wait_held() == caller.pid
        stop(caller)
        worker = start_worker()
        eventually(lambda: Workflow.objects.succeeded().filter(pk="called").exists(), 30)
        row = Workflow.objects.get(pk="called")
        finished = snapshot("called")
        gate.open()
        caller.send_signal(signal.SIGCONT)
        output, _ = caller.communicate(timeout=30)
    assert row.executor_id == worker.executor_id
    assert output.strip() == str([caller.pid, worker.pid, worker.pid])
    assert snapshot("called") == finished
