"""Lists, one row, steps: every filter, and what a workflow's body sees of it the second time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from django_dbos import (
    Queue,
    Runtime,
    SetWorkflowID,
    acount_workflows,
    aget_workflow_status,
    alist_queued_workflows,
    alist_workflow_steps,
    alist_workflows,
    cancel_workflow,
    count_workflows,
    get_workflow_status,
    list_queued_workflows,
    list_workflow_steps,
    list_workflows,
    resume_workflow,
    start_workflow,
    step,
    step_aggregates,
    workflow,
)
from django_dbos.exceptions import DBOSError, InvalidOption, RecordedError
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus
from tests.sysdb.rows import rolled_back

database = pytest.mark.django_db(transaction=True)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def row(workflow_id: str, minute: int, **columns: Any) -> None:
    created = NOON + timedelta(minutes=minute)
    values = {"name": "charge", "status": WorkflowStatus.SUCCESS, "created_at": created, **columns}
    Workflow.objects.create(id=workflow_id, **values)


@pytest.fixture
def rows(db: None) -> None:
    row("order-1", 1, queue_name="q", authenticated_user="eve", started_at=NOON, completed_at=NOON)
    row(
        "order-2",
        2,
        parent_id="order-1",
        application_version="v1",
        executor_id="x",
        attributes={"n": 1, "o": {"p": "q"}},
    )
    row("order-3", 3, forked_from_id="order-1", status=WorkflowStatus.ERROR, name="refund", schedule_name="nightly")
    row("ORDER-4", 4, queue_name="r", status=WorkflowStatus.ENQUEUED, application_name="shop", attributes={"n": True})
    row("x_y", 5, queue_name="q", status=WorkflowStatus.DELAYED, started_at=NOON + timedelta(hours=1))
    row("xay", 6, parent_id="order-2", status=WorkflowStatus.CANCELLED, completed_at=NOON + timedelta(hours=1))


#: filters -> the ids they find.
FOUND: list[tuple[dict[str, Any], str]] = [
    ({}, "order-1 order-2 order-3 ORDER-4 x_y xay"),
    ({"workflow_ids": "x_y"}, "x_y"),
    ({"workflow_ids": ["xay", "order-1", "nobody"]}, "order-1 xay"),
    ({"workflow_ids": []}, ""),
    ({"workflow_id_prefix": "order-"}, "order-1 order-2 order-3"),
    ({"workflow_id_prefix": "x_"}, "x_y"),
    ({"workflow_id_prefix": ""}, "order-1 order-2 order-3 ORDER-4 x_y xay"),
    ({"status": "ERROR"}, "order-3"),
    ({"status": [WorkflowStatus.ENQUEUED, "DELAYED"]}, "ORDER-4 x_y"),
    ({"name": "refund"}, "order-3"),
    ({"name": {"refund", "charge"}, "status": "ERROR"}, "order-3"),
    ({"application_version": "v1"}, "order-2"),
    ({"application_version": ""}, "order-1 order-3 ORDER-4 x_y xay"),
    ({"application_name": "shop"}, "ORDER-4"),
    ({"executor_id": "x"}, "order-2"),
    ({"queue_name": ["q", "r"]}, "order-1 ORDER-4 x_y"),
    ({"queues_only": True}, "order-1 ORDER-4 x_y"),
    ({"queues_only": False}, "order-1 order-2 order-3 ORDER-4 x_y xay"),
    ({"user": "eve"}, "order-1"),
    ({"schedule_name": "nightly"}, "order-3"),
    ({"forked_from": "order-1"}, "order-3"),
    ({"is_fork": True}, "order-3"),
    ({"is_fork": False, "name": "charge", "status": "SUCCESS"}, "order-1 order-2"),
    ({"was_forked_from": True}, "order-1"),
    ({"was_forked_from": False}, "order-2 order-3 ORDER-4 x_y xay"),
    ({"parent_workflow_id": "order-1"}, "order-2"),
    ({"has_parent": True}, "order-2 xay"),
    ({"has_parent": False}, "order-1 order-3 ORDER-4 x_y"),
    ({"attributes": {"n": 1}}, "order-2"),
    ({"attributes": {"n": True}}, "ORDER-4"),
    ({"attributes": {"o": {"p": "q"}, "n": 1}}, "order-2"),
    ({"attributes": {"o": {}}}, "order-2"),
    ({"attributes": {"o": {"p": "other"}}}, ""),
    ({"attributes": {"missing": None}}, ""),
    ({"attributes": {}}, "order-1 order-2 order-3 ORDER-4 x_y xay"),
    ({"start_time": NOON + timedelta(minutes=5)}, "x_y xay"),
    ({"end_time": "2026-01-01T12:02:00+00:00"}, "order-1 order-2"),
    ({"start_time": "2026-01-01T14:04:00+02:00", "end_time": datetime(2026, 1, 1, 12, 4, 59)}, "ORDER-4"),
    ({"completed_after": NOON}, "order-1 xay"),
    ({"completed_before": NOON}, "order-1"),
    ({"dequeued_after": NOON + timedelta(seconds=1)}, "x_y"),
    ({"dequeued_before": NOON + timedelta(minutes=1)}, "order-1"),
    ({"name": None, "attributes": None, "has_parent": None, "status": "ERROR"}, "order-3"),
]


@pytest.mark.parametrize(("filters", "ids"), FOUND, ids=lambda value: str(value)[:60])
def test_filters(rows: None, filters: Any, ids: str) -> None:
    found = ids.split()
    assert [each.pk for each in list_workflows(**filters)] == found
    assert [each.pk for each in list_workflows(**filters, sort_desc=True, limit=2)] == found[::-1][:2]
    assert count_workflows(**filters) == len(found)


def test_attributes_are_looked_into_wherever_the_filter_stands(rows: None) -> None:
    Step.objects.create(workflow_id="order-2", number=1, name="s")
    assert [each.count for each in step_aggregates(attributes={"n": 1})] == [1]


def test_pages(rows: None) -> None:
    first = list_workflows(limit=2)
    assert [each.pk for each in list_workflows(after=first[-1], limit=2)] == ["order-3", "ORDER-4"]
    assert [each.pk for each in list_workflows(after="order-3", sort_desc=True)] == ["order-2", "order-1"]
    assert [each.pk for each in list_workflows(offset=4)] == ["x_y", "xay"]
    assert [each.pk for each in list_workflows(after="order-1", name="refund")] == ["order-3"]


def test_what_waits_on_queues_or_runs_from_them(rows: None) -> None:
    assert [each.pk for each in list_queued_workflows()] == ["ORDER-4", "x_y"]
    assert [each.pk for each in list_queued_workflows(queue_name="q")] == ["x_y"]
    assert [each.pk for each in list_queued_workflows(status="SUCCESS", load_input=False)] == ["order-1"]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"nmae": "charge"}, "no filter nmae"),
    ({"status": "DONE"}, "status is one of DELAYED"),
    ({"name": 5}, "name is a text"),
    ({"name": ["a", None]}, "name is a text.*None"),
    ({"start_time": "yesterday"}, "start_time is a datetime"),
    ({"end_time": 5}, "end_time is a datetime"),
    ({"has_parent": "yes"}, "has_parent is a bool"),
    ({"attributes": [1]}, "attributes is a mapping"),
    ({"workflow_id_prefix": 5}, "workflow_id_prefix is a str"),
    ({"limit": -1}, "limit"),
    ({"offset": 1.5}, "offset"),
    ({"after": 5}, "after is a workflow"),
]


@pytest.mark.parametrize(("filters", "message"), BAD)
def test_a_bad_filter_is_refused_at_once(filters: Any, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        list_workflows(**filters)


@rolled_back
def test_a_time_without_a_zone_is_in_djangos(settings: Any) -> None:
    row("w", 0)
    with timezone.override("America/New_York"):
        assert count_workflows(start_time="2026-01-01T07:00:00", end_time="2026-01-01 07:00") == 1


# ---- one row, and its payloads --------------------------------------------------------------------------------


@step
def halved(number: int) -> float:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number / 2


@workflow
def quartered(number: int, *, label: str = "") -> float:
    return halved(int(halved(number)))


@database
def test_a_row_knows_its_arguments_its_result_and_its_error() -> None:
    with SetWorkflowID("good"):
        quartered(8, label="eight")
    with SetWorkflowID("bad"), pytest.raises(ValueError, match="negative"):
        quartered(-1)
    good, bad = get_workflow_status("good"), get_workflow_status("bad")
    assert good is not None
    assert bad is not None
    assert (good.call, good.result, good.exception) == (((8,), {"label": "eight"}), 2.0, None)
    assert (bad.call, bad.result) == (((-1,), {}), None)
    assert isinstance(bad.exception, ValueError)
    assert get_workflow_status("nobody") is None
    first, second = list_workflow_steps("good")
    assert (first.name, first.result, second.result, first.exception) == ("halved", 4.0, 2.0, None)
    (failed,) = list_workflow_steps("bad", load_output=False)
    assert failed.get_deferred_fields() == {"output", "error"}
    assert isinstance(failed.exception, ValueError)
    assert [each.number for each in list_workflow_steps("good", limit=1, offset=1)] == [2]
    assert list_workflow_steps("nobody") == []


@rolled_back
def test_a_payload_that_cannot_be_read_comes_as_it_is_stored() -> None:
    row("w", 0, inputs="{", output="{", error="{", serializer="json")
    row("x", 1, inputs="[1]", output="gone", serializer="their.Serializer")
    row("empty", 2)
    bad, other, empty = list_workflows()
    assert (bad.call, bad.result) == ((("{",), {}), "{")
    assert isinstance(bad.exception, RecordedError)
    assert (other.call, other.result, other.exception) == ((("[1]",), {}), "gone", None)
    assert (empty.call, empty.result, empty.exception) == (((), {}), None, None)
    saved = Step.objects.create(workflow_id="w", number=1, name="s", output="{")
    assert (saved.result, saved.exception) == ("{", None)


# ---- in a workflow's body -------------------------------------------------------------------------------------

seen: list[Any] = []
WAITING = Queue("listing-waits")


@workflow
def looks_around() -> list[str]:
    mine = [
        [
            (each.pk, each.status, each.queue_name)
            for each in list_workflows(workflow_id_prefix="other", load_input=False)
        ],
        [each.pk for each in list_queued_workflows(queue_name="nowhere")],
        [(each.number, each.name) for each in list_workflow_steps("other")],
        getattr(get_workflow_status("other"), "status", None),
        count_workflows(workflow_id_prefix="other"),
        get_workflow_status("nobody"),
    ]
    seen.append(mine)
    if len(seen) == 1:
        raise KeyboardInterrupt  # as if the process had died here
    return [each.name for each in list_workflow_steps("looks")]


@database
def test_a_replay_sees_what_was_there_the_first_time() -> None:
    seen.clear()
    row("other", 0, status=WorkflowStatus.ENQUEUED, queue_name="nowhere")
    Step.objects.create(workflow_id="other", number=1, name="s")
    with SetWorkflowID("looks"), pytest.raises(KeyboardInterrupt):
        looks_around()
    cancel_workflow("other")
    row("other one", 1)
    Step.objects.all().filter(workflow_id="other").delete()
    with Runtime():
        names = resume_workflow("looks").get_result(timeout=20)
    assert seen[0] == seen[1]
    assert seen[0][0] == [("other", "ENQUEUED", "nowhere")]
    assert names == [
        "DBOS.listWorkflows",
        "DBOS.listQueuedWorkflows",
        "DBOS.listWorkflowSteps",
        "DBOS.getStatus",
        "DBOS.countWorkflows",
        "DBOS.getStatus",
    ]


@database
def test_the_async_twins_do_the_same() -> None:
    row("w", 0, status=WorkflowStatus.ENQUEUED, queue_name="q")
    Step.objects.create(workflow_id="w", number=1, name="s")

    async def look() -> list[Any]:
        status = await aget_workflow_status("w")
        return [
            [each.pk for each in await alist_workflows()],
            [each.pk for each in await alist_queued_workflows()],
            [each.name for each in await alist_workflow_steps("w")],
            status and status.status,
            await acount_workflows(status="ENQUEUED"),
        ]

    assert async_to_sync(look)() == [["w"], ["w"], ["s"], "ENQUEUED", 1]
    with pytest.raises(DBOSError):
        async_to_sync(alist_workflows)(nmae="x")  # type: ignore[call-arg]


@workflow
async def looks_around_async() -> list[str]:
    return [each.status for each in await alist_workflows(workflow_ids="w")]


@database
def test_an_async_body_lists_too() -> None:
    row("w", 0)
    with Runtime():
        assert start_workflow(looks_around_async).get_result(timeout=20) == ["SUCCESS"]
