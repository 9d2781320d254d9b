"""SIGTERM: what runs ends and is recorded, what has not ended goes to others at once, and the exit code is 0."""

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from django_dbos import WorkflowStatus, start_workflow
from django_dbos.models import Executor, Step, Workflow
from tests.acceptance import workflows
from tests.acceptance.observed import Gate, Ledger
from tests.models import Row
from tests.support import WorkerProcess, eventually

pytestmark = pytest.mark.django_db(transaction=True)

Started = Callable[..., WorkerProcess]
Held = Callable[[Ledger, Gate], Any]

STOPPING = r"^dbos_worker stopping$"


@pytest.fixture
def start_worker(start_patient_worker: Started) -> Started:
    """Here nobody is ever taken for dead: what goes on elsewhere was handed over."""
    return start_patient_worker


def handed_back(workflow_id: str) -> bool:
    """Whether a workflow is back on its queue as if this execution had never been."""
    row = Workflow.objects.get(pk=workflow_id)
    return (row.status, row.executor_id, row.attempts) == (WorkflowStatus.ENQUEUED, "", 0)


@pytest.mark.parametrize("workflow", [workflows.held_in_step, workflows.aheld_in_step, workflows.held_in_transaction])
def test_a_running_step_ends_and_is_recorded_and_the_workflow_goes_on_elsewhere(
    workflow: Held, ledger: Ledger, gate: Gate, start_worker: Started
) -> None:
    first = start_worker()
    handle = start_workflow(workflow, ledger, gate)
    assert gate.wait_held() == first.pid
    first.terminate()
    first.wait_for_line(STOPPING)
    gate.open()

    assert first.wait() == 0
    assert handed_back(handle.workflow_id)
    held = ledger.entries("begin", pid=first.pid)[-1]
    recorded = Step.objects.get(workflow_id=handle.workflow_id, name=held.name)
    assert (recorded.executor_id, recorded.error) == (first.executor_id, None)
    assert Executor.objects.get(pk=first.executor_id).state == "stopped"

    second = start_worker()
    pids = handle.get_result(timeout=30)
    assert pids[-2:] == [first.pid, second.pid]
    assert ledger.begun(held.name) == 1
    assert Row.objects.count() == (workflow is not workflows.held_in_step)
    assert handle.get_status().attempts == 1


def test_an_idle_worker_goes_on_at_once(ledger: Ledger, gate: Gate, start_worker: Started) -> None:
    first = start_worker()
    handle = start_workflow(workflows.held_in_step, ledger, gate)
    gate.wait_held()
    second = start_worker()
    first.terminate()
    first.wait_for_line(STOPPING)
    gate.open()
    # By the heartbeat it would be ten minutes.
    assert handle.get_result(timeout=30) == [first.pid, first.pid, second.pid]
    assert first.wait() == 0


def test_a_workflow_that_waits_is_handed_back_at_once(ledger: Ledger, start_worker: Started) -> None:
    first = start_worker("--queue", "acceptance-plain", "--shutdown-timeout", "60")
    by_backoff = start_workflow(workflows.held_in_backoff, ledger)
    by_child = workflows.plain.enqueue(workflows.held_by_child, ledger)
    eventually(lambda: ledger.entries("end", name="process") and Workflow.objects.in_queue("acceptance-other").exists())
    eventually(lambda: ledger.begun("process") == 2 and ledger.begun("failing_once") == 1)

    asked_at = time.monotonic()
    assert first.stop() == 0
    assert time.monotonic() - asked_at < 10, "it waited for what does not run"
    assert handed_back(by_backoff.workflow_id)
    assert handed_back(by_child.workflow_id)

    second = start_worker()
    assert by_backoff.get_result(timeout=30) == [first.pid, second.pid]
    assert by_child.get_result(timeout=30) == [first.pid, second.pid]


@pytest.mark.parametrize("workflow", [workflows.held_in_step, workflows.aheld_in_step, workflows.aheld_in_thread])
def test_a_step_that_hangs_is_left_behind_after_the_shutdown_timeout(
    workflow: Held, ledger: Ledger, gate: Gate, start_worker: Started
) -> None:
    first = start_worker("--shutdown-timeout", "1")
    handle = start_workflow(workflow, ledger, gate)
    assert gate.wait_held() == first.pid
    second = start_worker()

    asked_at = time.monotonic()
    first.terminate()
    # The second one passes the gate, which stays closed for the first.
    assert handle.get_result(timeout=30)[-1] == second.pid
    assert first.wait(15) == 0
    assert 1 <= time.monotonic() - asked_at < 5
    assert handle.get_status().attempts == 1


def test_a_second_sigterm_ends_it_now(ledger: Ledger, gate: Gate, start_worker: Started) -> None:
    worker = start_worker("--shutdown-timeout", "60")
    start_workflow(workflows.held_in_step, ledger, gate)
    gate.wait_held()
    worker.terminate()
    worker.wait_for_line(STOPPING)
    assert worker.alive
    worker.terminate()
    assert worker.wait(10) == 128 + signal.SIGTERM


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_ends_with_0(signum: int, start_worker: Started) -> None:
    worker = start_worker()
    worker.send(signum)
    assert worker.wait(10) == 0
    assert Executor.objects.get(pk=worker.executor_id).state == "stopped"
    assert "Traceback" not in worker.output


def test_a_worker_that_stops_claims_nothing_more(ledger: Ledger, gate: Gate, start_worker: Started) -> None:
    first = start_worker()
    held = start_workflow(workflows.held_in_step, ledger, gate)
    gate.wait_held()
    first.terminate()
    first.wait_for_line(STOPPING)
    late = start_workflow(workflows.where, ledger)
    gate.open()
    assert first.wait() == 0
    second = start_worker()
    assert late.get_result(timeout=30) == second.pid
    assert held.get_result(timeout=30)[-1] == second.pid
    assert late.get_status().attempts == 1
