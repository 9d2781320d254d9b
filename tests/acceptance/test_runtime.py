"""A worker inside this process: it starts and stops, and nothing of it is left."""

import threading

import pytest
from django.db import connection

from django_dbos import Runtime, start_workflow
from django_dbos.models import Executor
from tests.acceptance import workflows
from tests.acceptance.observed import Gate, Ledger
from tests.support import eventually

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 30


def other_connections() -> int:
    """How many connections there are to the database, besides this thread's."""
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = CURRENT_DATABASE() AND pid <> PG_BACKEND_PID()"
        )
        return int(cursor.fetchone()[0])


def test_thirty_runtimes_leave_no_thread_and_no_connection(ledger: Ledger) -> None:
    threads, before = set(threading.enumerate()), other_connections()
    for number in range(ROUNDS):
        with Runtime() as runtime:
            if number % 5 == 0:  # with both kinds of threads in use
                queued = workflows.plain.enqueue(workflows.queued_job, ledger, number)
                started = start_workflow(workflows.async_order, ledger, number)
                assert queued.get_result(timeout=30) == workflows.queued_job_result(number)
                assert started.get_result(timeout=30) == workflows.async_order_result(number)
        assert not {thread for thread in threading.enumerate() if thread.is_alive()} - threads
        assert Executor.objects.get(pk=runtime.executor_id).state == "stopped"
    # The server notices a closed connection in its own time.
    eventually(lambda: other_connections() == before)


def test_a_runtime_that_did_not_wait_for_a_step_is_not_written_to_by_it(ledger: Ledger, gate: Gate) -> None:
    runtime = Runtime(shutdown_timeout=0.1)
    runtime.start()
    handle = workflows.plain.enqueue(workflows.held_in_step, ledger, gate)
    gate.wait_held()
    assert not runtime.stop()
    assert handle.get_status().attempts == 0
    gate.open()
    eventually(lambda: ledger.entries("end", name="held_step"))
    with Runtime():
        handle.get_result(timeout=30)
    assert ledger.begun("held_step") == 2, "the result of the step that was left behind was recorded"
