"""What can be said for the starts in a block."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from django_dbos import (
    Queue,
    Runtime,
    SetAuthentication,
    SetEnqueueOptions,
    SetWorkflowAttributes,
    SetWorkflowID,
    SetWorkflowTimeout,
    WorkflowHandle,
    assumed_role,
    astart_workflow,
    authenticated_roles,
    authenticated_user,
    resume_workflow,
    start_workflow,
    step,
    workflow,
)
from django_dbos.exceptions import (
    AwaitedWorkflowCancelled,
    InvalidOption,
    InvalidWorkflowID,
    QueueDeduplicated,
    WorkflowIDInUse,
)
from django_dbos.models import Workflow
from django_dbos.states import WorkflowStatus
from django_dbos.sysdb import executors
from tests.sysdb.rows import elsewhere, seconds_since, together

database = pytest.mark.django_db(transaction=True)

QUEUE = Queue("options")
OTHER = Queue("options, another")


@step
def plain_step(value: Any) -> Any:
    return value


@workflow
def giving(value: Any = None) -> Any:
    return plain_step(value)


@workflow
async def agiving(value: Any = None) -> Any:
    return value


@workflow
def endless() -> None:
    for number in range(2000):
        plain_step(number)
        threading.Event().wait(0.01)


def who() -> list[Any]:
    return [authenticated_user(), authenticated_roles(), assumed_role()]


@step
def who_in_step() -> list[Any]:
    return who()


@workflow
def asking() -> list[Any]:
    return [who(), who_in_step()]


def row(workflow_id: str) -> Workflow:
    return Workflow.objects.get(pk=workflow_id)


# ---- blocks


@database
def test_in_nested_blocks_the_inner_one_wins_option_by_option() -> None:
    with SetEnqueueOptions(priority=3, partition_key="outer"):
        with SetEnqueueOptions(partition_key="inner", application_version="v"):
            inner = QUEUE.enqueue(giving).get_status()
        after = QUEUE.enqueue(giving).get_status()
    outside = QUEUE.enqueue(giving).get_status()
    assert (inner.priority, inner.partition_key, inner.application_version) == (3, "inner", "v")
    assert (after.priority, after.partition_key, after.application_version) == (3, "outer", "")
    assert (outside.priority, outside.partition_key) == (0, "")


@database
def test_one_block_may_be_entered_again_and_by_several_threads() -> None:
    block = SetEnqueueOptions(priority=3)
    with block, block:
        assert elsewhere(lambda: QUEUE.enqueue(giving).get_status().priority) == 0
        assert QUEUE.enqueue(giving).get_status().priority == 3
    with SetWorkflowID("again") as named:
        QUEUE.enqueue(giving)
    with named:
        assert QUEUE.enqueue(giving).workflow_id == "again"


@database
def test_what_one_task_says_does_not_hold_for_another() -> None:
    async def enqueue(priority: int) -> int:
        with SetEnqueueOptions(priority=priority):
            await asyncio.sleep(0)
            handle = await QUEUE.aenqueue(giving)
        return (await handle.aget_status()).priority

    async def both() -> list[int]:
        return list(await asyncio.gather(enqueue(1), enqueue(2)))

    assert async_to_sync(both)() == [1, 2]


@database
def test_options_are_taken_at_the_call_not_when_it_is_awaited() -> None:
    async def client() -> tuple[str, int]:
        with SetEnqueueOptions(priority=7), SetWorkflowID("taken"):
            enqueueing = QUEUE.aenqueue(giving)
        handle = await enqueueing
        return handle.workflow_id, (await handle.aget_status()).priority

    assert async_to_sync(client)() == ("taken", 7)


@database
def test_a_body_begins_with_none_of_its_callers_options() -> None:
    @workflow
    def quiet() -> str:
        return QUEUE.enqueue(giving).workflow_id

    with SetWorkflowAttributes({"a": 1}), SetWorkflowTimeout(100), SetWorkflowID("quiet"):
        child = row(quiet())
    assert row("quiet").attributes == {"a": 1}
    assert child.pk == "quiet-1"
    assert (child.attributes, child.timeout) == ({}, None)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"priority": 0}, "priority"),
        ({"deduplication_id": "d", "duplication_policy": "reject"}, "deduplication_id, duplication_policy"),
        ({"delay_seconds": 1}, "delay_seconds"),
        ({"partition_key": "k"}, "partition_key"),
        ({"application_version": "v"}, "application_version"),
    ],
)
@pytest.mark.parametrize("start", [giving, agiving, lambda: start_workflow(giving), lambda: astart_workflow(giving)])
@database
def test_what_only_an_enqueue_can_do_is_refused_for_a_direct_start(
    start: Callable[[], Any], options: dict[str, Any], named: str
) -> None:
    with SetEnqueueOptions(**options), pytest.raises(InvalidOption, match=f"^{named} can be said for enqueues only"):
        start()
    assert not Workflow.objects.exists()


@pytest.mark.parametrize(
    ("option", "bad"),
    [
        ("priority", -1),
        ("priority", True),
        ("deduplication_id", ""),
        ("partition_key", "x" * 256),
        ("application_version", 1),
        ("duplication_policy", "join"),
        ("delay_seconds", -1),
        ("delay_seconds", float("nan")),
        ("delay_seconds", "1"),
        ("delay_seconds", 1e12),
        ("delay_seconds", datetime(2030, 1, 1)),
    ],
)
def test_a_bad_enqueue_option_is_refused_at_once_by_its_name(option: str, bad: Any) -> None:
    with pytest.raises(InvalidOption, match="delay_seconds" if option == "delay_seconds" else option):
        SetEnqueueOptions(**{option: bad})


# ---- ids


@database
@pytest.mark.parametrize("start", [giving, lambda: start_workflow(giving), lambda: QUEUE.enqueue(giving)])
def test_an_id_that_has_to_be_new_is_refused_if_it_exists(start: Callable[[], Any]) -> None:
    with SetWorkflowID("new", reuse_policy="reject"):
        start()
    with SetWorkflowID("new", reuse_policy="reject"), pytest.raises(WorkflowIDInUse, match="'new' is in use"):
        start()
    with SetWorkflowID("new", reuse_policy="return-existing"):
        start()
    assert not executors.suspects


@database
def test_a_runtime_keeps_its_slot_when_an_id_is_refused() -> None:
    giving()
    with SetWorkflowID("new"):
        giving("first")
    with Runtime(concurrency=1):
        for _ in range(3):
            with SetWorkflowID("new", reuse_policy="reject"), pytest.raises(WorkflowIDInUse):
                start_workflow(giving)
        assert start_workflow(giving, "next").get_result(timeout=10) == "next"


@database
@pytest.mark.parametrize("is_called", [True, False])
def test_that_a_childs_id_was_refused_is_recorded(is_called: bool) -> None:
    @workflow
    def insisting() -> Any:
        try:
            with SetWorkflowID("taken", reuse_policy="reject"):
                return giving("mine") if is_called else start_workflow(giving, "mine").get_result()
        except WorkflowIDInUse as error:
            return str(error)

    with SetWorkflowID("taken"):
        giving("theirs")
    with SetWorkflowID("insisting"):
        assert "'taken' is in use" in insisting()
    Workflow.objects.filter(pk="taken").delete()
    Workflow.objects.filter(pk="insisting").update(status="ENQUEUED", executor_id="", output=None)
    with Runtime():
        handle: WorkflowHandle[str] = WorkflowHandle("insisting")
        assert "'taken' is in use" in handle.get_result(timeout=10)


@database
def test_a_called_child_under_an_id_that_exists_does_not_run_again() -> None:
    ran: list[str] = []

    @workflow
    def counted(who: str) -> str:
        ran.append(who)
        return who

    @workflow
    def reusing() -> str:
        with SetWorkflowID("shared"):
            return counted("child")

    with SetWorkflowID("shared"):
        counted("first")
    assert reusing() == "first"
    assert ran == ["first"]


def test_a_bad_id_or_policy_is_refused_at_once() -> None:
    with pytest.raises(InvalidWorkflowID):
        SetWorkflowID("")
    with pytest.raises(InvalidOption, match="reuse_policy is None or 'reject' or 'return-existing', not 'replace'"):
        SetWorkflowID("w", reuse_policy="replace")  # type: ignore[arg-type]


# ---- timeouts


def in_every_way(function: Callable[..., Any], how: str) -> Any:
    """The result of a workflow that was called, started or enqueued."""
    if how == "call":
        return function()
    handle = start_workflow(function) if how == "start" else QUEUE.enqueue(function)
    return handle.get_result(timeout=10)


@database
@pytest.mark.parametrize("how", ["call", "start", "enqueue"])
def test_a_workflow_that_runs_out_of_time_is_cancelled(how: str) -> None:
    with Runtime(), SetWorkflowID("slow"), SetWorkflowTimeout(0.3):
        with pytest.raises(AwaitedWorkflowCancelled):
            in_every_way(endless, how)
        slow = row("slow")
        assert slow.status == WorkflowStatus.CANCELLED
        assert slow.deadline is not None
        assert slow.started_at is not None
        assert slow.completed_at is not None
        assert (slow.deadline - slow.started_at).total_seconds() == pytest.approx(0.3, abs=0.1)
        assert slow.completed_at >= slow.deadline
        assert slow.steps.count() < 200


@database
def test_the_clock_of_an_enqueued_workflow_starts_with_its_claim() -> None:
    with SetWorkflowTimeout(60):
        handle = QUEUE.enqueue(giving, 1)
    assert (handle.get_status().timeout, handle.get_status().deadline) == (60, None)
    with Runtime():
        assert handle.get_result(timeout=10) == 1
    done = handle.get_status()
    assert done.deadline is not None
    assert -seconds_since(done.deadline) == pytest.approx(60, abs=5)


@database
def test_children_inherit_the_deadline_unless_they_have_a_timeout_of_their_own_or_none() -> None:
    @workflow
    def family() -> list[str]:
        giving()
        ids = [start_workflow(giving).workflow_id, QUEUE.enqueue(giving).workflow_id]
        with SetWorkflowTimeout(None):
            ids.append(QUEUE.enqueue(giving).workflow_id)
        with SetWorkflowTimeout(1000):
            ids.append(QUEUE.enqueue(giving).workflow_id)
            giving()
        return ids

    with SetWorkflowTimeout(100), SetWorkflowID("family"):
        started, enqueued, detached, own = map(row, family())
    deadline = row("family").deadline
    assert deadline is not None
    assert row("family-1").deadline == started.deadline == enqueued.deadline == deadline
    assert (detached.deadline, detached.timeout) == (None, None)
    assert (own.deadline, own.timeout) == (None, 1000)
    called = row("family-7").deadline
    assert called is not None
    assert (called - deadline).total_seconds() == pytest.approx(900, abs=10)


@database
def test_a_deadline_reaches_children_of_a_claimed_parent_and_what_still_waits() -> None:
    @workflow
    def waiting_for_nobody() -> None:
        OTHER.enqueue(giving).get_result()

    with SetWorkflowTimeout(0.3):
        handle = QUEUE.enqueue(waiting_for_nobody)
    with Runtime(queues=["options"]), pytest.raises(AwaitedWorkflowCancelled):
        handle.get_result(timeout=10)
    assert row(f"{handle.workflow_id}-1").status == WorkflowStatus.CANCELLED


@database
def test_a_workflow_that_was_resumed_has_its_whole_timeout_again() -> None:
    with SetWorkflowTimeout(50):
        handle = QUEUE.enqueue(giving, 1)
    Workflow.objects.update(status="CANCELLED", deadline=datetime(2020, 1, 1, tzinfo=UTC))
    resume_workflow(handle.workflow_id)
    assert handle.get_status().deadline is None
    with Runtime():
        assert handle.get_result(timeout=10) == 1
    assert -seconds_since(handle.get_status().deadline) == pytest.approx(50, abs=5)


@pytest.mark.parametrize("bad", [0, -1, float("inf"), float("nan"), "1", True, 1e11])
def test_a_bad_timeout_is_refused_at_once(bad: Any) -> None:
    with pytest.raises(InvalidOption, match="A workflow's timeout is"):
        SetWorkflowTimeout(bad)


# ---- delays


@database
@pytest.mark.parametrize(
    "delay", [0.4, timedelta(seconds=0.4), lambda: datetime.now(UTC) + timedelta(seconds=0.4)], ids=str
)
def test_a_delayed_workflow_starts_when_its_time_has_come(delay: Any) -> None:
    with Runtime():
        with SetEnqueueOptions(delay_seconds=delay() if callable(delay) else delay):
            handle = QUEUE.enqueue(giving, 1)
        assert handle.get_status().status == WorkflowStatus.DELAYED
        assert handle.get_result(timeout=10) == 1
    done = handle.get_status()
    assert done.started_at is not None
    assert done.delay_until is not None
    assert 0 <= (done.started_at - done.delay_until).total_seconds() < 0.3
    assert (done.delay_until - done.created_at).total_seconds() == pytest.approx(0.4, abs=0.3)


@database
def test_no_delay_is_no_delay() -> None:
    with SetEnqueueOptions(delay_seconds=0):
        assert QUEUE.enqueue(giving).get_status().status == WorkflowStatus.ENQUEUED


@database
def test_a_time_that_has_passed_delays_nothing() -> None:
    with Runtime(), SetEnqueueOptions(delay_seconds=datetime(2020, 1, 1, tzinfo=UTC)):
        assert QUEUE.enqueue(giving, 1).get_result(timeout=10) == 1


# ---- deduplication


@database
def test_while_it_is_active_a_deduplication_id_lets_no_second_one_in() -> None:
    with SetEnqueueOptions(deduplication_id="d"):
        holder = QUEUE.enqueue(giving, 1)
        with pytest.raises(QueueDeduplicated, match=holder.workflow_id) as caught:
            QUEUE.enqueue(giving, 2)
        OTHER.enqueue(giving, 3)
    error = caught.value
    assert (error.workflow_id, error.queue_name, error.deduplication_id) == (holder.workflow_id, "options", "d")
    assert Workflow.objects.count() == 2


@database
def test_one_may_join_the_holder_of_a_deduplication_id() -> None:
    with SetEnqueueOptions(deduplication_id="d", duplication_policy="return-existing"):
        holder = QUEUE.enqueue(giving, 1)
        assert QUEUE.enqueue(giving, 2).workflow_id == holder.workflow_id
    assert Workflow.objects.count() == 1


@database
def test_the_same_workflow_id_is_no_duplicate_of_itself() -> None:
    for _ in range(2):
        with SetEnqueueOptions(deduplication_id="d"), SetWorkflowID("w"):
            assert QUEUE.enqueue(giving).workflow_id == "w"


@database
def test_the_end_of_its_holder_frees_a_deduplication_id() -> None:
    with Runtime(), SetEnqueueOptions(deduplication_id="d"):
        for number in range(3):
            assert QUEUE.enqueue(giving, number).get_result(timeout=10) == number


@database
def test_a_refused_enqueue_does_not_break_the_callers_transaction() -> None:
    with SetEnqueueOptions(deduplication_id="d"), transaction.atomic():
        QUEUE.enqueue(giving, 1)
        with pytest.raises(QueueDeduplicated):
            QUEUE.enqueue(giving, 2)
    with transaction.atomic():
        kept = QUEUE.enqueue(giving, 3)
    assert Workflow.objects.filter(pk=kept.workflow_id).exists()
    assert Workflow.objects.count() == 2


@database
def test_in_a_workflow_what_became_of_a_duplicate_is_recorded() -> None:
    @workflow
    def enqueueing() -> list[str]:
        with SetEnqueueOptions(deduplication_id="d", duplication_policy="return-existing"):
            joined = QUEUE.enqueue(giving).workflow_id
        try:
            with SetEnqueueOptions(deduplication_id="d"):
                QUEUE.enqueue(giving)
        except QueueDeduplicated as error:
            return [joined, error.workflow_id, plain_step("end")]
        return [joined, "", ""]

    with SetEnqueueOptions(deduplication_id="d"):
        holder = QUEUE.enqueue(giving).workflow_id
    with SetWorkflowID("parent"):
        assert enqueueing() == [holder, holder, "end"]
    assert [(each.child_id, each.error is None) for each in row("parent").steps.order_by("number")] == [
        (holder, True),
        ("", False),
        ("", True),
    ]
    Workflow.objects.filter(pk=holder).delete()
    Workflow.objects.filter(pk="parent").update(status="ENQUEUED", executor_id="", output=None)
    with Runtime(queues=[]):
        handle: WorkflowHandle[list[str]] = WorkflowHandle("parent")
        assert handle.get_result(timeout=10) == [holder, holder, "end"]
    assert Workflow.objects.count() == 1


@database
def test_of_two_at_the_same_time_one_gets_in() -> None:
    def enqueue() -> str:
        with SetEnqueueOptions(deduplication_id="d", duplication_policy="return-existing"):
            return QUEUE.enqueue(giving).workflow_id

    assert len(set(together(*[enqueue] * 4))) == 1
    assert Workflow.objects.count() == 1


# ---- attributes


@database
@pytest.mark.parametrize("start", [giving, lambda: start_workflow(giving), lambda: QUEUE.enqueue(giving)])
def test_attributes_are_written_down_and_those_of_nested_blocks_add_up(start: Callable[[], Any]) -> None:
    with SetWorkflowAttributes({"a": [1, None, {"b": "č"}], "c": 1}), SetWorkflowAttributes({"c": 2}):
        start()
    assert Workflow.objects.get().attributes == {"a": [1, None, {"b": "č"}], "c": 2}


@database
def test_none_drops_the_attributes_said_outside() -> None:
    with SetWorkflowAttributes({"a": 1}), SetWorkflowAttributes(None):
        QUEUE.enqueue(giving)
    assert Workflow.objects.get().attributes == {}


@pytest.mark.parametrize(
    "bad", ["text", [1], {1: 2}, {"a": object()}, {"a": float("nan")}, {"a": "\x00"}, {"a": "\ud800"}]
)
def test_bad_attributes_are_refused_at_once(bad: Any) -> None:
    with pytest.raises(InvalidOption, match="attributes"):
        SetWorkflowAttributes(bad)


@database
def test_a_text_that_only_looks_like_a_bad_one_is_fine() -> None:
    with SetWorkflowAttributes({"a": "\\u0000"}):
        QUEUE.enqueue(giving)
    assert Workflow.objects.get().attributes == {"a": "\\u0000"}


# ---- identity


@database
@pytest.mark.parametrize("how", ["call", "start", "enqueue"])
def test_an_identity_is_written_down_and_restored_where_the_body_runs(how: str) -> None:
    assert who() == [None, [], None]
    with Runtime(), SetAuthentication("ada", ["editor", "admin"]), SetWorkflowID("w"):
        assert who() == ["ada", ["editor", "admin"], None]
        answer = in_every_way(asking, how)
    assert answer == [["ada", ["editor", "admin"], None]] * 2
    assert (row("w").authenticated_user, row("w").authenticated_roles) == ("ada", ["editor", "admin"])


@database
def test_children_act_on_behalf_of_the_same_user_unless_it_is_said_otherwise() -> None:
    @workflow
    def delegating() -> list[Any]:
        answers = [asking()[0], QUEUE.enqueue(asking).get_result()[0]]
        with SetAuthentication("grace"):
            answers += [asking()[0]]
        with SetAuthentication(None):
            answers += [asking()[0]]
        return answers

    with Runtime(), SetAuthentication("ada", ["editor"]):
        handle = start_workflow(delegating)
        ada = ["ada", ["editor"], None]
        assert handle.get_result(timeout=10) == [ada, ada, ["grace", [], None], [None, [], None]]


def test_a_bad_identity_is_refused_at_once() -> None:
    with pytest.raises(InvalidOption, match="A user is a text"):
        SetAuthentication("")
    with pytest.raises(InvalidOption, match="roles is a list of texts"):
        SetAuthentication("ada", "admin")
    with pytest.raises(InvalidOption, match="A role is a text"):
        SetAuthentication("ada", [1])  # type: ignore[list-item]
