"""Handles: results and statuses of workflows that run elsewhere."""

import threading

import pytest
from asgiref.sync import async_to_sync
from django.db import connections

from django_dbos import (
    Runtime,
    SetWorkflowID,
    WorkflowHandle,
    aretrieve_workflow,
    astart_workflow,
    cancel_workflow,
    retrieve_workflow,
    start_workflow,
    step,
    workflow,
)
from django_dbos.exceptions import AwaitedWorkflowCancelled, NonExistentWorkflow, ResultTimeout
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus
from tests.support import eventually

database = pytest.mark.django_db(transaction=True)


@workflow
def doubled(number: int) -> int:
    return 2 * number


@database
def test_a_handle_gives_the_result_again_and_again() -> None:
    with Runtime():
        handle = start_workflow(doubled, 4)
        assert [handle.get_result(10), handle.get_result(10), retrieve_workflow(handle.workflow_id).get_result()] == [
            8
        ] * 3


@database
def test_the_async_twins_do_the_same() -> None:
    async def client() -> tuple[int, str]:
        handle = await astart_workflow(doubled, 4)
        result: int = await handle.aget_result(timeout=10)
        again = await aretrieve_workflow(handle.workflow_id)
        return result, (await again.aget_status()).status

    with Runtime():
        assert async_to_sync(client)() == (8, WorkflowStatus.SUCCESS)


@database
def test_the_status_is_the_row_as_it_is_now() -> None:
    handle = start_workflow(doubled, 1)
    assert handle.get_status().status == WorkflowStatus.ENQUEUED
    with Runtime():
        handle.get_result(timeout=10)
    row = handle.get_status()
    assert isinstance(row, Workflow)
    assert (row.status, row.name) == (WorkflowStatus.SUCCESS, "doubled")


@database
def test_an_unknown_id_raises_at_once() -> None:
    for ask in (
        retrieve_workflow,
        lambda name: WorkflowHandle(name).get_result(),
        lambda name: WorkflowHandle(name).get_status(),
    ):
        with pytest.raises(NonExistentWorkflow, match="'nobody'"):
            ask("nobody")


@database
@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_timeout_says_so_and_the_workflow_goes_on(timeout: float) -> None:
    handle = start_workflow(doubled, 3)
    with pytest.raises(ResultTimeout, match=handle.workflow_id) as caught:
        handle.get_result(timeout=timeout)
    assert isinstance(caught.value, TimeoutError)
    with Runtime():
        assert handle.get_result(timeout=10) == 6


@database
def test_the_result_of_a_cancelled_workflow_raises_an_error_of_its_own() -> None:
    handle = start_workflow(doubled, 3)
    cancel_workflow(handle.workflow_id)
    with pytest.raises(AwaitedWorkflowCancelled):
        handle.get_result()


@database
def test_waiting_in_a_workflow_is_a_step_that_is_not_waited_for_twice() -> None:
    @workflow
    def waiting(other: str) -> int:
        result: int = WorkflowHandle[int](other).get_result()
        return result

    with Runtime():
        other = start_workflow(doubled, 5)
        with SetWorkflowID("w"):
            assert waiting(other.workflow_id) == 10
        step_row = Step.objects.get(workflow_id="w")
        assert (step_row.name, step_row.child_id, step_row.output) == ("DBOS.getResult", other.workflow_id, "10")
        Workflow.objects.filter(pk=other.workflow_id).delete()
        Workflow.objects.filter(pk="w").update(status="ENQUEUED", output=None)
        assert retrieve_workflow("w").get_result(timeout=10) == 10


@database
def test_a_timeout_in_a_workflow_is_recorded_like_any_result() -> None:
    @workflow
    def impatient(other: str) -> str:
        try:
            WorkflowHandle[int](other).get_result(timeout=0)
        except ResultTimeout:
            return "gave up"
        return "got it"

    waiting_for = start_workflow(doubled, 5)
    with SetWorkflowID("w"):
        assert impatient(waiting_for.workflow_id) == "gave up"
    with Runtime():
        waiting_for.get_result(timeout=10)
        Workflow.objects.filter(pk="w").update(status="ENQUEUED", output=None)
        assert retrieve_workflow("w").get_result(timeout=10) == "gave up"


@database
def test_a_waiter_is_woken_by_the_end_of_the_workflow_and_not_by_a_poll(settings: pytest.FixtureRequest) -> None:
    settings.DBOS = {**settings.DBOS, "POLL_INTERVAL": 3600}  # type: ignore[attr-defined]
    gate = threading.Event()

    @step
    def gated() -> str:
        gate.wait(10)
        return "through"

    @workflow
    def gated_workflow() -> str:
        return gated()

    with Runtime():
        handle = start_workflow(gated_workflow)
        results: list[str] = []

        def wait() -> None:
            results.append(handle.get_result(timeout=30))
            connections.close_all()

        waiter = threading.Thread(target=wait)
        waiter.start()
        eventually(lambda: handle.get_status().status == WorkflowStatus.PENDING)
        gate.set()
        eventually(lambda: results == ["through"])
        waiter.join(10)
