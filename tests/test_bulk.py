"""Many enqueues at a time, and enqueues by name."""

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction

from django_dbos import (
    Enqueued,
    EnqueueOptions,
    Queue,
    Runtime,
    SetAuthentication,
    SetEnqueueOptions,
    SetWorkflowAttributes,
    SetWorkflowID,
    SetWorkflowTimeout,
    WorkflowHandle,
    aenqueue_many,
    aenqueue_workflow,
    aenqueue_workflow_with_options,
    enqueue_many,
    enqueue_workflow,
    enqueue_workflow_with_options,
    workflow,
)
from django_dbos.exceptions import (
    ConflictingWorkflow,
    InvalidOption,
    InvalidWorkflowID,
    QueueDeduplicated,
    SerializationError,
    UnknownQueue,
    WorkflowIDInUse,
)
from django_dbos.models import Queue as QueueRow
from django_dbos.models import Workflow
from django_dbos.registry import workflow_registry
from django_dbos.states import WorkflowStatus
from django_dbos.sysdb import bulk, queues
from django_dbos.sysdb.queues import Claimant
from tests.support import statements

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = Queue("bulk")


@workflow
def repeating(text: Any, times: int = 1) -> Any:
    return text * times


@workflow
def another(text: Any) -> Any:
    return text


def claim_order(count: int) -> list[str]:
    claimant = Claimant(executor_id="me", names=workflow_registry.names(), application_version="")
    return [row.id for row in queues.claim(claimant, {"bulk": count}, count)]


# ---- many at a time


def test_each_call_becomes_a_workflow_and_its_result_says_so() -> None:
    results = enqueue_many(QUEUE, repeating, [("a",), (("b",), {"times": 2}), ("c", 3)])
    assert [each.outcome for each in results] == ["new"] * 3
    with Runtime():
        assert [each.handle.get_result(timeout=10) for each in results] == ["a", "bb", "ccc"]
    assert [each.handle.workflow_id for each in results] == [each.workflow_id for each in results]


def test_none_are_none() -> None:
    with statements() as sent:
        assert enqueue_many("bulk", repeating, []) == []
    assert not Workflow.objects.exists()
    assert not any("INSERT" in statement for statement in sent)


def test_the_async_twin_does_the_same() -> None:
    results = async_to_sync(aenqueue_many)(QUEUE, repeating, ((str(number),) for number in range(3)))
    with Runtime():
        assert [each.handle.get_result(timeout=10) for each in results] == ["0", "1", "2"]


@pytest.mark.parametrize("chosen", [True, False])
def test_queues_serve_them_in_the_order_of_the_calls(chosen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 300)
    count = 1500
    ids = [str(number * 7919 % count) for number in range(count)] if chosen else None
    results = enqueue_many(QUEUE, repeating, [("x",)] * count, workflow_ids=ids)
    last = QUEUE.enqueue(repeating, "x").workflow_id
    expected = [each.workflow_id for each in results]
    assert ids is None or ids == expected
    assert claim_order(count + 1) == [*expected, last]


def test_ids_that_exist_are_attached_to_and_the_first_of_two_is_the_new_one() -> None:
    with SetWorkflowID("old"):
        QUEUE.enqueue(repeating, "old")
    results = enqueue_many(
        QUEUE, repeating, [("a",), ("b",), ("c",), ("d",)], workflow_ids=["twice", "old", "twice", None]
    )
    assert [each.outcome for each in results] == ["new", "attached", "attached", "new"]
    assert [each.workflow_id for each in results[:3]] == ["twice", "old", "twice"]
    with Runtime():
        assert [each.handle.get_result(timeout=10) for each in results] == ["a", "old", "a", "d"]


def test_deduplication_ids_that_are_held_are_answered_with_the_holder() -> None:
    with SetEnqueueOptions(deduplication_id="held"):
        holder = QUEUE.enqueue(repeating, "x").workflow_id
    results = enqueue_many(
        QUEUE, repeating, [(str(number),) for number in range(5)], deduplication_ids=["a", "held", "a", None, None]
    )
    assert [each.outcome for each in results] == ["new", "deduplicated", "deduplicated", "new", "new"]
    assert [each.workflow_id for each in results[1:3]] == [holder, results[0].workflow_id]
    assert Workflow.objects.count() == 4


def test_an_id_of_another_function_refuses_all_of_them() -> None:
    with SetWorkflowID("theirs"):
        QUEUE.enqueue(another, "x")
    with pytest.raises(ConflictingWorkflow, match="'theirs' belongs to 'another'"):
        enqueue_many(QUEUE, repeating, [("a",), ("b",)], workflow_ids=[None, "theirs"])
    assert Workflow.objects.count() == 1


def test_an_argument_that_cannot_be_stored_is_named_and_nothing_is_written() -> None:
    with pytest.raises(SerializationError, match=r"^calls\[2\]\.args\[0\] is a <class object>"):
        enqueue_many(QUEUE, repeating, [("a",), ({1, 2},), (object(),)])
    assert not Workflow.objects.exists()


def test_arguments_that_json_lacks_come_back_as_they_were() -> None:
    values = [(1, 2), {3}, "\ud83d\ude00", "\ud800", float("inf"), {"$type": "x"}, {"k": [1.5, None]}]
    results = enqueue_many(QUEUE, another, [(value,) for value in values])
    with Runtime():
        assert [each.handle.get_result(timeout=10) for each in results] == values


def test_they_appear_on_commit_and_vanish_on_rollback() -> None:
    with transaction.atomic():
        kept = enqueue_many(QUEUE, repeating, [("a",)])
    with transaction.atomic():
        enqueue_many(QUEUE, repeating, [("b",)])
        transaction.set_rollback(True)
    assert list(Workflow.objects.values_list("pk", flat=True)) == [kept[0].workflow_id]


def test_what_holds_around_the_call_holds_for_all() -> None:
    with (
        SetEnqueueOptions(priority=4, delay_seconds=100, partition_key="k", application_version="v"),
        SetWorkflowAttributes({"a": 1}),
        SetWorkflowTimeout(9),
        SetAuthentication("ada", ["editor"]),
    ):
        enqueue_many(QUEUE, repeating, [("a",), ("b",)])
    for row in Workflow.objects.all():
        assert (row.status, row.priority, row.partition_key) == (WorkflowStatus.DELAYED, 4, "k")
        assert (row.application_version, row.attributes, row.timeout) == ("v", {"a": 1}, 9)
        assert (row.authenticated_user, row.authenticated_roles) == ("ada", ["editor"])
        assert row.delay_until is not None


def test_a_workflow_enqueues_many_in_one_recorded_step() -> None:
    @workflow
    def spreading() -> list[Any]:
        results = enqueue_many(QUEUE, repeating, [("a",), ("b",)], deduplication_ids=["same", "same"])
        return [list(each) for each in results]

    with SetWorkflowID("p"), SetWorkflowTimeout(100):
        results = spreading()
    ((first, new), (second, deduplicated)) = results
    assert (first, new, deduplicated) == (second, "new", "deduplicated")
    parent, child = Workflow.objects.get(pk="p"), Workflow.objects.get(pk=first)
    assert (child.parent_id, child.deadline) == ("p", parent.deadline)
    assert [step.name for step in parent.steps.all()] == ["DBOS.enqueueMany"]
    Workflow.objects.filter(pk="p").update(status="ENQUEUED", executor_id="", output=None)
    with Runtime(queues=[]):
        handle: WorkflowHandle[list[Any]] = WorkflowHandle("p")
        assert handle.get_result(timeout=10) == results
    assert Workflow.objects.count() == 2


def test_many_are_one_insert_and_one_wake_up() -> None:
    with statements() as sent:
        enqueue_many(QUEUE, repeating, [("x",)] * 2000)
    assert len(sent) == (4 if connection.vendor == "postgresql" else 3), sent


@pytest.mark.parametrize("bad", ["text", 1, ["a"]])
def test_a_call_that_is_no_tuple_is_refused_by_its_place(bad: Any) -> None:
    with pytest.raises(InvalidOption, match=r"calls\[1\] is a tuple"):
        enqueue_many(QUEUE, repeating, [("a",), bad])


def test_lists_of_another_length_and_bad_ids_are_refused() -> None:
    with pytest.raises(InvalidOption, match="workflow_ids is a list with one text, or None, for each of the 1 calls"):
        enqueue_many(QUEUE, repeating, [("a",)], workflow_ids=["a", "b"])
    with pytest.raises(InvalidWorkflowID, match=r"workflow_ids\[0\]"):
        enqueue_many(QUEUE, repeating, [("a",)], workflow_ids=[""])
    with SetEnqueueOptions(deduplication_id="d"), pytest.raises(InvalidOption, match="deduplication_ids="):
        enqueue_many(QUEUE, repeating, [("a",)])


def test_a_result_is_a_pair() -> None:
    assert tuple(Enqueued("w", "new")) == ("w", "new")


# ---- one, by the queue's name or by both names


def test_a_workflow_is_enqueued_on_a_queue_given_as_itself_or_by_name() -> None:
    handles = [enqueue_workflow(QUEUE, repeating, "a"), enqueue_workflow("bulk", repeating, "b", times=2)]
    handles.append(async_to_sync(aenqueue_workflow)("bulk", repeating, "c"))
    with Runtime():
        assert [handle.get_result(timeout=10) for handle in handles] == ["a", "bb", "c"]


def test_a_queue_that_nobody_declared_is_refused_with_the_remedy() -> None:
    for call in (
        lambda: enqueue_workflow("unheard of", repeating, "a"),
        lambda: enqueue_many("unheard of", repeating, [("a",)]),
    ):
        with pytest.raises(UnknownQueue, match=r"declare it with Queue\('unheard of'\)"):
            call()
    QueueRow.objects.create(name="unheard of")
    assert enqueue_workflow("unheard of", repeating, "a").get_status().queue_name == "unheard of"


def test_by_name_neither_the_function_nor_the_queue_need_be_known_here() -> None:
    options = EnqueueOptions(workflow_name="somewhere_else", queue_name="theirs", workflow_id="w")
    row = enqueue_workflow_with_options(options, 1, x=2).get_status()
    assert (row.pk, row.name, row.queue_name, row.status) == ("w", "somewhere_else", "theirs", "ENQUEUED")


def test_by_name_everything_can_be_said() -> None:
    options = EnqueueOptions(
        workflow_name="repeating",
        queue_name="bulk",
        workflow_id="w",
        reuse_policy="reject",
        timeout_seconds=5,
        deduplication_id="d",
        priority=2,
        partition_key="k",
        delay_seconds=100,
        application_version="v",
        attributes={"b": 2},
        authenticated_user="ada",
        authenticated_roles=["editor"],
        class_name="C",
        instance_name="i",
        serializer="json",
    )
    with SetWorkflowAttributes({"a": 1}), SetEnqueueOptions(priority=9):
        row = async_to_sync(aenqueue_workflow_with_options)(options, "x").get_status()
    assert (row.timeout, row.deduplication_id, row.priority, row.partition_key) == (5, "d", 2, "k")
    assert (row.status, row.application_version, row.attributes) == ("DELAYED", "v", {"a": 1, "b": 2})
    assert (row.authenticated_user, row.authenticated_roles) == ("ada", ["editor"])
    assert (row.class_name, row.instance_name) == ("C", "i")
    with pytest.raises(WorkflowIDInUse):
        enqueue_workflow_with_options(options, "x")
    with pytest.raises(QueueDeduplicated):
        enqueue_workflow_with_options(EnqueueOptions(workflow_name="f", queue_name="bulk", deduplication_id="d"))


def test_by_name_the_block_around_says_what_the_options_leave_open(settings: Any) -> None:
    settings.DBOS = {**settings.DBOS, "APPLICATION_VERSION": "mine"}
    with SetEnqueueOptions(priority=9), SetWorkflowID("w"), SetWorkflowTimeout(3), SetAuthentication("ada"):
        row = enqueue_workflow_with_options(EnqueueOptions(workflow_name="f", queue_name="bulk")).get_status()
    assert (row.pk, row.priority, row.timeout, row.authenticated_user) == ("w", 9, 3, "ada")
    assert row.application_version == ""
    assert QUEUE.enqueue(repeating, "x").get_status().application_version == "mine"


@pytest.mark.parametrize(
    "bad",
    [{"workflow_name": ""}, {"queue_name": ""}, {"priority": -1}, {"timeout_seconds": 0}, {"reuse_policy": "reject"}],
)
def test_bad_options_are_refused_when_they_are_made(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        EnqueueOptions(**{"workflow_name": "f", "queue_name": "q", **bad})


def test_in_a_workflow_an_enqueue_by_name_is_a_recorded_child() -> None:
    @workflow
    def by_name() -> str:
        options = EnqueueOptions(workflow_name="repeating", queue_name="bulk")
        return str(enqueue_workflow_with_options(options, "a").get_result())

    with Runtime(), SetWorkflowID("p"):
        assert by_name() == "a"
    assert Workflow.objects.get(pk="p-1").parent_id == "p"
