"""What each hot operation costs: its statements, counted where they are sent. BEGIN and COMMIT count too."""

import pytest
from django.db import connection, transaction

from django_dbos import Queue, SetWorkflowID, start_workflow, step, workflow
from django_dbos import transaction as dbos_transaction
from django_dbos.clock import monotonic
from django_dbos.registry import workflow_registry
from django_dbos.states import ExecutorState
from django_dbos.sysdb import executors, queues
from django_dbos.sysdb.queues import Claimant
from django_dbos.sysdb.workflows import Burst, burst
from tests.models import Row
from tests.support import statements

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = Queue("statement-counts")


@step
def counted_step(number: int) -> int:
    return number


@dbos_transaction
def counted_transaction(name: str) -> str:
    Row.objects.create(name=name)
    return name


@workflow
def empty_workflow() -> None:
    return None


@workflow
def stepping_workflow(steps: int) -> int:
    return sum(counted_step(number) for number in range(steps))


@workflow
def writing_workflow(transactions: int) -> None:
    for number in range(transactions):
        counted_transaction(f"row {number}")


@workflow
def parent_workflow() -> None:
    empty_workflow()


@workflow
def starting_workflow() -> str:
    return start_workflow(empty_workflow).workflow_id


@pytest.fixture(autouse=True)
def warm() -> None:
    """The first direct call of a process registers its executor; that is paid once."""
    empty_workflow()


def count(sent: list[str], *words: str) -> int:
    return sum(statement.strip().upper().startswith(words) for statement in sent)


def test_an_empty_workflow_called_directly_is_two_statements_and_no_transaction() -> None:
    with statements() as sent:
        empty_workflow()
    assert len(sent) == 2, sent
    assert count(sent, "INSERT INTO DBOS_WORKFLOW") == 1
    assert count(sent, "UPDATE DBOS_WORKFLOW") == 1


@pytest.mark.parametrize("steps", [1, 10])
def test_a_step_of_a_fresh_execution_is_one_statement(steps: int) -> None:
    with statements() as sent:
        stepping_workflow(steps)
    assert len(sent) == 2 + steps, sent
    assert count(sent, "INSERT INTO DBOS_STEP") == steps


def test_a_transaction_adds_one_statement_to_the_users_own() -> None:
    with statements() as plain, transaction.atomic():
        Row.objects.create(name="plain")
    with statements() as sent:
        writing_workflow(1)
    assert len(sent) == 2 + len(plain) + 1, sent


def test_an_enqueue_is_one_statement() -> None:
    with statements() as sent:
        QUEUE.enqueue(empty_workflow)
    assert len(sent) == 1, sent


def test_a_start_is_one_statement() -> None:
    with statements() as sent:
        start_workflow(empty_workflow)
    assert len(sent) == 1, sent


def test_an_enqueue_in_the_callers_transaction_adds_one_statement_to_it() -> None:
    with statements() as sent, transaction.atomic():
        QUEUE.enqueue(empty_workflow)
    assert len(sent) == 3, sent


def test_an_enqueue_under_an_id_that_exists_is_two_statements() -> None:
    with SetWorkflowID("same"):
        QUEUE.enqueue(empty_workflow)
    with statements() as sent, SetWorkflowID("same"):
        QUEUE.enqueue(empty_workflow)
    assert len(sent) == 2, sent


def test_starting_a_child_is_one_commit_of_two_statements() -> None:
    with statements() as sent:
        starting_workflow()
    assert len(sent) == 2 + 4, sent


def test_calling_a_child_adds_its_outcome_and_the_parents_record_of_it() -> None:
    with statements() as sent:
        parent_workflow()
    assert len(sent) == 2 + 4 + 2, sent


def test_nothing_reads_recorded_steps_that_cannot_exist() -> None:
    with statements() as sent:
        stepping_workflow(3)
        writing_workflow(2)
        QUEUE.enqueue(empty_workflow)
    assert count(sent, "SELECT") == 0, sent


def test_a_claim_of_many_from_many_queues_is_one_statement_and_reads_no_steps() -> None:
    others = [Queue(f"statement-counts-{number}") for number in range(5)]
    for queue in [QUEUE, *others]:
        for _ in range(3):
            queue.enqueue(empty_workflow)
    claimant = Claimant(executor_id="me", names=workflow_registry.names(), application_version="")
    with statements() as sent:
        claimed = queues.claim(claimant, {queue.name: 10 for queue in [QUEUE, *others]}, 100)
    assert len(claimed) == 18
    assert len(sent) == 1, sent
    assert not any(row.may_have_steps for row in claimed)


def test_a_heartbeat_and_a_look_for_silent_executors_are_one_statement() -> None:
    with statements() as sent:
        executors.beat_and_look("me", ExecutorState.RUNNING, 1)
    assert len(sent) == (1 if connection.vendor == "postgresql" else 2), sent


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has NOTIFY")
def test_the_wake_up_of_an_enqueue_travels_in_its_own_statement() -> None:
    burst.forget()
    with statements() as sent:
        QUEUE.enqueue(empty_workflow)
    assert "pg_notify" in sent[0]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has NOTIFY")
def test_a_burst_of_enqueues_sends_a_wake_up_now_and_then_and_a_transaction_always_one() -> None:
    burst.forget()
    started = monotonic()
    with statements() as sent:
        for _ in range(100):
            QUEUE.enqueue(empty_workflow)
    wake_ups = sum("pg_notify" in statement for statement in sent)
    assert 1 <= wake_ups <= 1 + (monotonic() - started) / Burst.LENGTH
    with statements() as sent, transaction.atomic():
        QUEUE.enqueue(empty_workflow)
    assert sum("pg_notify" in statement for statement in sent) == 1
