"""Numbers: groups, intervals, durations."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_dbos import (
    Aggregate,
    SetWorkflowID,
    astep_aggregates,
    aworkflow_aggregates,
    list_workflow_steps,
    step_aggregates,
    workflow,
    workflow_aggregates,
)
from django_dbos.exceptions import InvalidOption
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus
from tests.sysdb.rows import rolled_back

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def row(workflow_id: str, minute: float, seconds: float | None = None, **columns: Any) -> None:
    created = NOON + timedelta(minutes=minute)
    completed = None if seconds is None else created + timedelta(seconds=seconds)
    values = {"name": "charge", "status": WorkflowStatus.SUCCESS, **columns}
    Workflow.objects.create(id=workflow_id, created_at=created, started_at=created, completed_at=completed, **values)


def step(workflow_id: str, number: int, seconds: float, **columns: Any) -> None:
    completed = NOON + timedelta(minutes=number)
    Step.objects.create(
        workflow_id=workflow_id,
        number=number,
        started_at=completed - timedelta(seconds=seconds),
        completed_at=completed,
        **{"name": "pay", **columns},
    )


@pytest.fixture
def rows(db: None) -> None:
    row("a", 0, 2, queue_name="q", application_version="v1", executor_id="x")
    row("b", 59.9, 4, queue_name="q", application_version="v2", schedule_name="nightly")
    row("c", 60, 6, name="refund", status=WorkflowStatus.ERROR, application_name="shop")
    row("d", 61, None, status=WorkflowStatus.PENDING)


def summary(aggregates: list[Aggregate]) -> dict[tuple[str, ...], int]:
    return {tuple(each.group.values()): each.count for each in aggregates}


def test_workflows_are_counted_in_groups(rows: None) -> None:
    assert summary(workflow_aggregates()) == {("ERROR",): 1, ("PENDING",): 1, ("SUCCESS",): 2}
    assert summary(workflow_aggregates("name")) == {("charge",): 3, ("refund",): 1}
    assert summary(workflow_aggregates(["queue", "version"])) == {("", ""): 2, ("q", "v1"): 1, ("q", "v2"): 1}
    assert summary(workflow_aggregates(("executor", "application", "schedule"))) == {
        ("", "", ""): 1,
        ("", "", "nightly"): 1,
        ("", "shop", ""): 1,
        ("x", "", ""): 1,
    }
    assert summary(workflow_aggregates("status", name="charge", queue_name="q")) == {("SUCCESS",): 2}
    assert summary(workflow_aggregates(())) == {(): 4}
    assert workflow_aggregates("name", name="nobody") == []


def test_they_say_how_long_it_took(rows: None) -> None:
    error, pending, success = workflow_aggregates()
    assert (error.average_seconds, error.max_seconds) == (6.0, 6.0)
    assert (pending.average_seconds, pending.max_seconds) == (None, None)
    assert success == Aggregate(group={"status": "SUCCESS"}, bucket=None, count=2, average_seconds=3.0, max_seconds=4.0)


def test_intervals_are_those_in_which_they_were_created(rows: None) -> None:
    hours = workflow_aggregates("name", bucket_seconds=3600)
    assert [(each.bucket, *each.group.values(), each.count) for each in hours] == [
        (NOON, "charge", 2),
        (NOON + timedelta(hours=1), "charge", 1),
        (NOON + timedelta(hours=1), "refund", 1),
    ]
    assert [each.count for each in workflow_aggregates((), bucket_seconds=86_400)] == [4]


def test_steps_are_counted_in_groups(rows: None) -> None:
    step("a", 1, 2)
    step("a", 2, 4, error="e", executor_id="x")
    step("c", 3, 6, name="mail")
    assert summary(step_aggregates()) == {("pay",): 2, ("mail",): 1}
    assert summary(step_aggregates(["name", "status"])) == {
        ("mail", "SUCCESS"): 1,
        ("pay", "ERROR"): 1,
        ("pay", "SUCCESS"): 1,
    }
    assert summary(step_aggregates(["workflow_name", "queue"])) == {("charge", "q"): 2, ("refund", ""): 1}
    assert summary(step_aggregates("executor", step_name="pay")) == {("",): 1, ("x",): 1}
    assert summary(step_aggregates(status="ERROR")) == {("mail",): 1}
    (pay,) = step_aggregates("name", step_name="pay", bucket_seconds=3600)
    assert (pay.bucket, pay.average_seconds, pay.max_seconds) == (NOON, 3.0, 4.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_by": "colour"}, "group_by is one of .*'colour'"),
        ({"group_by": ["name", "attempts"]}, "'attempts'"),
        ({"bucket_seconds": 0}, "bucket_seconds"),
        ({"bucket_seconds": 1.5}, "bucket_seconds"),
        ({"nmae": "x"}, "no filter nmae"),
    ],
)
def test_what_cannot_be_grouped_is_refused_at_once(options: Any, message: str) -> None:
    for aggregates in (workflow_aggregates, step_aggregates):
        with pytest.raises(InvalidOption, match=message):
            aggregates(**options)


@workflow
def counts() -> list[list[Aggregate]]:
    return [workflow_aggregates("name", status="SUCCESS", bucket_seconds=3600), step_aggregates()]


@pytest.mark.django_db(transaction=True)
def test_in_a_body_they_are_recorded() -> None:
    row("a", 0, 2)
    with SetWorkflowID("counts"):
        found = counts()
    assert [each.count for each in found[0]] == [1]
    assert [each.name for each in list_workflow_steps("counts")] == ["DBOS.workflowAggregates", "DBOS.stepAggregates"]
    assert list_workflow_steps("counts")[0].result == found[0]


@rolled_back
def test_the_async_twins_do_the_same() -> None:
    row("a", 0, 2)
    step("a", 1, 2)

    async def look() -> list[list[Aggregate]]:
        return [await aworkflow_aggregates(), await astep_aggregates()]

    assert async_to_sync(look)() == [workflow_aggregates(), step_aggregates()]
