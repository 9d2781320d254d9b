"""Handles: results and statuses of workflows that run elsewhere."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.db.models.functions import Now

from django_dbos import (
    Runtime,
    SendMessage,
    SetWorkflowID,
    WorkflowHandle,
    aget_result,
    arecv,
    aretrieve_workflow,
    astart_workflow,
    await_all,
    await_first,
    cancel_workflow,
    fork_workflow,
    get_result,
    recv,
    retrieve_workflow,
    send,
    send_bulk,
    start_workflow,
    step,
    wait_all,
    wait_first,
    workflow,
)
from django_dbos.exceptions import AwaitedWorkflowCancelled, InvalidOption, NonExistentWorkflow, ResultTimeout
from django_dbos.hub import hub, interruption_of, outcome_of
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus
from tests.support import eventually, statements
from tests.sysdb.rows import elsewhere

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


# ---- several


@workflow
def told(value: Any = None) -> Any:
    """Ends when it is told to, with what it is told or was given."""
    word = recv(timeout_seconds=30)
    if word == "fail":
        raise LookupError("told to")
    return value if value is not None else word


@workflow
async def atold(value: Any = None) -> Any:
    word = await arecv(timeout_seconds=30)
    return value if value is not None else word


@workflow
def first_waiter(ids: list[str], timeout: float | None = None) -> str:
    return wait_first([WorkflowHandle[Any](each) for each in ids], timeout).workflow_id


@workflow
async def async_first_waiter(ids: list[str], timeout: float | None = None) -> str:
    return (await await_first([WorkflowHandle[Any](each) for each in ids], timeout)).workflow_id


@workflow
def all_waiter(ids: list[str], timeout: float | None = None) -> list[Any]:
    return wait_all([WorkflowHandle[Any](each) for each in ids], timeout)


@workflow
async def async_all_waiter(ids: list[str], timeout: float | None = None) -> list[Any]:
    return await await_all([WorkflowHandle[Any](each) for each in ids], timeout)


@workflow
def id_waiter(workflow_id: str) -> Any:
    return get_result(workflow_id)


@workflow
async def async_id_waiter(workflow_id: str) -> Any:
    return await aget_result(workflow_id)


@database
@pytest.mark.parametrize("waiter", [first_waiter, async_first_waiter])
def test_the_first_is_recorded_and_a_replay_waits_for_no_other(waiter: Any) -> None:
    with Runtime():
        handles = [start_workflow(told) for _ in range(3)]
        ids = [handle.workflow_id for handle in handles]
        with SetWorkflowID("w"):
            waiting = start_workflow(waiter, ids)
        eventually(lambda: {interruption_of("w"), outcome_of(ids[0])} <= set(hub._waiting))
        send(ids[1], "go")
        assert waiting.get_result(10) == ids[1]
        row = Step.objects.get(workflow_id="w")
        assert (row.number, row.name) == (1, "DBOS.waitFirst")
        send_bulk([SendMessage(ids[0], "go"), SendMessage(ids[2], "go")])
        wait_all(handles, 10)
        Workflow.objects.filter(pk=ids[1]).update(completed_at=Now() + timedelta(hours=1))
        assert fork_workflow("w", 2).get_result(10) == ids[1]
        assert fork_workflow("w", 1).get_result(10) != ids[1], "of those that have finished, the earliest"


@database
@pytest.mark.parametrize("waiter", [first_waiter, async_first_waiter])
def test_the_first_of_one_is_that_one(waiter: Any) -> None:
    with Runtime():
        other = start_workflow(told)
        waiting = start_workflow(waiter, [other.workflow_id])
        eventually(lambda: interruption_of(waiting.workflow_id) in hub._waiting)
        send(other.workflow_id, "go")
        assert waiting.get_result(10) == other.workflow_id


@database
def test_the_first_of_several_outside_a_workflow_and_by_its_own_handle() -> None:
    with Runtime():
        handles = [start_workflow(told), start_workflow(told)]
        with pytest.raises(ResultTimeout, match="None of 2"):
            wait_first(handles, timeout=0)
        send(handles[1].workflow_id, "fail")
        assert wait_first([*handles, handles[1]], timeout=10) is handles[1]
        assert async_to_sync(await_first)(handles, 10) is handles[1]
        send(handles[0].workflow_id, "go")


@database
@pytest.mark.parametrize("waiter", [all_waiter, async_all_waiter])
def test_the_results_of_all_are_one_step_in_the_order_of_the_handles(waiter: Any) -> None:
    with Runtime():
        ids = [start_workflow(function, n).workflow_id for n, function in enumerate([told, atold, told, atold], 1)]
        with SetWorkflowID("w"):
            waiting = start_workflow(waiter, [*ids, ids[0]])
        for each in reversed(ids):
            send(each, "go")
        assert waiting.get_result(10) == [1, 2, 3, 4, 1]
        row = Step.objects.get(workflow_id="w")
        assert (row.number, row.name) == (1, "DBOS.waitAll")
        Workflow.objects.filter(pk__in=ids).delete()
        assert fork_workflow("w", 2).get_result(10) == [1, 2, 3, 4, 1]


@database
def test_all_have_finished_before_the_first_error_is_raised() -> None:
    with Runtime():
        handles = [start_workflow(told) for _ in range(3)]
        send(handles[1].workflow_id, "fail")
        assert wait_first(handles, 10) is handles[1]
        with pytest.raises(ResultTimeout, match="2 of 3"):
            wait_all(handles, timeout=0.05)
        cancel_workflow(handles[2].workflow_id)
        send(handles[0].workflow_id, "go")
        with pytest.raises(LookupError, match="told to"):
            wait_all(handles, timeout=10)
        assert WorkflowStatus.PENDING not in {handle.get_status().status for handle in handles}
        assert async_to_sync(await_all)([], 0) == wait_all([]) == []


@database
def test_a_timeout_of_several_is_recorded() -> None:
    with Runtime():
        other = start_workflow(told)
        for waiter in (first_waiter, all_waiter, async_first_waiter, async_all_waiter):
            waiting = start_workflow(waiter, [other.workflow_id], 0.01)
            with pytest.raises(ResultTimeout):
                waiting.get_result(10)
            with pytest.raises(ResultTimeout):
                fork_workflow(waiting.workflow_id, 2).get_result(10)
        send(other.workflow_id, "go")


@database
def test_many_are_looked_for_in_few_queries() -> None:
    finished = [
        Workflow(id=f"w{n}", name="told", status="SUCCESS", output=str(n), completed_at=Now()) for n in range(900)
    ]
    Workflow.objects.bulk_create(finished)
    handles = [WorkflowHandle[int](row.id) for row in finished]
    with statements() as sent:
        assert wait_all(handles) == list(range(900))
        assert wait_first(handles).workflow_id in {row.id for row in finished}
    assert len(sent) == 4, sent


@database
def test_waiting_for_many_that_finish_elsewhere_is_a_few_looks_for_all() -> None:
    Workflow.objects.bulk_create([Workflow(id=f"w{n}", name="told", status="PENDING") for n in range(40)])
    handles = [WorkflowHandle[int](f"w{n}") for n in range(40)]
    results: list[Any] = []

    def wait() -> None:
        with statements() as sent:
            results.append(wait_all(handles, 20))
        results.append(len(sent))

    waiter = threading.Thread(target=lambda: elsewhere(wait))
    waiter.start()
    eventually(lambda: len(hub.awaited()) == 40)
    Workflow.objects.update(status="SUCCESS", output="1", completed_at=Now())
    waiter.join(20)
    assert results[0] == [1] * 40
    assert results[1] < 40


@database
@pytest.mark.parametrize("waiter", [first_waiter, async_first_waiter, all_waiter, async_all_waiter])
def test_who_waits_for_several_holds_no_slot(waiter: Any) -> None:
    with Runtime(concurrency=1):
        children = [start_workflow(told) for _ in range(2)]
        ids = [child.workflow_id for child in children]
        waiting = [start_workflow(waiter, ids) for _ in range(3)]
        for each in ids:
            send(each, "go")
        for handle in waiting:
            assert handle.get_result(10) in ("go", ["go", "go"], *ids)


@database
@pytest.mark.parametrize("waiter", [id_waiter, async_id_waiter])
def test_a_result_can_be_had_by_its_id(waiter: Any) -> None:
    with Runtime():
        other = start_workflow(doubled, 4)
        assert get_result(other.workflow_id, 10) == async_to_sync(aget_result)(other.workflow_id, 10) == 8
        with SetWorkflowID("w"):
            assert start_workflow(waiter, other.workflow_id).get_result(10) == 8
    assert list(Step.objects.filter(workflow_id="w").values_list("name", flat=True)) == ["DBOS.getResult"]
    with pytest.raises(NonExistentWorkflow):
        get_result("nobody")


@database
def test_bad_handles_are_refused_at_once() -> None:
    with pytest.raises(InvalidOption, match="at least one"):
        wait_first([])
    for wait in (wait_first, wait_all):
        with pytest.raises(InvalidOption, match="Give handles"):
            wait(["w"])  # type: ignore[arg-type]
        with pytest.raises(InvalidOption, match="timeout"):
            wait([WorkflowHandle[Any]("w")], timeout=-1)
        with pytest.raises(NonExistentWorkflow, match="'nobody'"):
            wait([WorkflowHandle[Any]("nobody")])
    with pytest.raises(InvalidOption):
        get_result("")
    with pytest.raises(NonExistentWorkflow):
        first_waiter(["nobody"])


@workflow
async def gathering_results(first: str, second: str) -> list[Any]:
    handles = [WorkflowHandle[Any](first), WorkflowHandle[Any](second)]
    later = handles[0].aget_result()
    sooner = handles[1].aget_result()
    return [await sooner, await later]


@database
def test_the_number_of_a_result_is_drawn_at_the_call() -> None:
    with Runtime():
        ids = [start_workflow(doubled, n).workflow_id for n in range(2)]
        with SetWorkflowID("w"):
            assert start_workflow(gathering_results, *ids).get_result(10) == [2, 0]
    assert list(Step.objects.filter(workflow_id="w").order_by("number").values_list("child_id", flat=True)) == ids
