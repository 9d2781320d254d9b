"""The grouped journal: many workflows, one statement, one commit, and each refused on its own account."""

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection

from django_dbos.clock import monotonic
from django_dbos.exceptions import ExecutorStopping, OwnershipLost, WorkflowCancelled
from django_dbos.models import Step, Workflow
from django_dbos.runtime.connections import connect
from django_dbos.states import WorkflowStatus
from django_dbos.sysdb.grouped import GroupedJournal
from django_dbos.sysdb.journal import Checkpoint, Ending, Lease
from tests.support import eventually
from tests.sysdb.rows import committed, elsewhere, owned

pytestmark = [
    committed,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time"),
]


class Counting(GroupedJournal):
    """A grouped journal that counts what it does, and whose writer does not come by itself."""

    def __init__(self) -> None:
        self.statements = 0
        self.wakes = 0
        super().__init__(connect=self.open, wake=self.note_wake)

    def open(self) -> "psycopg.Connection[Any]":
        return connect(None, "test journal")

    def note_wake(self) -> None:
        self.wakes += 1

    def _write(self, group: Any) -> Any:
        self.statements += 1
        return super()._write(group)

    @property
    def pid(self) -> int:
        assert self._connection is not None
        return self._connection.info.backend_pid


@pytest.fixture
def journal() -> Iterator[Counting]:
    journal = Counting()
    yield journal
    journal.give_up()
    journal.close()


def checkpoint(number: int = 1, name: str = "a_step", output: str = "1") -> Checkpoint:
    return Checkpoint(number=number, name=name, output=output, started=monotonic() - 2, completed=monotonic() - 1)


def success(output: str = "1") -> Ending:
    return Ending(status=WorkflowStatus.SUCCESS, output=output)


def claim(workflow_id: str, **columns: Any) -> Lease:
    owned(workflow_id, **columns)
    return Lease(workflow_id, "me", 1)


def steps(workflow_id: str) -> list[int]:
    return list(Step.objects.filter(workflow_id=workflow_id).order_by("number").values_list("number", flat=True))


def status(workflow_id: str) -> str:
    return Workflow.objects.get(pk=workflow_id).status


def finish_all(journal: Counting, leases: list[Lease]) -> None:
    """Let them all end while somebody else is writing, so that they gather; then write."""
    journal._is_writing = True
    for lease in leases:
        journal.finish(lease, success())
    journal._is_writing = False
    journal.write()


def test_what_is_recorded_is_durable_at_the_barrier_and_not_before(journal: Counting) -> None:
    lease = claim("w")
    assert journal.record(lease, checkpoint()) is None
    assert steps("w") == []
    assert journal.wakes == 1
    assert not journal.is_settled(lease)
    journal.barrier(lease)
    assert journal.is_settled(lease)
    row = Step.objects.get(workflow_id="w")
    assert (row.number, row.name, row.output, row.attempts, row.executor_id) == (1, "a_step", "1", 1, "me")
    assert row.started_at is not None
    assert row.completed_at is not None
    assert 0.9 < (row.completed_at - row.started_at).total_seconds() < 1.1


def test_a_step_and_the_outcome_of_its_workflow_are_one_statement(journal: Counting) -> None:
    lease = claim("w")
    journal.record(lease, checkpoint())
    journal.finish(lease, success("42"))
    row = Workflow.objects.get()
    assert (row.status, row.output) == (WorkflowStatus.SUCCESS, "42")
    assert row.completed_at is not None
    assert steps("w") == [1]
    assert journal.statements == 1


def test_hundreds_of_workflows_are_one_statement(journal: Counting) -> None:
    leases = [claim(f"w{number}") for number in range(200)]
    for lease in leases:
        journal.record(lease, checkpoint())
    finish_all(journal, leases)
    assert Workflow.objects.succeeded().count() == Step.objects.count() == 200
    assert journal.statements == 1


def test_only_the_refused_ones_are_refused_and_each_learns_why(journal: Counting) -> None:
    good, cancelled, stolen, gone = (claim(name) for name in ("good", "cancelled", "stolen", "gone"))
    Workflow.objects.filter(pk="cancelled").update(status="CANCELLED")
    Workflow.objects.filter(pk="stolen").update(executor_id="other", epoch=2)
    Workflow.objects.filter(pk="gone").delete()
    for lease in (good, cancelled, stolen, gone):
        journal.record(lease, checkpoint())
    journal.barrier(good)
    assert steps("good") == [1]
    assert Step.objects.count() == 1
    for lease, reason in ((cancelled, WorkflowCancelled), (stolen, OwnershipLost), (gone, OwnershipLost)):
        with pytest.raises(reason):
            journal.barrier(lease)
        assert not journal.is_settled(lease)
        with pytest.raises(reason):
            journal.finish(lease, success())


def test_an_outcome_does_not_count_without_the_steps_before_it(journal: Counting) -> None:
    lease = claim("w")
    Step.objects.create(workflow_id="w", number=1, name="a_step", output='"theirs"')
    journal.record(lease, checkpoint(output='"ours"'))
    journal.finish(lease, success())
    journal.write()
    # What a predecessor recorded counts: the workflow was handed back, to run again from there.
    assert status("w") == WorkflowStatus.ENQUEUED
    assert Step.objects.get().output == '"theirs"'
    assert isinstance(lease.refusal, OwnershipLost)


def test_our_own_record_found_again_is_no_conflict(journal: Counting) -> None:
    lease = claim("w")
    Step.objects.create(workflow_id="w", number=1, name="a_step", output="1")
    journal.record(lease, checkpoint())
    journal.barrier(lease)
    assert lease.refusal is None
    assert status("w") == WorkflowStatus.PENDING


def test_a_cancelled_workflow_never_turns_to_success(journal: Counting) -> None:
    lease, other = claim("w"), claim("other")
    Workflow.objects.filter(pk="w").update(status="CANCELLED")
    finish_all(journal, [lease, other])
    assert status("w") == WorkflowStatus.CANCELLED
    assert status("other") == WorkflowStatus.SUCCESS


def test_a_write_under_a_claim_that_was_renewed_meanwhile_is_repeated_under_the_new_one(journal: Counting) -> None:
    lease = claim("w")
    journal.record(lease, checkpoint())
    Workflow.objects.update(epoch=2)
    lease.renew("me", 2)
    journal.barrier(lease)
    assert steps("w") == [1]


def test_one_row_that_the_database_does_not_take_is_isolated_and_its_workflow_alone_gets_the_error(
    journal: Counting,
) -> None:
    leases = [claim(f"w{number}") for number in range(8)]
    for number, lease in enumerate(leases):
        journal.record(lease, checkpoint(name="x" * 300 if number == 5 else "a_step"))
    for number, lease in enumerate(leases):
        if number == 5:
            with pytest.raises(DatabaseError, match="too long"):
                journal.barrier(lease)
        else:
            journal.barrier(lease)
    assert Step.objects.count() == 7


def test_an_outcome_that_the_database_does_not_take_becomes_an_error(journal: Counting) -> None:
    lease, other = claim("w"), claim("other")
    journal._is_writing = True
    journal.finish(lease, success("\x00"))
    journal.finish(other, success())
    journal._is_writing = False
    journal.write()
    assert status("other") == WorkflowStatus.SUCCESS
    row = Workflow.objects.get(pk="w")
    assert row.status == WorkflowStatus.ERROR
    assert row.error


def test_a_broken_connection_loses_and_doubles_nothing(journal: Counting) -> None:
    leases = [claim(f"w{number}") for number in range(5)]
    journal.record(leases[0], checkpoint())
    journal.barrier(leases[0])
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [journal.pid])
    for lease in leases:
        journal.record(lease, checkpoint(number=2))
    finish_all(journal, leases)
    assert Workflow.objects.succeeded().count() == 5
    assert Step.objects.filter(number=2).count() == 5


def test_who_waits_while_another_one_writes_is_settled_by_it_or_writes_next(journal: Counting) -> None:
    leases = [claim(f"w{number}") for number in range(16)]

    def execute(lease: Lease) -> None:
        for number in range(1, 11):
            journal.record(lease, checkpoint(number=number))
            journal.barrier(lease)
        journal.finish(lease, success())

    threads = [threading.Thread(target=execute, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    journal.write()
    eventually(lambda: journal.is_empty)
    assert Workflow.objects.succeeded().count() == 16
    assert Step.objects.count() == 160
    assert journal.statements < 176


def test_when_the_journal_gives_up_on_a_database_that_is_away_who_waits_is_told(
    journal: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = claim("w")

    def refuse() -> "psycopg.Connection[Any]":
        journal.give_up()
        raise psycopg.OperationalError("nobody there")

    monkeypatch.setattr(journal, "_connect", refuse)
    journal.record(lease, checkpoint())
    with pytest.raises(ExecutorStopping):
        elsewhere(lambda: journal.barrier(lease))
    assert not journal.is_empty


def test_a_closed_journal_opens_no_connection_and_who_comes_late_is_told(journal: Counting) -> None:
    early, late = claim("early"), claim("late")
    journal.record(early, checkpoint())
    journal.barrier(early)
    journal.close()
    journal.record(late, checkpoint())
    with pytest.raises(ExecutorStopping):
        journal.barrier(late)
    with pytest.raises(InterruptedError):
        journal.finish(late, success())
    assert journal._connection is None
