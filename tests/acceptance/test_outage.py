"""An outage of the database pauses, it never kills, and nothing happens twice because of it."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from django_dbos import WorkflowStatus, start_workflow
from django_dbos.models import Step, Workflow
from tests.acceptance import workflows
from tests.acceptance.observed import Gate, Ledger
from tests.models import Row
from tests.support import WorkerProcess, eventually

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no connection that could break"),
]

StartWorker = Callable[..., WorkerProcess]


def break_connections() -> int:
    """End every connection to the database but this one; how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = CURRENT_DATABASE() AND pid <> PG_BACKEND_PID()"
        )
        return int(cursor.fetchone()[0])


@contextmanager
def no_new_connections() -> Iterator[None]:
    """The database lets nobody in; whoever is in stays."""
    connection.ensure_connection()  # ours stays
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            yield
        finally:
            cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@pytest.mark.parametrize("seed", [1, 2])
def test_whenever_the_connections_break_the_worker_goes_on_and_nothing_happens_twice(
    seed: int, ledger: Ledger, start_worker: StartWorker
) -> None:
    dice = random.Random(seed)  # noqa: S311 - repeatable, no secret
    moments = sorted(dice.sample(range(2, 80), 8))
    worker = start_worker("--no-scheduler")
    started = []
    for number in range(5):
        started += [
            (start_workflow(workflows.sync_order, ledger, number), workflows.sync_order_result(number)),
            (start_workflow(workflows.async_order, ledger, number), workflows.async_order_result(number)),
            (workflows.one_at_a_time.enqueue(workflows.sync_child, ledger, number), 2 * number + 1),
            (workflows.two_per_worker.enqueue(workflows.async_child, ledger, number), 2 * number + 2),
        ]
    broken = 0
    for moment in moments:
        eventually(lambda moment=moment: ledger.begun() >= moment, 60)  # type: ignore[misc]
        broken += break_connections()
    eventually(lambda: not Workflow.objects.active().exists(), 60)

    assert broken >= len(moments)
    assert [handle.get_result(timeout=1) for handle, _ in started] == [result for _, result in started]
    transactions = Step.objects.filter(name__in=("booked", "abooked")).values_list("workflow_id", "number")
    assert sorted(Row.objects.values_list("name", flat=True)) == sorted(f"{w}#{n}" for w, n in transactions)
    # No worker died: what is no transaction ran once, and nobody was recovered.
    begun = [entry.key for entry in ledger.entries("begin") if entry.name in ("doubled", "adoubled")]
    assert len(begun) == len(set(begun))
    assert "Traceback" not in worker.output
    assert worker.output.count("The database cannot be used") <= len(moments), "more than a line per outage"
    assert start_workflow(workflows.where, ledger).get_result(timeout=30) == worker.pid
    assert worker.stop() == 0


def test_a_transaction_whose_connection_breaks_runs_again_and_commits_once(
    ledger: Ledger, gate: Gate, start_worker: StartWorker
) -> None:
    worker = start_worker()
    handle = start_workflow(workflows.held_in_transaction, ledger, gate)
    gate.wait_held()
    assert break_connections() >= 1
    gate.open()
    assert handle.get_result(timeout=30) == [worker.pid] * 3
    assert Row.objects.count() == 1
    step = Step.objects.get(workflow_id=handle.workflow_id, name="held_transaction")
    assert (step.attempts, ledger.begun("held_transaction")) == (2, 2)


def test_a_step_that_ends_while_the_database_is_away_is_recorded_and_not_repeated(
    ledger: Ledger, gate: Gate, start_worker: StartWorker
) -> None:
    worker = start_worker()
    handle = start_workflow(workflows.held_in_step, ledger, gate)
    gate.wait_held()
    with no_new_connections():
        break_connections()
        gate.open()
        worker.wait_for_line("The database cannot be used")
        eventually(lambda: ledger.entries("end", name="held_step"))
        assert worker.alive
    assert handle.get_result(timeout=60) == [worker.pid] * 3
    assert ledger.begun("held_step") == 1
    worker.wait_for_line("The database can be used again")
    row = handle.get_status()
    assert (row.status, row.attempts) == (WorkflowStatus.SUCCESS, 1)
    assert worker.output.count("The database cannot be used") == 1


def test_a_worker_that_is_started_while_the_database_is_away_waits_for_it(
    ledger: Ledger, start_worker: StartWorker
) -> None:
    with no_new_connections():
        worker = start_worker(ready=False)
        worker.wait_for_line("The database cannot be used")
        assert worker.alive
    worker.wait_ready()
    assert start_workflow(workflows.where, ledger).get_result(timeout=30) == worker.pid
    assert "Traceback" not in worker.output


@pytest.mark.parametrize("ready", [True, False])
def test_a_worker_that_is_stopped_while_the_database_is_away_ends_all_the_same(
    ready: bool, start_worker: StartWorker
) -> None:
    if ready:
        worker = start_worker("--shutdown-timeout", "1")
    with no_new_connections():
        if ready:
            break_connections()
        else:
            worker = start_worker(ready=False)
        worker.wait_for_line("The database cannot be used")
        assert worker.stop(timeout=15) == 0
    assert "Traceback" not in worker.output


def test_a_worker_whose_connections_broke_hands_back_what_it_has(
    ledger: Ledger, gate: Gate, start_patient_worker: StartWorker
) -> None:
    first = start_patient_worker("--shutdown-timeout", "1")
    handle = start_workflow(workflows.held_in_step, ledger, gate)
    assert gate.wait_held() == first.pid
    break_connections()
    assert first.stop(timeout=15) == 0
    assert (handle.get_status().status, handle.get_status().attempts) == (WorkflowStatus.ENQUEUED, 0)
    second = start_patient_worker()
    assert handle.get_result(timeout=30) == [first.pid, second.pid, second.pid]
