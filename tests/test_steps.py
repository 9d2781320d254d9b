"""Steps: rules 1 to 5 of the design."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections

from django_dbos import (
    Runtime,
    SetWorkflowID,
    StepStatus,
    retrieve_workflow,
    start_workflow,
    step,
    step_id,
    step_status,
    workflow,
)
from django_dbos.context import running_ids
from django_dbos.exceptions import InvalidOption, MaxStepRetriesExceeded, SerializationError
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus
from django_dbos.steps import RetryPolicy
from django_dbos.sysdb.executors import release
from tests.support import eventually

database = pytest.mark.django_db(transaction=True)

runs: list[Any] = []


@pytest.fixture(autouse=True)
def no_runs() -> None:
    runs.clear()


@step
def noted(value: Any) -> Any:
    runs.append(value)
    return value


@step
async def anoted(value: Any) -> Any:
    runs.append(value)
    return value


@step
def outer(value: int) -> int:
    return int(noted(value)) + int(noted(value))


def again(workflow_id: str) -> Any:
    """Run a finished workflow a second time, from its records, as a recovery would."""
    Workflow.objects.filter(pk=workflow_id).update(status="ENQUEUED", output=None, error=None, completed_at=None)
    with Runtime():
        return retrieve_workflow(workflow_id).get_result(timeout=10)


@database
def test_a_finished_step_is_not_run_again_and_its_result_is_the_recorded_one() -> None:
    @workflow
    def replaying() -> list[Any]:
        return [noted({"n": 1}), noted((1, 2)), noted(None)]

    with SetWorkflowID("w"):
        first = replaying()
    assert again("w") == first == [{"n": 1}, (1, 2), None]
    assert runs == [{"n": 1}, (1, 2), None]


@database
def test_a_finished_async_step_is_not_run_again() -> None:
    @workflow
    async def areplaying() -> list[Any]:
        return [await anoted(1), await anoted(2)]

    with SetWorkflowID("w"):
        assert async_to_sync(areplaying)() == [1, 2]
    assert again("w") == [1, 2]
    assert runs == [1, 2]


@database
def test_a_recorded_error_is_raised_again_without_running_the_body() -> None:
    @step
    def broken() -> None:
        runs.append("broken")
        raise LookupError("gone", 404)

    @workflow
    def catching() -> tuple[Any, ...]:
        try:
            broken()
        except LookupError as error:
            return error.args
        return ()

    with SetWorkflowID("w"):
        assert catching() == ("gone", 404)
    assert again("w") == ("gone", 404)
    assert runs == ["broken"]


@database
def test_the_steps_after_the_last_record_run() -> None:
    @workflow
    def three() -> list[Any]:
        return [noted(1), noted(2), noted(3)]

    with SetWorkflowID("w"):
        three()
    Step.objects.filter(number__gt=1).delete()
    runs.clear()
    assert again("w") == [1, 2, 3]
    assert runs == [2, 3]


@database
def test_numbers_start_at_one_in_the_order_of_the_calls() -> None:
    @workflow
    def numbered() -> None:
        for value in "abc":
            noted(value)

    numbered()
    assert list(Step.objects.values_list("number", "output")) == [(1, '"a"'), (2, '"b"'), (3, '"c"')]


@database
def test_gathered_steps_are_numbered_in_argument_order_whichever_ends_first() -> None:
    last_ended = asyncio.Event()

    @step
    async def racing(value: int) -> int:
        if value == 3:
            last_ended.set()
        else:
            await last_ended.wait()
        return value

    @workflow
    async def gathering() -> list[int]:
        return list(await asyncio.gather(racing(1), racing(2), racing(3)))

    assert async_to_sync(gathering)() == [1, 2, 3]
    assert list(Step.objects.values_list("number", "output")) == [(1, "1"), (2, "2"), (3, "3")]


def test_outside_a_workflow_a_step_is_a_plain_call_without_a_database() -> None:
    assert noted(5) == 5
    assert async_to_sync(anoted)(6) == 6


@database
def test_a_step_inside_a_step_is_part_of_it() -> None:
    @workflow
    def nested() -> int:
        return outer(4)

    assert nested() == 8
    assert list(Step.objects.values_list("number", "name")) == [(1, "outer")]


@database
def test_a_step_has_its_qualified_name_or_the_one_it_was_given() -> None:
    @step(name="short")
    def long_winded() -> None: ...

    @workflow
    def naming() -> None:
        long_winded()
        noted(1)

    naming()
    assert list(Step.objects.values_list("name", flat=True)) == ["short", "noted"]


@database
def test_a_failing_step_is_tried_once_unless_retries_are_allowed() -> None:
    @step(max_attempts=5)
    def once() -> None:
        runs.append(1)
        raise OSError("down")

    @workflow
    def trying_once() -> None:
        once()

    with pytest.raises(OSError, match="down"):
        trying_once()
    assert runs == [1]


@database
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_failing_step_is_retried_until_it_succeeds_and_its_attempts_are_recorded(is_async: bool) -> None:
    def body() -> str:
        status = step_status()
        assert status is not None
        runs.append(status)
        if len(runs) < 3:
            raise OSError(f"failure {len(runs)}")
        return "up"

    def sync_body() -> str:
        return body()

    async def async_body() -> str:
        return body()

    flaky: Any = step(name=f"flaky-{is_async}", retries_allowed=True, max_attempts=4, interval_seconds=0)(
        async_body if is_async else sync_body
    )

    def sync_workflow() -> Any:
        return flaky()

    async def async_workflow() -> Any:
        return await flaky()

    stubborn: Any = workflow(name=f"stubborn-{is_async}")(async_workflow if is_async else sync_workflow)
    result = async_to_sync(stubborn)() if is_async else stubborn()
    assert result == "up"
    assert runs == [StepStatus(step_id=1, current_attempt=n, max_attempts=4) for n in (1, 2, 3)]
    assert Step.objects.get().attempts == 3


@database
def test_exhausted_retries_are_recorded_once_and_carry_every_attempts_error() -> None:
    @step(retries_allowed=True, max_attempts=3, interval_seconds=0)
    def hopeless() -> None:
        runs.append(1)
        raise OSError(f"failure {len(runs)}")

    @workflow
    def trying() -> None:
        hopeless()

    with pytest.raises(MaxStepRetriesExceeded, match=r"(?s)3 attempts.*failure 1.*failure 2.*failure 3") as caught:
        trying()
    assert [str(error) for error in caught.value.errors] == ["failure 1", "failure 2", "failure 3"]
    assert isinstance(caught.value.__cause__, OSError)
    assert Step.objects.get().attempts == 3


@database
def test_exhausted_retries_come_back_from_the_record_with_their_errors() -> None:
    @step(retries_allowed=True, max_attempts=2, interval_seconds=0)
    def always_down() -> None:
        raise OSError("down")

    @workflow
    def counting_failures() -> int:
        try:
            always_down()
        except MaxStepRetriesExceeded as error:
            return len(error.errors)
        return -1

    with SetWorkflowID("w"):
        assert counting_failures() == 2
    assert again("w") == 2


@database
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_should_retry_may_say_no_and_then_the_error_itself_is_raised(is_async: bool) -> None:
    def sync_judge(error: BaseException) -> bool:
        return not isinstance(error, PermissionError)

    async def async_judge(error: BaseException) -> bool:
        return sync_judge(error)

    judge: Callable[[BaseException], bool | Awaitable[bool]] = async_judge if is_async else sync_judge

    async def judged() -> None:
        runs.append(1)
        raise OSError("try again") if len(runs) == 1 else PermissionError("never")

    body: Any = step(
        name=f"judged-{is_async}", retries_allowed=True, max_attempts=9, interval_seconds=0, should_retry=judge
    )(judged)

    async def judging() -> None:
        await body()

    with pytest.raises(PermissionError, match="never"):
        async_to_sync(workflow(name=f"judging-{is_async}")(judging))()
    assert len(runs) == 2


def test_an_async_should_retry_on_a_sync_step_is_refused_at_the_decorator() -> None:
    async def judge(error: BaseException) -> bool:
        return True

    def body() -> None: ...

    with pytest.raises(InvalidOption, match="should_retry"):
        step(retries_allowed=True, should_retry=judge)(body)


def test_intervals_grow_by_the_rate_up_to_the_cap() -> None:
    policy = RetryPolicy(max_attempts=9, interval_seconds=1, backoff_rate=3, max_interval_seconds=20)
    assert [policy.delay(failed) for failed in (1, 2, 3, 4, 5)] == [1, 3, 9, 20, 20]


def test_jitter_stays_within_its_fraction() -> None:
    policy = RetryPolicy(max_attempts=2, interval_seconds=10, jitter=0.5)
    delays = [policy.delay(1) for _ in range(200)]
    assert all(5 <= delay <= 15 for delay in delays)
    assert max(delays) > min(delays)


@pytest.mark.parametrize(
    "options",
    [{"max_attempts": 0}, {"interval_seconds": -1}, {"backoff_rate": 0.5}, {"max_interval_seconds": -1}, {"jitter": 2}],
)
def test_a_retry_option_that_can_never_work_is_refused_at_the_decorator(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        step(retries_allowed=True, **options)


@database
def test_the_pause_between_attempts_holds_no_slot() -> None:
    @step(retries_allowed=True, max_attempts=2, interval_seconds=3600)
    def pausing() -> None:
        runs.append("failed")
        raise OSError("down")

    @workflow
    def waiting_long() -> None:
        pausing()

    @workflow
    def quick() -> str:
        return "ran"

    with Runtime(concurrency=1):
        waiting = start_workflow(waiting_long)
        eventually(lambda: runs == ["failed"])
        assert start_workflow(quick).get_result(timeout=10) == "ran"
        assert waiting.get_status().status == WorkflowStatus.PENDING
    # The runtime did not wait for an hour: it handed the workflow back.
    assert waiting.get_status().status == WorkflowStatus.ENQUEUED


@database
def test_a_result_that_cannot_be_stored_is_the_steps_error_in_each_run() -> None:
    @step
    def unstorable() -> Any:
        runs.append(1)
        return object()

    @workflow
    def storing() -> str:
        try:
            unstorable()
        except SerializationError as error:
            return str(error)
        return ""

    with SetWorkflowID("w"):
        assert "unstorable()" in storing()
    assert "unstorable()" in again("w")
    assert runs == [1]


@database
def test_a_predecessors_checkpoint_that_slipped_in_between_counts_and_ours_does_not() -> None:
    @step
    def overtaken() -> str:
        owner = Workflow.objects.get(pk="w")
        Step.objects.create(workflow=owner, number=1, name="overtaken", output='"theirs"')
        return "ours"

    @workflow
    def racing_workflow() -> str:
        return overtaken()

    with SetWorkflowID("w"):
        assert racing_workflow() == "theirs"


@database
def test_an_execution_that_lost_its_workflow_writes_nothing_more_and_its_caller_gets_the_winners_result() -> None:
    @workflow
    def stolen() -> str:
        if not runs:
            runs.append("first")
            execution = Workflow.objects.get(pk="w")
            release(execution.executor_id, workflow_id="w", epoch=execution.epoch)
            noted("refused")
            runs.append("not reached")
        return "second"

    def rescue() -> None:
        eventually(lambda: runs and not running_ids())
        with Runtime():
            retrieve_workflow("w").get_result(timeout=10)
        connections.close_all()

    rescuer = threading.Thread(target=rescue)
    rescuer.start()
    with SetWorkflowID("w"):
        assert stolen() == "second"
    rescuer.join(10)
    assert "not reached" not in runs
    assert Step.objects.count() == 0


@database
def test_a_body_that_still_runs_when_its_workflow_is_claimed_again_goes_on_and_no_second_one_starts() -> None:
    @workflow
    def recovered_too_early() -> str:
        runs.append("body")
        execution = Workflow.objects.get(pk="w")
        release(execution.executor_id, workflow_id="w", epoch=execution.epoch)
        eventually(lambda: Workflow.objects.get(pk="w").epoch == 2)
        noted("accepted")
        return "done"

    with Runtime(), SetWorkflowID("w"):
        assert recovered_too_early() == "done"
    assert runs == ["body", "accepted"]
    assert Step.objects.get().name == "noted"


def test_step_id_and_status_are_none_outside_steps() -> None:
    assert step_id() is None
    assert step_status() is None
