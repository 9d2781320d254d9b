"""Messages between workflows, and from anywhere."""

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from django_dbos import (
    Runtime,
    SendMessage,
    SetWorkflowID,
    arecv,
    asend,
    asend_bulk,
    cancel_workflow,
    fork_workflow,
    recv,
    send,
    send_bulk,
    start_workflow,
    step,
    workflow,
)
from django_dbos.exceptions import (
    AwaitedWorkflowCancelled,
    InvalidOption,
    NonExistentWorkflow,
    NotInWorkflow,
    SerializationError,
)
from django_dbos.models import Message, Step, Workflow
from tests.support import eventually
from tests.sysdb.rows import workflow as row

database = pytest.mark.django_db(transaction=True)


@workflow
def receiver(count: int, topic: str | None = None, timeout: float = 20) -> list[Any]:
    return [recv(topic, timeout) for _ in range(count)]


@workflow
async def async_receiver(count: int, topic: str | None = None, timeout: float = 20) -> list[Any]:
    return [await arecv(topic, timeout) for _ in range(count)]


@workflow
def sender(destination: str, messages: list[Any]) -> str:
    for message in messages:
        send(destination, message)
    return "sent"


@workflow
async def async_sender(destination: str, messages: list[Any]) -> str:
    for message in messages:
        await asend(destination, message)
    await asend_bulk([SendMessage(destination, "bulk")])
    return "sent"


@step
def sending_step(destination: str) -> None:
    send(destination, "from a step")


@workflow
def sender_in_step(destination: str) -> None:
    sending_step(destination)


both = pytest.mark.parametrize("function", [receiver, async_receiver])


@database
@both
def test_messages_come_in_the_order_in_which_they_were_sent(function: Any) -> None:
    with Runtime():
        handle = start_workflow(function, 3)
        for number in range(3):
            send(handle.workflow_id, number)
        assert handle.get_result(10) == [0, 1, 2]


@database
@both
def test_a_message_sent_before_it_is_received_waits(function: Any) -> None:
    with SetWorkflowID("w"):
        handle = start_workflow(function, 1)
    send("w", {"early": True})
    with Runtime():
        assert handle.get_result(10) == [{"early": True}]


@database
@both
def test_each_topic_is_a_queue_of_its_own(function: Any) -> None:
    with Runtime():
        handle = start_workflow(function, 1, "wanted")
        send(handle.workflow_id, "no topic")
        send(handle.workflow_id, "another", "other")
        send(handle.workflow_id, "this", "wanted")
        assert handle.get_result(10) == ["this"]
    assert Message.objects.filter(consumed_by_step__isnull=True).count() == 2


@database
@both
def test_when_the_time_is_over_nothing_was_received(function: Any) -> None:
    with Runtime(), SetWorkflowID("w"):
        assert start_workflow(function, 1, timeout=0.01).get_result(10) == [None]
    assert list(Step.objects.order_by("number").values_list("number", "name")) == [(1, "DBOS.recv"), (2, "DBOS.sleep")]


@database
@both
def test_a_recovered_receiver_waits_for_the_rest_of_its_time(function: Any) -> None:
    with Runtime(shutdown_timeout=0.5), SetWorkflowID("w"):
        start_workflow(function, 1, timeout=3600)
        eventually(lambda: Step.objects.filter(workflow_id="w", number=2).exists())
    deadline = Step.objects.get(workflow_id="w", number=2)
    Step.objects.filter(workflow_id="w").update(completed_at=deadline.started_at)
    with Runtime():
        eventually(lambda: Workflow.objects.get(pk="w").output == "[null]")


@database
@both
def test_a_received_message_is_recorded_and_not_received_again(function: Any) -> None:
    with Runtime(shutdown_timeout=0.5):
        with SetWorkflowID("w"):
            handle = start_workflow(function, 2)
        send("w", "one")
        eventually(lambda: Step.objects.filter(workflow_id="w", name="DBOS.recv").exists())
    send("w", "two")
    with Runtime():
        assert handle.get_result(10) == ["one", "two"]
    assert list(Message.objects.order_by("created_at").values_list("consumed_by_step", flat=True)) == [1, 3]


@database
@both
def test_a_cancelled_receiver_receives_nothing_more(function: Any) -> None:
    with Runtime():
        handle = start_workflow(function, 1, timeout=3600)
        eventually(lambda: Step.objects.filter(workflow_id=handle.workflow_id).exists())
        cancel_workflow(handle.workflow_id)
        send(handle.workflow_id, "too late")
        with pytest.raises(AwaitedWorkflowCancelled):
            handle.get_result(10)
    assert Message.objects.get().consumed_by_step is None


@database
def test_who_waits_for_a_message_holds_no_slot() -> None:
    with Runtime(concurrency=1):
        waiting = [start_workflow(receiver, 1) for _ in range(4)]
        for handle in waiting:
            eventually(lambda handle=handle: Step.objects.filter(workflow_id=handle.workflow_id).exists())  # type: ignore[misc]
        start_workflow(sender, waiting[0].workflow_id, ["first"]).get_result(10)
        assert waiting[0].get_result(10) == ["first"]
        for handle in waiting[1:]:
            send(handle.workflow_id, "others")
            assert handle.get_result(10) == ["others"]


@database
@pytest.mark.parametrize("function", [sender, async_sender])
def test_a_workflow_sends_each_message_once_however_often_it_runs(function: Any) -> None:
    row("mailbox", "PENDING")
    with Runtime():
        with SetWorkflowID("w"):
            start_workflow(function, "mailbox", ["a", "b"]).get_result(10)
        sent = Message.objects.count()
        assert fork_workflow("w", 99).get_result(10) == "sent"
        assert Message.objects.count() == sent
    assert Step.objects.get(workflow_id="w", number=1).name == "DBOS.send"


@database
def test_a_step_sends_without_a_record_of_its_own() -> None:
    row("mailbox")
    with SetWorkflowID("w"):
        sender_in_step("mailbox")
    assert list(Step.objects.values_list("name", flat=True)) == ["sending_step"]
    assert Message.objects.count() == 1


@database
def test_a_message_joins_the_transaction_of_who_sends_it() -> None:
    row("mailbox")
    with transaction.atomic():
        send("mailbox", 1)
        transaction.set_rollback(True)
    assert not Message.objects.exists()
    with transaction.atomic():
        send("mailbox", 1)
    assert Message.objects.count() == 1


@database
def test_nobody_has_no_mailbox() -> None:
    with pytest.raises(NonExistentWorkflow, match="'nobody'"):
        send("nobody", 1)
    row("mailbox")
    with pytest.raises(NonExistentWorkflow):
        send_bulk([SendMessage("mailbox", 1), SendMessage("nobody", 2)])
    assert not Message.objects.exists(), "all or none"
    with pytest.raises(NonExistentWorkflow):
        sender("nobody", [1])
    assert Step.objects.get().error is not None


@database
def test_an_idempotency_key_is_good_for_one_message_to_each_destination() -> None:
    row("a"), row("b")
    for _ in range(3):
        send("a", 1, idempotency_key="k")
        send_bulk([SendMessage("b", 2, None, "k"), SendMessage("b", 3)])
    assert Message.objects.filter(destination_id="a").count() == 1
    assert Message.objects.filter(destination_id="b").count() == 4
    with pytest.raises(InvalidOption, match="twice"):
        send_bulk([SendMessage("a", 1, None, "x"), SendMessage("a", 2, None, "x")])


@database
def test_a_finished_workflow_may_be_sent_to_and_never_reads_it() -> None:
    row("done", "SUCCESS")
    send("done", "hello")
    assert Message.objects.get().consumed_by_step is None


@database
def test_forks_can_be_sent_to_as_well() -> None:
    row("a"), row("b", forked_from_id="a"), row("c", forked_from_id="b"), row("d")
    send("a", "all of you", send_to_forks=True)
    assert set(Message.objects.values_list("destination_id", flat=True)) == {"a", "b", "c"}


@database
def test_async_callers_send_too() -> None:
    row("mailbox")
    async_to_sync(asend)("mailbox", 1, "t", idempotency_key="k")
    assert Message.objects.get().topic == "t"


def test_bad_input_is_refused_at_once() -> None:
    for wrong in ("", "x" * 256, None, 7):
        with pytest.raises(InvalidOption):
            send(wrong, 1)  # type: ignore[arg-type]
    with pytest.raises(SerializationError, match="message"):
        send("w", object())
    with pytest.raises(NotInWorkflow, match="recv"):
        recv()
    with pytest.raises(InvalidOption, match="topic"):
        send("w", 1, "x" * 256)
    with pytest.raises(InvalidOption, match="seconds"):
        recv(timeout_seconds=-1)
