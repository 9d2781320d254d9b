"""Sleeping and reading the clock inside workflows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_dbos import (
    Runtime,
    SetWorkflowID,
    anow,
    arandom_uuid,
    asleep,
    cancel_workflow,
    fork_workflow,
    now,
    random_uuid,
    sleep,
    start_workflow,
    step,
    workflow,
)
from django_dbos.exceptions import AwaitedWorkflowCancelled, InvalidOption, NotInWorkflow
from django_dbos.models import Step, Workflow
from django_dbos.waiting import SLEEP
from tests.support import eventually
from tests.sysdb.rows import seconds_since

database = pytest.mark.django_db(transaction=True)


@workflow
def sleeper(seconds: float) -> str:
    sleep(seconds)
    return "awake"


@workflow
async def async_sleeper(seconds: float) -> str:
    await asleep(timedelta(seconds=seconds))
    return "awake"


@workflow
def clock_reader() -> list[Any]:
    return [now(), random_uuid()]


@workflow
async def async_clock_reader() -> list[Any]:
    return [await anow(), await arandom_uuid()]


@step
def nap() -> str:
    sleep(0.01)
    return "short"


@workflow
def napper() -> str:
    return nap()


@database
@pytest.mark.parametrize("function", [sleeper, async_sleeper])
def test_a_sleep_is_recorded_with_its_end_before_it_begins(function: Any) -> None:
    with Runtime(shutdown_timeout=0.5), SetWorkflowID("w"):
        start_workflow(function, 3600)
        eventually(lambda: Step.objects.filter(workflow_id="w").exists())
        row = Step.objects.get(workflow_id="w")
        assert (row.number, row.name) == (1, SLEEP)
        assert -3600 <= seconds_since(row.completed_at) < -3590
        assert row.started_at is not None
        assert seconds_since(row.started_at) < 10
    assert Workflow.objects.get(pk="w").status == "ENQUEUED", "handed back when its executor stopped"


@database
@pytest.mark.parametrize("function", [sleeper, async_sleeper])
def test_after_a_recovery_only_the_rest_is_slept(function: Any) -> None:
    with Runtime(shutdown_timeout=0.5), SetWorkflowID("w"):
        start_workflow(function, 3600)
        eventually(lambda: Step.objects.filter(workflow_id="w").exists())
    # As if an hour had passed; whatever the clock of the process that goes on says.
    Step.objects.filter(workflow_id="w").update(completed_at=datetime.now(UTC) - timedelta(seconds=1))
    with Runtime():
        eventually(lambda: Workflow.objects.get(pk="w").status == "SUCCESS")
    assert Step.objects.filter(workflow_id="w").count() == 1


@database
def test_who_sleeps_holds_no_slot() -> None:
    with Runtime(concurrency=1, shutdown_timeout=0.5):
        for _ in range(5):
            start_workflow(sleeper, 3600)
        assert start_workflow(sleeper, 0).get_result(10) == "awake"


@database
def test_a_cancelled_sleeper_wakes_up_at_once() -> None:
    with Runtime():
        handle = start_workflow(sleeper, 3600)
        eventually(lambda: Step.objects.filter(workflow_id=handle.workflow_id).exists())
        cancel_workflow(handle.workflow_id)
        with pytest.raises(AwaitedWorkflowCancelled):
            handle.get_result(10)


@database
def test_a_direct_call_sleeps_on_its_callers_thread() -> None:
    assert sleeper(0.01) == "awake"
    assert async_to_sync(async_sleeper)(0.01) == "awake"


@database
def test_inside_a_step_a_sleep_is_part_of_the_step() -> None:
    with SetWorkflowID("w"):
        assert napper() == "short"
    assert list(Step.objects.values_list("name", flat=True)) == ["nap"]


def test_outside_a_workflow_there_is_nothing_to_keep_a_sleep() -> None:
    with pytest.raises(NotInWorkflow, match=r"sleep\(\)"):
        sleep(1)


@pytest.mark.parametrize("wrong", [-1, "1", None, True, float("nan"), float("inf"), timedelta(days=-1)])
def test_a_wrong_duration_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(InvalidOption, match="number of seconds"):
        sleep(wrong)


@database
@pytest.mark.parametrize("function", [clock_reader, async_clock_reader])
def test_time_and_chance_are_the_same_when_a_workflow_runs_again(function: Any) -> None:
    with Runtime():
        with SetWorkflowID("w"):
            first = start_workflow(function).get_result(10)
        assert fork_workflow("w", 3).get_result(10) == first
        assert fork_workflow("w", 1).get_result(10) != first
    assert abs((datetime.now(UTC) - first[0]).total_seconds()) < 60


@database
def test_outside_a_workflow_time_and_chance_are_plain() -> None:
    assert abs((now() - datetime.now(UTC)).total_seconds()) < 60
    assert random_uuid() != random_uuid()
