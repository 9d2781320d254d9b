"""Streams: values that workflows write one after the other, and others read while they run."""

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction as django_transaction

from django_dbos import (
    Runtime,
    SetWorkflowID,
    aclose_stream,
    aread_stream,
    aread_stream_offset,
    awrite_stream,
    cancel_workflow,
    close_stream,
    fork_workflow,
    read_stream,
    read_stream_offset,
    recv,
    retrieve_workflow,
    send,
    start_workflow,
    step,
    transaction,
    workflow,
    write_stream,
)
from django_dbos.exceptions import (
    DeserializationError,
    InvalidOption,
    NonExistentWorkflow,
    NotInWorkflow,
    SerializationError,
    StreamEnded,
    StreamTimeout,
)
from django_dbos.models import Step, StreamEntry, Workflow
from django_dbos.sysdb import streams
from tests.support import eventually, statements
from tests.sysdb.rows import elsewhere, owned, postgresql
from tests.sysdb.rows import workflow as row

database = pytest.mark.django_db(transaction=True)


@workflow
def stream_writer(values: list[Any], closes: bool = True) -> None:
    for value in values:
        write_stream("key", value)
    if closes:
        close_stream("key")


@workflow
async def async_stream_writer(values: list[Any], closes: bool = True) -> None:
    for value in values:
        await awrite_stream("key", value)
    if closes:
        await aclose_stream("key")


@workflow
def patient_stream_writer() -> None:
    """Writes what it is sent, until that is None."""
    while (value := recv(timeout_seconds=30)) is not None:
        write_stream("key", value)


@step
def stream_writing_step(values: list[Any]) -> None:
    for value in values:
        write_stream("key", value)
    close_stream("key")


@step
async def async_stream_writing_step(values: list[Any]) -> None:
    for value in values:
        await awrite_stream("key", value)
    await aclose_stream("key")


@workflow
def stream_writer_in_steps(values: list[Any]) -> None:
    write_stream("key", "body")
    stream_writing_step(values)


@workflow
async def async_stream_writer_in_steps(values: list[Any]) -> None:
    await awrite_stream("key", "body")
    await async_stream_writing_step(values)


@workflow
def stream_reader(workflow_id: str, offset: int = 0, timeout: float | None = None) -> list[Any]:
    return list(read_stream(workflow_id, "key", offset=offset, timeout_seconds=timeout))


@workflow
async def async_stream_reader(workflow_id: str, offset: int = 0, timeout: float | None = None) -> list[Any]:
    return [value async for value in aread_stream(workflow_id, "key", offset=offset, timeout_seconds=timeout)]


@workflow
def entry_reader(workflow_id: str, offset: int, timeout: float | None = None) -> Any:
    try:
        return read_stream_offset(workflow_id, "key", offset, timeout_seconds=timeout)
    except (StreamEnded, StreamTimeout) as error:
        return type(error).__name__


@workflow
async def async_entry_reader(workflow_id: str, offset: int, timeout: float | None = None) -> Any:
    try:
        return await aread_stream_offset(workflow_id, "key", offset, timeout_seconds=timeout)
    except (StreamEnded, StreamTimeout) as error:
        return type(error).__name__


async def all_of(workflow_id: str, **options: Any) -> list[Any]:
    return [value async for value in aread_stream(workflow_id, "key", **options)]


def everything(workflow_id: str = "w", **options: Any) -> list[Any]:
    return list(read_stream(workflow_id, "key", **options))


def offsets() -> list[tuple[int, int, bool]]:
    return list(StreamEntry.objects.order_by("offset").values_list("offset", "step", "is_end"))


# ---- writing


@database
@pytest.mark.parametrize("function", [stream_writer, async_stream_writer])
def test_each_value_is_a_step_and_has_the_next_offset(function: Any) -> None:
    with Runtime(), SetWorkflowID("w"):
        start_workflow(function, [1, None, {"a": (2,)}]).get_result(10)
    assert offsets() == [(0, 1, False), (1, 2, False), (2, 3, False), (3, 4, True)]
    names = Step.objects.order_by("number").values_list("name", flat=True)
    assert list(names) == ["DBOS.writeStream"] * 3 + ["DBOS.closeStream"]
    assert everything() == [1, None, {"a": (2,)}]
    assert async_to_sync(all_of)("w", offset=1) == [None, {"a": (2,)}]


@database
def test_what_a_body_has_written_it_does_not_write_again() -> None:
    with SetWorkflowID("w"):
        stream_writer([1, 2])
    Workflow.objects.update(status="ENQUEUED", output=None)
    with Runtime():
        retrieve_workflow("w").get_result(10)
    assert everything() == [1, 2]
    assert StreamEntry.objects.count() == 3


@database
@pytest.mark.parametrize("function", [stream_writer_in_steps, async_stream_writer_in_steps])
def test_a_step_writes_under_its_own_number_and_again_when_it_runs_again(function: Any) -> None:
    with Runtime():
        with SetWorkflowID("w"):
            start_workflow(function, ["step"]).get_result(10)
        assert offsets() == [(0, 1, False), (1, 2, False), (2, 2, True)]
        Step.objects.filter(number=2).delete()  # as if the process had died before its checkpoint
        Workflow.objects.update(status="ENQUEUED", output=None)
        retrieve_workflow("w").get_result(10)
    assert StreamEntry.objects.count() == 5
    assert everything() == ["body", "step"], "what is behind the end is not read"


@transaction
def failing_writer(value: Any) -> None:
    write_stream("key", value)
    raise LookupError(value)


@transaction
async def async_failing_writer(value: Any) -> None:
    await awrite_stream("key", value)
    raise LookupError(value)


@workflow
def stream_writer_in_transaction() -> None:
    with pytest.raises(LookupError):
        failing_writer(1)
    write_stream("key", 2)


@workflow
async def async_stream_writer_in_transaction() -> None:
    with pytest.raises(LookupError):
        await async_failing_writer(1)
    await awrite_stream("key", 2)


@database
@pytest.mark.parametrize("function", [stream_writer_in_transaction, async_stream_writer_in_transaction])
def test_what_a_transaction_writes_vanishes_with_it(function: Any) -> None:
    with Runtime(), SetWorkflowID("w"):
        start_workflow(function).get_result(10)
    assert everything() == [2]


@workflow
async def crowded_stream_writer(count: int) -> None:
    await asyncio.gather(*(awrite_stream("key", n) for n in range(count)), *(one_written(-n) for n in range(count)))


@step
async def one_written(value: int) -> None:
    await awrite_stream("key", value)


@database
def test_many_writers_at_once_leave_no_gap_and_lose_nothing() -> None:
    with Runtime(), SetWorkflowID("w"):
        start_workflow(crowded_stream_writer, 20).get_result(20)
    assert [offset for offset, _, _ in offsets()] == list(range(40))
    assert sorted(everything()) == sorted([*range(20), *(-n for n in range(20))])


# ---- reading


@database
def test_a_reader_gets_each_value_as_soon_as_it_is_written_and_ends_with_the_workflow() -> None:
    with Runtime():
        handle = start_workflow(patient_stream_writer)
        read: list[Any] = []
        aread: list[Any] = []

        def reading() -> None:
            for value in read_stream(handle.workflow_id, "key"):
                read.append(value)  # noqa: PERF402 - one is looked at when it comes

        async def areading() -> None:
            async for value in aread_stream(handle.workflow_id, "key"):
                aread.append(value)  # noqa: PERF401 - one is looked at when it comes

        readers = [
            threading.Thread(target=lambda: elsewhere(reading)),
            threading.Thread(target=lambda: elsewhere(lambda: async_to_sync(areading)())),
        ]
        for reader in readers:
            reader.start()
        for number in (1, 2, 3):
            send(handle.workflow_id, number)
            eventually(lambda number=number: read[-1:] == aread[-1:] == [number])  # type: ignore[misc]
        send(handle.workflow_id, None)
        for reader in readers:
            reader.join(10)
            assert not reader.is_alive()
    assert read == aread == [1, 2, 3]


@database
def test_many_values_are_read_by_few_queries() -> None:
    owned("w")
    count = 2 * streams.PAGE + 1
    StreamEntry.objects.bulk_create(
        StreamEntry(workflow_id="w", key="key", offset=n, value=str(n), step=1, is_end=n == count)
        for n in range(count + 1)
    )
    with statements() as sent:
        assert everything() == list(range(count))
    assert len(sent) == 3, sent
    with statements() as sent:
        assert read_stream_offset("w", "key", 5) == 5
    assert len(sent) == 1, sent


@database
@pytest.mark.parametrize("status", ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"])
def test_a_stream_that_was_not_closed_ends_with_its_workflow(status: str) -> None:
    with SetWorkflowID("w"):
        stream_writer([1], closes=False)
    Workflow.objects.update(status=status)
    assert everything() == [1]
    assert list(read_stream("w", "another key")) == []
    with pytest.raises(StreamEnded, match="before offset 1"):
        read_stream_offset("w", "key", 1)
    with pytest.raises(LookupError):
        async_to_sync(aread_stream_offset)("w", "key", 7)


@database
def test_a_closed_stream_has_ended_while_its_workflow_goes_on() -> None:
    with SetWorkflowID("w"):
        stream_writer([1])
    Workflow.objects.update(status="PENDING")
    assert everything() == [1]
    assert everything(offset=5) == []
    with pytest.raises(StreamEnded):
        read_stream_offset("w", "key", 2)


@database
def test_a_cancellation_ends_the_readers() -> None:
    with Runtime():
        handle = start_workflow(patient_stream_writer)
        eventually(lambda: Step.objects.filter(workflow_id=handle.workflow_id).exists())
        read: list[Any] = [None]
        reader = threading.Thread(target=lambda: elsewhere(lambda: read.append(everything(handle.workflow_id))))
        reader.start()
        cancel_workflow(handle.workflow_id)
        reader.join(10)
    assert read == [None, []]


@database
def test_a_reader_that_waits_too_long_is_told_so() -> None:
    owned("w")
    streams_of_w = read_stream("w", "key", timeout_seconds=0.01)
    with pytest.raises(StreamTimeout, match="offset 0"):
        next(streams_of_w)
    with pytest.raises(TimeoutError):
        async_to_sync(all_of)("w", timeout_seconds=0)
    with pytest.raises(StreamTimeout):
        read_stream_offset("w", "key", 3, timeout_seconds=0)


@database
def test_the_time_begins_anew_with_each_value() -> None:
    with SetWorkflowID("w"):
        stream_writer([1, 2], closes=False)
    Workflow.objects.update(status="PENDING")
    reading = read_stream("w", "key", timeout_seconds=0.01)
    assert [next(reading), next(reading)] == [1, 2]
    with pytest.raises(StreamTimeout, match="offset 2"):
        next(reading)


@database
def test_a_value_that_cannot_be_read_is_raised_in_its_turn() -> None:
    with SetWorkflowID("w"):
        stream_writer([1, 2, 3])
    StreamEntry.objects.filter(offset=1).update(value="{")
    reading = read_stream("w", "key")
    assert next(reading) == 1
    with pytest.raises(DeserializationError):
        next(reading)
    assert everything(offset=2) == [3]


@postgresql
@database
def test_reading_inside_atomic_asks_nobody_and_locks_nothing() -> None:
    with Runtime():
        handle = start_workflow(patient_stream_writer)
        with django_transaction.atomic():
            reading = read_stream(handle.workflow_id, "key", timeout_seconds=10)
            elsewhere(lambda: send(handle.workflow_id, "through"))
            assert next(reading) == "through"
            elsewhere(lambda: send(handle.workflow_id, None))
            assert list(reading) == []
        handle.get_result(10)


@database
def test_an_async_reader_can_be_closed() -> None:
    with SetWorkflowID("w"):
        stream_writer([1, 2, 3])

    async def client() -> list[Any]:
        reading: Any = aread_stream("w", "key")
        first = await anext(reading)
        await reading.aclose()
        return [first, [value async for value in reading]]

    assert async_to_sync(client)() == [1, []]


@database
def test_an_async_reader_reads_one_after_the_other() -> None:
    owned("w")

    async def client() -> list[Any]:
        reading = aread_stream("w", "key", timeout_seconds=0.05)
        return list(await asyncio.gather(anext(reading), anext(reading), return_exceptions=True))

    assert [type(answer) for answer in async_to_sync(client)()] == [StreamTimeout, RuntimeError]


# ---- reading in a workflow


@database
@pytest.mark.parametrize("function", [stream_reader, async_stream_reader])
def test_what_a_workflow_has_read_it_reads_again(function: Any) -> None:
    with SetWorkflowID("source"):
        stream_writer([1, 2, 3])
    with Runtime():
        with SetWorkflowID("w"):
            assert start_workflow(function, "source", 1).get_result(10) == [2, 3]
        StreamEntry.objects.filter(offset__lte=2).update(value='"new"')
        assert fork_workflow("w", 99).get_result(10) == [2, 3]
        assert fork_workflow("w", 2).get_result(10) == [2, "new"]
        assert fork_workflow("w", 1).get_result(10) == ["new", "new"]
    assert list(Step.objects.filter(workflow_id="w").order_by("number").values_list("number", "name")) == [
        (1, "DBOS.readStream"),
        (2, "DBOS.readStream"),
        (3, "DBOS.readStream"),
    ]


@database
@pytest.mark.parametrize("function", [entry_reader, async_entry_reader])
def test_one_value_is_one_step_and_so_are_the_end_and_the_timeout(function: Any) -> None:
    with SetWorkflowID("source"):
        stream_writer([1])
    owned("silent")
    with Runtime():
        handles = [
            start_workflow(function, "source", 0),
            start_workflow(function, "source", 1),
            start_workflow(function, "silent", 0, 0.01),
        ]
        answers = [handle.get_result(10) for handle in handles]
        assert answers == [1, "StreamEnded", "StreamTimeout"]
        StreamEntry.objects.all().delete()
        StreamEntry.objects.create(workflow_id="silent", key="key", offset=0, value="5", step=1)
        assert [fork_workflow(handle.workflow_id, 99).get_result(10) for handle in handles] == answers
    assert set(Step.objects.filter(workflow_id=handles[0].workflow_id).values_list("name", flat=True)) == {
        "DBOS.readStream"
    }


@database
@pytest.mark.parametrize("function", [stream_reader, async_stream_reader])
def test_who_waits_for_a_value_holds_no_slot(function: Any) -> None:
    with Runtime(concurrency=1):
        source = start_workflow(patient_stream_writer)
        waiting = [start_workflow(function, source.workflow_id) for _ in range(3)]
        send(source.workflow_id, "go")
        eventually(lambda: Step.objects.filter(name="DBOS.readStream").count() == 3)
        send(source.workflow_id, None)
        assert [handle.get_result(10) for handle in waiting] == [["go"]] * 3


@database
def test_a_cancelled_reader_stops() -> None:
    owned("silent")
    with Runtime():
        handle = start_workflow(stream_reader, "silent")
        eventually(lambda: handle.get_status().status == "PENDING")
        cancel_workflow(handle.workflow_id)
    assert handle.get_status().status == "CANCELLED"
    assert not Step.objects.exists()


# ---- bad input


@workflow
def odd_writer() -> None:
    write_stream("key", object())


@database
def test_bad_input_is_refused_at_once() -> None:
    with pytest.raises(NotInWorkflow, match="write_stream"):
        write_stream("key", 1)
    with pytest.raises(NotInWorkflow, match="close_stream"):
        close_stream("key")
    with pytest.raises(SerializationError, match="stream 'key'"):
        odd_writer()
    for wrong in ("", "k" * 256, None):
        with pytest.raises(InvalidOption):
            read_stream("w", wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidOption):
            write_stream(wrong, 1)  # type: ignore[arg-type]
    for offset in (-1, "1", None, True):
        with pytest.raises(InvalidOption, match="offset"):
            read_stream_offset("w", "key", offset)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="seconds"):
        aread_stream("w", "key", timeout_seconds=-1)


@database
def test_an_unknown_workflow_has_no_streams() -> None:
    for reading in (everything, async_to_sync(all_of)):
        with pytest.raises(NonExistentWorkflow, match="'nobody'"):
            reading("nobody")
    with pytest.raises(NonExistentWorkflow):
        read_stream_offset("nobody", "key", 0)


@database
def test_a_waiting_workflow_may_be_read_before_it_begins() -> None:
    row("w", name="stream_writer")
    with pytest.raises(StreamTimeout):
        everything(timeout_seconds=0)
