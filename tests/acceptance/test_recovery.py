"""Nobody's work is lost with its worker: what becomes of it, and how soon."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from django_dbos import SetWorkflowID, WorkflowStatus, resume_workflow, start_workflow
from django_dbos.conf import conf
from django_dbos.exceptions import MaxRecoveryAttemptsExceeded
from django_dbos.models import Executor, Workflow
from django_dbos.sysdb.workflows import Submission, submit
from tests.acceptance import workflows
from tests.acceptance.callers import direct_call
from tests.acceptance.observed import Gate, Ledger
from tests.models import Row
from tests.support import WorkerProcess, eventually

pytestmark = pytest.mark.django_db(transaction=True)

StartWorker = Callable[..., WorkerProcess]
NewGate = Callable[..., Gate]

#: What two busy cores may add to a recovery, in seconds.
SLACK = 0.5


def test_an_idle_worker_goes_on_within_the_heartbeat_timeout_and_one_poll(
    ledger: Ledger, start_worker: StartWorker, new_gate: NewGate
) -> None:
    bound = conf.HEARTBEAT_TIMEOUT + conf.POLL_INTERVAL + SLACK
    victim = start_worker()
    for round_number in range(4):
        gate = new_gate(f"gate-{round_number}")
        handle = start_workflow(workflows.held_in_step, ledger, gate)
        assert gate.wait_held() == victim.pid
        heir = start_worker()

        killed_at = time.time()
        victim.kill()
        eventually(lambda heir=heir: ledger.entries("begin", name="held_step", pid=heir.pid))  # type: ignore[misc]
        repeated = ledger.entries("begin", name="held_step", pid=heir.pid)[0]
        assert repeated.at - killed_at < bound
        assert handle.get_result(timeout=30) == [victim.pid, heir.pid, heir.pid]
        victim = heir


def test_an_instances_workflow_goes_on_with_the_other_processs_instance_of_that_name(
    ledger: Ledger, start_worker: StartWorker, gate: Gate
) -> None:
    victim = start_worker()
    handle = start_workflow(workflows.south.held, ledger, gate)
    assert gate.wait_held() == victim.pid
    victim.kill()
    heir = start_worker()
    assert handle.get_result(timeout=30) == [heir.pid, victim.pid, heir.pid, heir.pid]
    assert (handle.get_status().class_name, handle.get_status().instance_name) == ("Station", "south")


def test_a_dead_executor_is_marked_lost_and_a_stopped_one_stopped(
    ledger: Ledger, start_worker: StartWorker, gate: Gate
) -> None:
    killed, stopped = start_worker(), start_worker()
    killed.kill()
    assert stopped.wait_ready() != killed.executor_id
    eventually(lambda: Executor.objects.get(pk=killed.executor_id).state == "lost")
    assert stopped.stop() == 0
    assert Executor.objects.get(pk=stopped.executor_id).state == "stopped"


@pytest.mark.parametrize("name", ["held_in_step", "held_in_transaction"])
def test_a_direct_call_is_finished_by_a_worker_when_its_process_is_killed(
    name: str, ledger: Ledger, start_worker: StartWorker, gate: Gate
) -> None:
    with direct_call(name, ledger, gate) as process:
        assert gate.wait_held() == process.pid
        process.kill()
        process.wait(10)
    worker = start_worker()

    eventually(lambda: Workflow.objects.succeeded().filter(pk="called").exists(), 30)
    row = Workflow.objects.get(pk="called")
    assert row.executor_id == worker.executor_id
    assert [entry.pid for entry in ledger.entries("begin")] == [process.pid, process.pid, worker.pid, worker.pid]
    assert Row.objects.count() == (name == "held_in_transaction")


def test_a_direct_call_whose_process_lives_is_left_alone(ledger: Ledger, start_worker: StartWorker, gate: Gate) -> None:
    worker = start_worker()
    with direct_call("held_in_step", ledger, gate) as process:
        assert gate.wait_held() == process.pid
        beat = Executor.objects.get(pid=process.pid).heartbeat_at
        # Twice the time after which it would be taken for dead if it did not beat.
        eventually(
            lambda: (
                (Executor.objects.get(pid=process.pid).heartbeat_at - beat).total_seconds() > 2 * conf.HEARTBEAT_TIMEOUT
            )
        )
        gate.open()
        output, _ = process.communicate(timeout=30)
    assert output.strip() == str([process.pid] * 3)
    assert worker.stop() == 0


def test_a_workflow_that_no_worker_knows_waits_for_one_that_does(ledger: Ledger, start_worker: StartWorker) -> None:
    submit(Submission(id="stranger", name="a workflow of another release", inputs="{}", serializer="json"))
    worker = start_worker()
    # Younger ones overtake it, one after the other, also after a recovery.
    for _ in range(3):
        assert start_workflow(workflows.where, ledger).get_result(timeout=30) == worker.pid
    worker.kill()
    worker = start_worker()
    assert start_workflow(workflows.where, ledger).get_result(timeout=30) == worker.pid

    row = Workflow.objects.get(pk="stranger")
    assert (row.status, row.attempts, row.executor_id) == (WorkflowStatus.ENQUEUED, 0, "")


def test_a_workflow_that_kills_its_workers_is_set_aside_and_can_be_resumed(
    ledger: Ledger, start_worker: StartWorker, tmp_path: Path
) -> None:
    antidote = tmp_path / "antidote"
    with SetWorkflowID("deadly"):
        handle = start_workflow(workflows.deadly, ledger, antidote)
    # max_recovery_attempts=1: one start and one recovery.
    for executions in (1, 2):
        victim = start_worker(ready=False)
        assert victim.wait() == -signal.SIGKILL
        assert ledger.begun("deadly") == executions
    survivor = start_worker()

    with pytest.raises(MaxRecoveryAttemptsExceeded):
        handle.get_result(timeout=30)
    row = handle.get_status()
    assert row.status == WorkflowStatus.MAX_RECOVERY_ATTEMPTS_EXCEEDED
    assert ledger.begun("deadly") == 2
    assert survivor.alive

    antidote.touch()
    assert resume_workflow("deadly").get_result(timeout=30) == "alive"
    assert ledger.begun("deadly") == 3
    assert [entry.pid for entry in ledger.entries("begin")][-1] == survivor.pid != os.getpid()
