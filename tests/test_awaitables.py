"""Waiting for several awaitables at a time, and finding the same ones done again."""

import asyncio
from typing import Any

import pytest

from django_dbos import (
    Runtime,
    SetWorkflowID,
    WorkflowHandle,
    arecv,
    asyncio_wait,
    cancel_workflow,
    fork_workflow,
    retrieve_workflow,
    send,
    start_workflow,
    step,
    workflow,
)
from django_dbos.exceptions import InvalidOption
from django_dbos.models import Step, Workflow
from tests.support import eventually

database = pytest.mark.django_db(transaction=True)


@workflow
async def word() -> Any:
    return await arecv(timeout_seconds=30)


@workflow
async def racer(ids: list[str], timeout: float | None = None) -> list[int]:
    """Which of some workflows came first."""
    tasks = [asyncio.ensure_future(WorkflowHandle[Any](each).aget_result()) for each in ids]
    done, pending = await asyncio_wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return [place for place, task in enumerate(tasks) if task in done]


@workflow
async def collector(ids: list[str]) -> list[Any]:
    """The results of some workflows, in the order in which they came."""
    pending: Any = [WorkflowHandle[Any](each).aget_result() for each in ids]
    results: list[Any] = []
    while pending:
        done, pending = await asyncio_wait(pending, return_when=asyncio.FIRST_COMPLETED)
        results += sorted(task.result() for task in done)
    return results


@step
async def one(value: int) -> int:
    return value


@workflow
async def failing_wait() -> list[Any]:
    async def fail() -> None:
        raise LookupError

    done, pending = await asyncio_wait([one(1), fail(), one(2)])
    return [len(done), len(pending), sum(isinstance(task.exception(), LookupError) for task in done)]


@workflow
async def waiting_for_a_set() -> None:
    coroutines = [one(1), one(2)]
    try:
        await asyncio_wait(set(coroutines))
    finally:
        for coroutine in coroutines:
            coroutine.close()


@database
def test_who_was_done_first_is_recorded_and_replayed() -> None:
    with Runtime():
        ids = [start_workflow(word).workflow_id for _ in range(3)]
        with SetWorkflowID("w"):
            race = start_workflow(racer, ids)
        send(ids[1], "go")
        assert race.get_result(10) == [1]
        recorded = Step.objects.get(workflow_id="w", name="DBOS.asyncioWait")
        assert recorded.number == 4
        for each in (ids[0], ids[2]):
            send(each, "go")
            retrieve_workflow(each).get_result(10)
        Step.objects.filter(workflow_id="w", number__in=(1, 3)).delete()  # what the others gave
        Workflow.objects.filter(pk="w").update(status="ENQUEUED", output=None)
        assert race.get_result(10) == [1]


@database
def test_a_timeout_is_replayed_too() -> None:
    with Runtime():
        other = start_workflow(word)
        with SetWorkflowID("w"):
            assert start_workflow(racer, [other.workflow_id], 0.01).get_result(10) == []
        send(other.workflow_id, "go")
        other.get_result(10)
        assert fork_workflow("w", 99).get_result(10) == []
        assert fork_workflow("w", 1).get_result(10) in ([], [0])


@database
def test_what_is_pending_can_be_waited_for_again() -> None:
    with Runtime():
        ids = [start_workflow(word).workflow_id for _ in range(4)]
        with SetWorkflowID("w"):
            handle = start_workflow(collector, ids)
        for number, place in enumerate((2, 0, 3, 1), 1):
            send(ids[place], place)
            eventually(
                lambda number=number: (
                    Step.objects.filter(  # type: ignore[misc]
                        workflow_id="w", name="DBOS.asyncioWait"
                    ).count()
                    == number
                )
            )
        assert handle.get_result(10) == [2, 0, 3, 1]
        assert fork_workflow("w", 99).get_result(10) == [2, 0, 3, 1]


@database
def test_an_awaitable_that_fails_is_done() -> None:
    with Runtime():
        assert start_workflow(failing_wait).get_result(10) == [3, 0, 1]


@database
def test_an_interrupted_wait_records_nothing_and_goes_on_elsewhere() -> None:
    with Runtime() as first:
        ids = [start_workflow(word).workflow_id for _ in range(2)]
        with SetWorkflowID("w"):
            race = start_workflow(racer, ids)
        eventually(lambda: Workflow.objects.get(pk="w").executor_id == first.executor_id)
    assert race.get_status().status == "ENQUEUED"
    assert not Step.objects.filter(workflow_id="w", name="DBOS.asyncioWait").exists()
    with Runtime():
        send(ids[1], "go")
        assert race.get_result(10) == [1]
        send(ids[0], "go")
        retrieve_workflow(ids[0]).get_result(10)


@database
def test_a_cancelled_wait_stops() -> None:
    with Runtime():
        other = start_workflow(word)
        race = start_workflow(racer, [other.workflow_id])
        eventually(lambda: race.get_status().status == "PENDING")
        cancel_workflow(race.workflow_id)
        send(other.workflow_id, "go")
        other.get_result(10)
    assert race.get_status().status == "CANCELLED"


@database
def test_a_set_without_an_order_is_refused_in_a_workflow() -> None:
    with Runtime(), pytest.raises(InvalidOption, match="give a list"):
        start_workflow(waiting_for_a_set).get_result(10)


def test_elsewhere_it_is_asyncio_wait() -> None:
    async def client() -> tuple[int, int]:
        done, pending = await asyncio_wait({one(1), one(2)})
        return len(done), len(pending)

    assert asyncio.run(client()) == (2, 0)


def test_bad_input_is_refused_at_once() -> None:
    with pytest.raises(InvalidOption, match="at least one"):
        asyncio_wait([])  # type: ignore[unused-coroutine]
    with pytest.raises(InvalidOption, match="return_when"):
        asyncio_wait([one], return_when="SOON")  # type: ignore[list-item, unused-coroutine]
