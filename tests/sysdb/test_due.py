"""What the database's clock decides: delays that are over, deadlines that have passed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from django_dbos.hub import hub, interruption_of, outcome_of
from django_dbos.models import Workflow
from django_dbos.states import ACTIVE, FINISHED, WorkflowStatus
from django_dbos.sysdb import due
from django_dbos.sysdb.vendor import dialect
from tests.support import statements
from tests.sysdb.rows import committed, holding, owned, postgresql, rolled_back, seconds_since, workflow


def ahead(seconds: float) -> Any:
    return Now() + timedelta(seconds=seconds)


def status(workflow_id: str) -> str:
    return Workflow.objects.get(pk=workflow_id).status


@rolled_back
def test_it_is_known_when_the_next_is_due_in_one_statement() -> None:
    assert due.next_due() == due.Due(delay=None, deadline=None)
    workflow("late", WorkflowStatus.DELAYED, delay_until=ahead(50), deadline=ahead(70))
    workflow("early", WorkflowStatus.DELAYED, delay_until=ahead(20))
    owned("running", deadline=ahead(-5))
    workflow("done", WorkflowStatus.SUCCESS, deadline=ahead(-100), delay_until=ahead(-100))
    with statements() as sent:
        ahead_of_us = due.next_due()
    assert len(sent) == 1
    assert ahead_of_us.delay == pytest.approx(20, abs=2)
    assert ahead_of_us.deadline == pytest.approx(-5, abs=2)


@rolled_back
def test_what_is_ripe_is_enqueued_and_the_rest_waits_on() -> None:
    workflow("ripe", WorkflowStatus.DELAYED, delay_until=ahead(-1))
    workflow("green", WorkflowStatus.DELAYED, delay_until=ahead(60))
    workflow("cancelled", WorkflowStatus.CANCELLED, delay_until=ahead(-1))
    assert due.ripen() == 1
    assert [status(name) for name in ("ripe", "green", "cancelled")] == ["ENQUEUED", "DELAYED", "CANCELLED"]
    assert due.ripen() == 0


@rolled_back
@pytest.mark.parametrize("before", sorted(ACTIVE))
def test_what_is_overdue_is_cancelled(before: WorkflowStatus) -> None:
    workflow("w", before, deadline=ahead(-1), deduplication_id="d", queue_name="q")
    workflow("in time", before, deadline=ahead(60))
    workflow("without", before)
    with hub.listen(interruption_of("w")) as interrupted, hub.listen(outcome_of("w")) as ended:
        assert due.cancel_overdue() == 1
        assert interrupted.is_set()
        assert ended.is_set()
    row = Workflow.objects.get(pk="w")
    assert (row.status, row.deduplication_id) == (WorkflowStatus.CANCELLED, "")
    assert seconds_since(row.completed_at) == pytest.approx(0, abs=1)
    assert {status("in time"), status("without")} == {before}


@rolled_back
@pytest.mark.parametrize("before", sorted(FINISHED))
def test_what_has_ended_in_time_stays_as_it_is(before: WorkflowStatus) -> None:
    workflow("w", before, deadline=ahead(-1))
    assert due.cancel_overdue() == 0
    assert status("w") == before


@rolled_back
@pytest.mark.parametrize("change", [due.ripen, due.cancel_overdue])
def test_many_are_changed_a_batch_at_a_time(change: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "BATCH", 2)
    due._ripen_sql.cache_clear()
    due._cancel_sql.cache_clear()
    for number in range(5):
        workflow(str(number), WorkflowStatus.DELAYED, delay_until=ahead(-1), deadline=ahead(-1))
    assert [change() for _ in range(4)] == [2, 2, 1, 0]
    due._ripen_sql.cache_clear()
    due._cancel_sql.cache_clear()


@committed
@postgresql
def test_rows_that_another_worker_is_at_are_passed_over() -> None:
    workflow("held", WorkflowStatus.DELAYED, delay_until=ahead(-1), deadline=ahead(-1))
    with holding(lambda: Workflow.objects.select_for_update().get(pk="held")):
        assert due.ripen() == 0
        assert due.cancel_overdue() == 0
    assert due.ripen() == 1


@rolled_back
def test_no_statement_reads_finished_rows() -> None:
    Workflow.objects.bulk_create(
        Workflow(id=str(number), name="f", status="SUCCESS", deadline=ahead(-1), delay_until=ahead(-1))
        for number in range(3000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE dbos_workflow")
        for sql in (f(dialect()) for f in (due._next_sql, due._ripen_sql, due._cancel_sql)):
            plan = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
            cursor.execute(f"{plan} {sql % ()}")
            lines = "\n".join(str(line) for line in cursor.fetchall())
            assert "dbos_workflow_to_ripen" in lines or "dbos_workflow_overdue" in lines, lines
            assert "Seq Scan on dbos_workflow" not in lines, lines
            assert "SCAN dbos_workflow'" not in lines, lines
