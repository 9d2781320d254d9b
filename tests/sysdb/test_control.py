"""What an operator does to rows: which columns each verb changes, and what it leaves."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models.functions import Now

from django_dbos.exceptions import NonExistentWorkflow, UnfinishedWorkflow
from django_dbos.hub import WORK, hub, interruption_of, outcome_of
from django_dbos.models import Event, EventHistory, Message, Step, StreamEntry, Workflow
from django_dbos.states import ACTIVE, WAITING, WorkflowStatus
from django_dbos.sysdb import control, forks, queues, steps, vendor
from tests.support import eventually, statements
from tests.sysdb.rows import (
    claimant,
    committed,
    elsewhere,
    holding,
    owned,
    postgresql,
    rolled_back,
    seconds_since,
    together,
    workflow,
)

#: Deleting looks on every database where transactions of the suite may have left something.
everywhere = pytest.mark.django_db(databases=["default", "other"])


def columns(workflow_id: str = "w") -> dict[str, Any]:
    return dict(Workflow.objects.filter(pk=workflow_id).values().get())


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {name: after[name] for name in after if after[name] != before[name]}


FULL: dict[str, Any] = {
    "class_name": "Shop",
    "instance_name": "main",
    "inputs": "[1]",
    "serializer": "their.Serializer",
    "queue_name": "q",
    "priority": 4,
    "deduplication_id": "one",
    "application_version": "v1",
    "application_name": "shop",
    "schedule_name": "nightly",
    "authenticated_user": "eve",
    "authenticated_roles": ["admin"],
    "assumed_role": "admin",
    "attributes": {"a": 1},
    "started_at": Now(),
    "deadline": Now(),
    "timeout": 5.0,
    "updated_at": Now() - timedelta(hours=1),
}


@rolled_back
def test_cancelling_ends_a_workflow_and_keeps_who_owned_it() -> None:
    owned(**FULL)
    before = columns()
    assert control.cancel("w") is True
    changed = changes(before, columns())
    assert set(changed) == {"status", "deduplication_id", "completed_at", "updated_at"}
    assert (changed["status"], changed["deduplication_id"]) == (WorkflowStatus.CANCELLED, "")
    assert seconds_since(changed["completed_at"]) == pytest.approx(0, abs=1)
    assert control.cancel("w") is False


@committed
def test_a_cancellation_wakes_whoever_waits_for_it_when_it_commits() -> None:
    owned("w")
    owned("x")
    with hub.listen(outcome_of("w")) as waiter, hub.listen(interruption_of("w")) as body:
        with transaction.atomic():
            control.cancel("w")
            assert not waiter.is_set()
        assert waiter.is_set()
        assert body.is_set()
    with hub.listen(outcome_of("x"), interruption_of("x")) as woken:
        with transaction.atomic():
            control.cancel("x")
            transaction.set_rollback(True)
        assert not woken.is_set()


@rolled_back
def test_resuming_starts_the_count_of_attempts_anew_and_keeps_the_epoch() -> None:
    workflow(
        "w",
        WorkflowStatus.MAX_RECOVERY_ATTEMPTS_EXCEEDED,
        executor_id="me",
        epoch=102,
        attempts=102,
        error='"too often"',
        completed_at=Now(),
        delay_until=Now(),
        **FULL,
    )
    before = columns()
    assert control.resume("w") is True
    changed = changes(before, columns())
    assert seconds_since(changed.pop("updated_at")) == pytest.approx(0, abs=1)
    assert changed == {
        "status": WorkflowStatus.ENQUEUED,
        "executor_id": "",
        "attempts": 0,
        "deduplication_id": "",
        "deadline": None,
        "delay_until": None,
        "error": None,
        "completed_at": None,
    }
    (claimed,) = queues.claim(claimant(version="v1"), {"q": 1}, 1)
    assert (claimed.epoch, claimed.attempts) == (103, 1)


@rolled_back
def test_resuming_onto_another_queue_meets_no_key_that_is_held_there() -> None:
    workflow("w", queue_name="q", deduplication_id="one")
    workflow("holder", queue_name="other", deduplication_id="one")
    assert control.resume("w", "other") is True
    row = Workflow.objects.get(pk="w")
    assert (row.queue_name, row.deduplication_id) == ("other", "")


@rolled_back
def test_resuming_what_is_debounced_ends_its_waiting() -> None:
    workflow("w", WorkflowStatus.DELAYED, queue_name="q", deduplication_id="one", is_debounced=True)
    assert control.resume("w") is True
    row = Workflow.objects.get(pk="w")
    assert (row.status, row.deduplication_id) == (WorkflowStatus.ENQUEUED, "")


# ---- many at a time -------------------------------------------------------------------------------------------


MANY = [f"w{number:04}" for number in range(2 * control.BATCH + 1)]


def many(status: str = WorkflowStatus.ENQUEUED, **columns: Any) -> None:
    rows = [Workflow(id=each, name="some_workflow", status=status, **columns) for each in MANY]
    Workflow.objects.bulk_create(rows)


@everywhere
def test_many_are_cancelled_resumed_and_deleted_in_a_few_statements() -> None:
    many()
    with statements() as sent:
        assert control.cancel_all(MANY) == len(MANY)
    assert len([sql for sql in sent if sql.startswith("UPDATE")]) == 3
    assert len(sent) < 20
    with statements() as sent:
        assert control.resume_all(MANY) == len(MANY)
    assert len([sql for sql in sent if sql.startswith("UPDATE")]) == 3
    control.cancel_all(MANY)
    with statements() as sent:
        assert control.delete_all(MANY) == len(MANY)
    assert len([sql for sql in sent if sql.startswith("DELETE")]) == 3 * 6
    assert not Workflow.objects.exists()


@everywhere
@pytest.mark.parametrize("verb", [control.cancel_all, control.cancel_trees, control.resume_all, control.delete_all])
def test_one_unknown_id_and_nothing_changes(verb: Any) -> None:
    many(WorkflowStatus.CANCELLED if verb is control.delete_all else WorkflowStatus.ENQUEUED)
    Workflow.objects.filter(pk="w0000").update(deadline=Now())
    before = list(Workflow.objects.order_by("pk").values())
    with pytest.raises(NonExistentWorkflow, match="ids 'nobody', 'no one'"):
        verb([*MANY, "nobody", "no one"])
    assert list(Workflow.objects.order_by("pk").values()) == before


@everywhere
def test_what_has_finished_is_left_out_of_many() -> None:
    for status in WorkflowStatus:
        workflow(status.lower(), status)
    ids = list(Workflow.objects.values_list("pk", flat=True))
    assert control.cancel_all(ids) == 3
    assert control.cancel_all(ids) == 0
    assert control.resume_all([*ids, *ids]) == 5
    assert control.cancel_all([]) == control.resume_all([]) == control.delete_all([]) == 0


def family() -> None:
    """A tree in which the finished have children that run, and a stranger."""
    workflow("root", WorkflowStatus.SUCCESS)
    owned("child-1", parent_id="root")
    workflow("child-2", WorkflowStatus.ERROR, parent_id="root")
    workflow("grandchild", WorkflowStatus.DELAYED, parent_id="child-2")
    owned("stranger", parent_id="somebody")


@rolled_back
def test_a_tree_is_cancelled_to_its_leaves() -> None:
    family()
    assert control.cancel_trees(["root", "child-2"]) == 2
    assert control.cancel_trees(["root"]) == 0
    cancelled = Workflow.objects.filter(status=WorkflowStatus.CANCELLED).order_by("pk")
    assert list(cancelled.values_list("pk", flat=True)) == ["child-1", "grandchild"]


@rolled_back
def test_a_child_that_is_deleted_meanwhile_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    family()

    def found_a_moment_ago(workflow_ids: Collection[str]) -> list[str]:
        found = children_of(workflow_ids)
        return [*found, "deleted since"] if found else []

    children_of = control.children_of
    monkeypatch.setattr(control, "children_of", found_a_moment_ago)
    assert control.cancel_trees(["root"]) == 2


@rolled_back
def test_a_circle_of_parents_has_an_end() -> None:
    owned("a", parent_id="b")
    owned("b", parent_id="a")
    assert control.cancel_trees(["a"]) == 2


@committed
def test_each_level_is_committed_before_the_next_is_looked_for() -> None:
    owned("root")
    owned("child", parent_id="root")
    seen = []
    for level in control.levels(["root"]):
        control.cancel_all(level)
        seen.append(elsewhere(lambda: Workflow.objects.filter(status="CANCELLED").count()))
    assert seen == [1, 2]


# ---- delete ---------------------------------------------------------------------------------------------------


def with_everything(workflow_id: str) -> None:
    """A finished workflow with a row in each table."""
    workflow(workflow_id, WorkflowStatus.SUCCESS)
    Step.objects.create(workflow_id=workflow_id, number=1, name="step")
    Message.objects.create(id=f"m-{workflow_id}", destination_id=workflow_id, payload="1")
    Event.objects.create(workflow_id=workflow_id, key="k", value="1")
    EventHistory.objects.create(workflow_id=workflow_id, key="k", step=1, value="1")
    StreamEntry.objects.create(workflow_id=workflow_id, key="k", offset=0, value="1", step=1)


TABLES: list[Any] = [Step, Message, Event, EventHistory, StreamEntry]


@everywhere
def test_a_deleted_workflow_leaves_nothing_behind() -> None:
    with_everything("w")
    with_everything("x")
    assert control.delete_all(["w"]) == 1
    assert Workflow.objects.get().pk == "x"
    assert [table.objects.count() for table in TABLES] == [1] * 5


@everywhere
def test_a_deleted_workflow_leaves_no_checkpoint_on_another_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "elsewhere", {"other", "default", "not configured"})
    for each in ("w", "x"):
        workflow(each, WorkflowStatus.SUCCESS)
        Step.objects.using("other").create(workflow_id=each, number=1, name="transaction")
    control.delete_all(["w"])
    assert [step.workflow_id for step in Step.objects.using("other")] == ["x"]


@everywhere
@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_an_active_workflow_is_not_deleted_nor_are_those_beside_it(status: str) -> None:
    with_everything("finished")
    workflow("w", status)
    with pytest.raises(UnfinishedWorkflow, match=r"'w'.* Cancel"):
        control.delete_all(["finished", "w"])
    assert Workflow.objects.count() == 2
    assert [table.objects.count() for table in TABLES] == [1] * 5


@everywhere
def test_children_stay_unless_they_are_asked_for() -> None:
    for each, parent in (("root", None), ("child", "root"), ("grandchild", "child")):
        workflow(each, WorkflowStatus.SUCCESS, parent_id=parent)
    assert control.delete_all(["root"]) == 1
    assert control.delete_all(["child"], delete_children=True) == 2
    workflow("root", WorkflowStatus.SUCCESS)
    owned("child", parent_id="root")
    with pytest.raises(UnfinishedWorkflow, match="'child'"):
        control.delete_all(["root"], delete_children=True)
    assert Workflow.objects.count() == 2


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@postgresql
def test_whoever_resumes_what_is_being_deleted_finds_it_gone() -> None:
    workflow("w", WorkflowStatus.CANCELLED)

    def resume() -> bool:
        try:
            return control.resume("w")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        with holding(lambda: control.delete_all(["w"])):
            resumed = thread.submit(resume)
            waits_for_a_lock = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE%%'"
            eventually(lambda: bool(vendor.fetch(waits_for_a_lock, ())))
        assert resumed.result(20) is False
    assert not Workflow.objects.exists()


# ---- what waits, and what is said -----------------------------------------------------------------------------


@rolled_back
@pytest.mark.parametrize("status", list(WorkflowStatus))
def test_only_what_waits_can_be_delayed_or_made_more_urgent(status: WorkflowStatus) -> None:
    workflow("w", status, priority=3)
    waits = status in WAITING
    assert control.set_priority("w", 1) is waits
    assert control.delay("w", seconds=60) is waits
    row = Workflow.objects.get()
    assert (row.priority, row.status) == ((1, WorkflowStatus.DELAYED) if waits else (3, status))
    if waits:
        assert seconds_since(row.delay_until) == pytest.approx(-60, abs=1)
        moment = datetime(2100, 1, 1, tzinfo=UTC)
        assert control.delay("w", until=moment)
        assert Workflow.objects.get().delay_until == moment


@rolled_back
def test_an_unknown_id_cannot_be_delayed_or_described() -> None:
    calls: list[Callable[[], object]] = [
        lambda: control.set_priority("nobody", 1),
        lambda: control.delay("nobody", seconds=1),
        lambda: control.update_attributes("nobody", {}, merge=False),
    ]
    for call in calls:
        with pytest.raises(NonExistentWorkflow, match="'nobody'"):
            call()


@committed
def test_a_change_of_what_waits_wakes_the_workers() -> None:
    workflow("w")
    changes: list[Callable[[], object]] = [
        lambda: control.set_priority("w", 1),
        lambda: control.delay("w", seconds=0),
    ]
    for change in changes:
        with hub.listen(WORK) as woken:
            change()
            assert woken.is_set()


@rolled_back
def test_attributes_are_replaced_or_merged() -> None:
    workflow("w", attributes={"a": 1, "b": {"c": 2}})
    control.update_attributes("w", {"b": {"d": 3}, "e": None}, merge=True)
    assert Workflow.objects.get().attributes == {"a": 1, "b": {"d": 3}, "e": None}
    control.update_attributes("w", {"f": []}, merge=False)
    assert Workflow.objects.get().attributes == {"f": []}


@committed
def test_two_who_merge_attributes_at_the_same_time_both_succeed() -> None:
    workflow("w")
    together(*[partial(control.update_attributes, "w", {f"key {n}": n}, merge=True) for n in range(4)])
    assert Workflow.objects.get().attributes == {f"key {n}": n for n in range(4)}


@committed
@pytest.mark.parametrize("verb", ["resume", "fork"])
def test_what_is_put_on_a_queue_wakes_the_workers_when_it_commits(verb: str) -> None:
    workflow("w", WorkflowStatus.CANCELLED)
    with hub.listen(WORK) as woken:
        with transaction.atomic():
            if verb == "resume":
                control.resume("w")
            else:
                forks.fork("w", "copy", 1)
            assert not woken.is_set()
        assert woken.is_set()
