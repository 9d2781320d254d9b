"""Cancel, resume, fork: which columns each changes, and what it leaves."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now

from django_dbos.exceptions import WorkflowIDInUse
from django_dbos.hub import WORK, hub, interruption_of, outcome_of
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus
from django_dbos.sysdb import control, queues
from tests.sysdb.rows import claimant, committed, owned, rolled_back, seconds_since, workflow


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


@committed
@pytest.mark.parametrize("verb", ["resume", "fork"])
def test_what_is_put_on_a_queue_wakes_the_workers_when_it_commits(verb: str) -> None:
    workflow("w", WorkflowStatus.CANCELLED)
    with hub.listen(WORK) as woken:
        with transaction.atomic():
            if verb == "resume":
                control.resume("w")
            else:
                control.fork("w", "copy", 1)
            assert not woken.is_set()
        assert woken.is_set()


@rolled_back
def test_a_fork_takes_over_what_was_asked_and_starts_the_rest_afresh() -> None:
    owned("original", epoch=5, output='"done"', **FULL)
    workflow("fresh")
    control.fork("original", "copy", 1)
    differs = set(changes(columns("fresh"), columns("copy"))) - {"id", "created_at", "updated_at"}
    assert differs == {
        "forked_from_id",
        "class_name",
        "instance_name",
        "inputs",
        "serializer",
        "application_version",
        "application_name",
        "authenticated_user",
        "authenticated_roles",
        "assumed_role",
        "attributes",
    }
    row = Workflow.objects.get(pk="copy")
    assert (row.status, row.forked_from_id, row.inputs, row.attributes) == ("ENQUEUED", "original", "[1]", {"a": 1})


@rolled_back
def test_a_fork_copies_the_steps_below_its_start_whole() -> None:
    owned("original")
    for number in (1, 2, 3):
        Step.objects.create(
            workflow_id="original",
            number=number,
            name=f"step {number}",
            output=f"{number}",
            serializer="their.Serializer",
            child_id="child",
            attempts=number,
            executor_id="me",
            started_at=Now(),
            completed_at=Now(),
        )
    control.fork("original", "copy", 3)
    copied = list(Step.objects.filter(workflow_id="copy").order_by("number").values())
    originals = list(Step.objects.filter(workflow_id="original", number__lt=3).order_by("number").values())
    assert [{**step, "workflow_id": "original"} for step in copied] == originals
    assert Step.objects.filter(workflow_id="original").count() == 3


@rolled_back
def test_a_fork_under_an_id_that_is_taken_is_refused_and_writes_nothing() -> None:
    owned("original")
    Step.objects.create(workflow_id="original", number=1, name="step")
    workflow("taken", name="something else")
    before = columns("taken")
    with pytest.raises(WorkflowIDInUse, match="'taken'"):
        control.fork("original", "taken", 2)
    assert columns("taken") == before
    assert not Step.objects.filter(workflow_id="taken").exists()
