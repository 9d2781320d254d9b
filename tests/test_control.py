"""Cancel, resume, fork."""

import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_dbos import (
    Runtime,
    SetWorkflowID,
    acancel_workflow,
    afork_workflow,
    aresume_workflow,
    cancel_workflow,
    fork_workflow,
    resume_workflow,
    retrieve_workflow,
    start_workflow,
    step,
    workflow,
)
from django_dbos.context import running_ids
from django_dbos.exceptions import AwaitedWorkflowCancelled, InvalidOption, NonExistentWorkflow, WorkflowIDInUse
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus
from tests.support import eventually

database = pytest.mark.django_db(transaction=True)

runs: list[str] = []
gate = threading.Event()


@pytest.fixture(autouse=True)
def fresh() -> None:
    runs.clear()
    gate.clear()


@step
def remembered(name: str) -> str:
    runs.append(name)
    return name


@step
def held() -> str:
    runs.append("held")
    gate.wait(10)
    return "held"


@workflow
def three_steps() -> list[str]:
    return [remembered("one"), held(), remembered("three")]


@database
def test_a_waiting_workflow_that_is_cancelled_never_runs() -> None:
    handle = start_workflow(three_steps)
    assert cancel_workflow(handle.workflow_id) is True
    with Runtime(), pytest.raises(AwaitedWorkflowCancelled):
        handle.get_result(timeout=10)
    assert runs == []
    assert handle.get_status().completed_at is not None


@database
def test_a_running_workflow_ends_at_its_next_step_and_never_turns_to_success() -> None:
    with Runtime():
        handle = start_workflow(three_steps)
        eventually(lambda: "held" in runs)
        cancel_workflow(handle.workflow_id)
        gate.set()
        eventually(lambda: not Workflow.objects.pending().exists())
    assert runs == ["one", "held"]
    assert handle.get_status().status == WorkflowStatus.CANCELLED
    assert Step.objects.count() == 1


@database
def test_a_cancellation_is_not_swallowed_by_except_exception() -> None:
    @workflow
    def stubborn() -> str:
        try:
            held()
            remembered("not reached")
        except Exception:
            return "swallowed"
        return "went on"

    with Runtime():
        handle = start_workflow(stubborn)
        eventually(lambda: "held" in runs)
        cancel_workflow(handle.workflow_id)
        gate.set()
        with pytest.raises(AwaitedWorkflowCancelled):
            handle.get_result(timeout=10)
    assert runs == ["held"]


@database
def test_a_finished_workflow_cannot_be_cancelled() -> None:
    gate.set()
    with SetWorkflowID("w"):
        three_steps()
    assert cancel_workflow("w") is False
    assert Workflow.objects.get().status == WorkflowStatus.SUCCESS


@database
def test_a_resumed_workflow_goes_on_from_its_last_finished_step() -> None:
    with Runtime():
        handle = start_workflow(three_steps)
        eventually(lambda: "held" in runs)
        cancel_workflow(handle.workflow_id)
        gate.set()
        eventually(lambda: not running_ids())
        assert resume_workflow(handle.workflow_id).get_result(timeout=10) == ["one", "held", "three"]
    assert runs == ["one", "held", "held", "three"]
    row = handle.get_status()
    assert (row.status, row.attempts) == (WorkflowStatus.SUCCESS, 1)


@database
def test_resuming_a_finished_workflow_changes_nothing() -> None:
    gate.set()
    with SetWorkflowID("w"):
        three_steps()
    assert resume_workflow("w").get_result() == ["one", "held", "three"]
    assert Workflow.objects.get().status == WorkflowStatus.SUCCESS


@database
def test_resuming_a_running_workflow_does_not_start_a_second_body_beside_it() -> None:
    with Runtime():
        handle = start_workflow(three_steps)
        eventually(lambda: "held" in runs)
        resume_workflow(handle.workflow_id)
        eventually(lambda: handle.get_status().epoch == 2)
        gate.set()
        assert handle.get_result(timeout=10) == ["one", "held", "three"]
    assert runs == ["one", "held", "three"]


@database
@pytest.mark.parametrize(("start_step", "expected"), [(1, ["one", "held", "three"]), (3, ["three"]), (99, [])])
def test_a_fork_takes_over_the_steps_below_its_start(start_step: int, expected: list[str]) -> None:
    gate.set()
    with SetWorkflowID("original"):
        three_steps()
    runs.clear()
    with Runtime():
        fork = fork_workflow("original", start_step)
        assert fork.get_result(timeout=10) == ["one", "held", "three"]
    assert runs == expected
    row = fork.get_status()
    assert row.forked_from_id == "original"
    assert row.steps.count() == 3
    assert list(Workflow.objects.get(pk="original").forks.values_list("pk", flat=True)) == [fork.workflow_id]


@database
def test_a_fork_may_be_given_its_id() -> None:
    gate.set()
    with SetWorkflowID("original"):
        three_steps()
    with SetWorkflowID("copy"):
        assert fork_workflow("original").workflow_id == "copy"


@database
def test_a_fork_leaves_the_original_as_it_was() -> None:
    gate.set()
    with SetWorkflowID("original"):
        three_steps()
    before = Workflow.objects.filter(pk="original").values().get()
    fork_workflow("original", 2)
    assert Workflow.objects.filter(pk="original").values().get() == before
    assert Step.objects.filter(workflow_id="original").count() == 3


@database
def test_an_unknown_id_raises() -> None:
    verbs: list[Any] = [cancel_workflow, resume_workflow, fork_workflow]
    for verb in verbs:
        with pytest.raises(NonExistentWorkflow, match="'nobody'"):
            verb("nobody")


@pytest.mark.parametrize("start_step", [0, -1, "2", None])
def test_a_bad_start_step_is_refused_at_once(start_step: Any) -> None:
    with pytest.raises(InvalidOption, match="start_step"):
        fork_workflow("w", start_step)


@database
def test_the_async_twins_do_the_same() -> None:
    gate.set()

    async def operate() -> Any:
        handle = start
        assert await acancel_workflow(handle.workflow_id) is True
        await aresume_workflow(handle.workflow_id)
        fork = await afork_workflow(handle.workflow_id, 1)
        return fork.workflow_id

    start = start_workflow(three_steps)
    fork_id = async_to_sync(operate)()
    with Runtime():
        assert start.get_result(timeout=10) == retrieve_workflow(fork_id).get_result(timeout=10)


@database
@pytest.mark.parametrize("waits_for", ["a retry", "a result"])
def test_a_cancellation_ends_a_wait_at_once(waits_for: str) -> None:
    @step(name=f"down {waits_for}", retries_allowed=True, max_attempts=2, interval_seconds=3600)
    def down() -> None:
        runs.append("waiting")
        raise OSError("down")

    @workflow(name=f"waiting {waits_for}")
    def waiting(other: str) -> None:
        if waits_for == "a retry":
            down()
        runs.append("waiting")
        retrieve_workflow(other).get_result()

    with Runtime(queues=[]):
        other = Workflow.objects.create(id="other", name="of nobody", status="ENQUEUED", queue_name="nowhere")
        handle = start_workflow(waiting, other.pk)
        eventually(lambda: "waiting" in runs)
        cancel_workflow(handle.workflow_id)
        eventually(lambda: not running_ids())
    assert handle.get_status().status == WorkflowStatus.CANCELLED


@database
def test_a_cancellation_from_elsewhere_is_noticed_at_the_next_poll() -> None:
    @workflow
    def waiting_unwoken(other: str) -> None:
        runs.append("waiting")
        retrieve_workflow(other).get_result()

    with Runtime(queues=[]):
        other = Workflow.objects.create(id="other", name="of nobody", status="ENQUEUED", queue_name="nowhere")
        handle = start_workflow(waiting_unwoken, other.pk)
        eventually(lambda: "waiting" in runs)
        Workflow.objects.filter(pk=handle.workflow_id).update(status="CANCELLED")
        eventually(lambda: not running_ids())


@database
def test_a_fork_under_an_id_that_is_in_use_is_refused() -> None:
    gate.set()
    with SetWorkflowID("original"):
        three_steps()
    with SetWorkflowID("original"), pytest.raises(WorkflowIDInUse, match="'original'"):
        fork_workflow("original")
    assert Workflow.objects.count() == 1
