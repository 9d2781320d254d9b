"""Steps: rules 1 to 5 of the design."""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections

from django_dbos import (
    Queue,
    Runtime,
    SetWorkflowID,
    StepReservation,
    StepStatus,
    arun_step,
    cancel_workflow,
    reserve_step,
    resume_workflow,
    retrieve_workflow,
    run_step,
    start_workflow,
    step,
    step_id,
    step_status,
    transaction,
    workflow,
)
from django_dbos.attempts import StepPolicy
from django_dbos.context import running_ids
from django_dbos.exceptions import (
    AwaitedWorkflowCancelled,
    InvalidOption,
    MaxStepRetriesExceeded,
    NotInWorkflow,
    ReservationUsed,
    SerializationError,
    StepTimeout,
)
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus
from django_dbos.sysdb.executors import release
from django_dbos.sysdb.workflows import Submission, submit
from tests.models import Row
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
    policy = StepPolicy(max_attempts=9, interval_seconds=1, backoff_rate=3, max_interval_seconds=20)
    assert [policy.delay(failed) for failed in (1, 2, 3, 4, 5)] == [1, 3, 9, 20, 20]


def test_jitter_stays_within_its_fraction() -> None:
    policy = StepPolicy(max_attempts=2, interval_seconds=10, jitter=0.5)
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


# ---- made a step where it is called --------------------------------------------------------------------------


def shout(text: str, *, times: int = 1) -> str:
    runs.append(text)
    return text.upper() * times


async def ashout(text: str, *, times: int = 1) -> str:
    return shout(text, times=times)


async def awaited(options: Any, function: Callable[..., Any], *args: Any) -> Any:
    return await arun_step(options, function, *args)


@database
def test_any_function_can_be_called_as_a_step() -> None:
    @workflow
    def inlining() -> list[str]:
        return [run_step(None, shout, "a"), run_step({"name": "loud"}, shout, "b", times=2)]

    with SetWorkflowID("w"):
        assert inlining() == ["A", "BB"]
    assert again("w") == ["A", "BB"]
    assert runs == ["a", "b"]
    assert list(Step.objects.values_list("number", "name")) == [(1, "shout"), (2, "loud")]


@database
def test_any_function_can_be_awaited_as_a_step_also_one_that_is_not_async() -> None:
    @workflow
    async def ainlining() -> list[Any]:
        def where() -> bool:
            runs.append("thread")
            return threading.current_thread() is threading.main_thread()

        return list(
            await asyncio.gather(
                arun_step(None, ashout, "a"),
                arun_step({"name": "thread"}, where),
                arun_step({"name": "lambda"}, lambda: ashout("c")),
            )
        )

    with Runtime(), SetWorkflowID("w"):
        assert start_workflow(ainlining).get_result(timeout=10) == ["A", False, "C"]
    assert again("w") == ["A", False, "C"]
    assert sorted(runs) == ["a", "c", "thread"]
    assert list(Step.objects.values_list("number", "name")) == [(1, "ashout"), (2, "thread"), (3, "lambda")]


@database
def test_a_step_made_where_it_is_called_is_retried_as_its_options_say() -> None:
    def flaky() -> str:
        runs.append(1)
        if len(runs) < 3:
            raise OSError("down")
        return "up"

    @workflow
    def retrying() -> str:
        return run_step({"retries_allowed": True, "interval_seconds": 0}, flaky)

    @workflow
    def trying() -> str:
        return run_step({"max_attempts": 9}, flaky)

    assert retrying() == "up"
    assert Step.objects.get().attempts == 3
    runs.clear()
    with pytest.raises(OSError, match="down"):
        trying()
    assert runs == [1]


def test_outside_a_workflow_it_is_a_plain_call() -> None:
    assert run_step(None, shout, "a") == "A"
    assert async_to_sync(awaited)(None, ashout, "b") == "B"
    assert async_to_sync(awaited)({"name": "c"}, shout, "c") == "C"


@database
def test_inside_a_step_it_is_part_of_it() -> None:
    @step
    def whole() -> str:
        return run_step(None, shout, "part")

    @workflow
    def containing() -> str:
        return whole()

    assert containing() == "PART"
    assert Step.objects.count() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nmae": "x"}, "no step option 'nmae'"),
        ({"name": "x" * 256}, "255"),
        ({"retries_allowed": True, "max_attempts": 0}, "max_attempts"),
        ({"timeout_seconds": 1}, "cannot interrupt a thread"),
        ({"preemptible": True}, "cannot interrupt a thread"),
    ],
)
def test_options_that_can_never_work_are_refused_at_the_call(options: Any, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        run_step(options, shout, "a")
    with pytest.raises(InvalidOption, match=message):
        async_to_sync(awaited)(options, shout, "a")
    assert not runs


def test_an_async_function_is_awaited_by_the_twin_only() -> None:
    function: Any = ashout
    with pytest.raises(InvalidOption, match="arun_step"):
        run_step(None, function, "a")


# ---- reserved numbers ----------------------------------------------------------------------------------------


@database
def test_a_reserved_step_has_its_number_however_late_it_is_run() -> None:
    @workflow
    def reserving() -> list[Any]:
        reserved = reserve_step()
        assert reserved.step_id == 1
        return [noted("second"), reserved.run({"name": "reserved"}, shout, "first")]

    with SetWorkflowID("w"):
        assert reserving() == ["second", "FIRST"]
    assert again("w") == ["second", "FIRST"]
    assert runs == ["second", "first"]
    assert list(Step.objects.values_list("number", "name")) == [(1, "reserved"), (2, "noted")]


@database
def test_reserved_steps_run_on_threads_in_any_order_under_their_numbers() -> None:
    @workflow
    def fanning_out() -> list[str]:
        results: dict[int, str] = {}

        def work(reserved: StepReservation) -> None:
            results[reserved.step_id] = reserved.run(None, shout, f"item {reserved.step_id}")
            connections.close_all()

        reservations = [reserve_step() for _ in range(3)]
        for reserved in reversed(reservations):
            thread = threading.Thread(target=contextvars.copy_context().run, args=(work, reserved))
            thread.start()
            thread.join(10)
        return [results[number] for number in (1, 2, 3)]

    assert fanning_out() == ["ITEM 1", "ITEM 2", "ITEM 3"]
    assert list(Step.objects.values_list("number", "output")) == [(n, f'"ITEM {n}"') for n in (1, 2, 3)]


@database
def test_a_reserved_step_is_awaited_by_another_task() -> None:
    @workflow
    async def areserving() -> list[str]:
        first, second = reserve_step(), reserve_step()
        late = asyncio.ensure_future(second.arun(None, ashout, "b"))
        return [await first.arun(None, shout, "a"), await late]

    assert async_to_sync(areserving)() == ["A", "B"]
    assert list(Step.objects.values_list("number", "output")) == [(1, '"A"'), (2, '"B"')]


@database
def test_a_reservation_is_for_one_step_of_the_workflow_that_made_it() -> None:
    kept: list[StepReservation] = []

    @step
    def inside_a_step() -> None:
        kept[0].run(None, shout, "x")

    @workflow
    def lending() -> None:
        kept.append(reserve_step())
        with pytest.raises(NotInWorkflow, match="outside its steps"):
            inside_a_step()
        with pytest.raises(NotInWorkflow, match="Step 1 was reserved by"):
            borrowing()
        kept[0].run(None, shout, "once")
        with pytest.raises(ReservationUsed, match="Step 1"):
            kept[0].run(None, shout, "twice")

    @workflow
    def borrowing() -> None:
        kept[0].run(None, shout, "y")

    lending()
    assert runs == ["once"]
    with pytest.raises(NotInWorkflow):
        kept[0].run(None, shout, "z")


def test_nothing_can_be_reserved_outside_a_workflow() -> None:
    with pytest.raises(NotInWorkflow, match="reserve_step"):
        reserve_step()


# ---- timeouts and interruption -------------------------------------------------------------------------------


def test_only_async_steps_have_a_timeout_or_are_preemptible() -> None:
    def body() -> None: ...

    refused: list[dict[str, Any]] = [{"timeout_seconds": 1.0}, {"preemptible": True}]
    for options in refused:
        with pytest.raises(InvalidOption, match="cannot interrupt a thread"):
            step(**options)(body)


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_is_more_than_nothing(timeout: float) -> None:
    with pytest.raises(InvalidOption, match="timeout_seconds"):
        step(timeout_seconds=timeout)


@database
def test_a_step_that_takes_too_long_fails_with_a_recorded_error() -> None:
    @step(timeout_seconds=0.05)
    async def endless() -> None:
        runs.append(1)
        await asyncio.Event().wait()

    @workflow
    async def impatient() -> str:
        try:
            await endless()
        except StepTimeout as error:
            return str(error)
        return ""

    with SetWorkflowID("w"):
        assert "0.05 s" in async_to_sync(impatient)()
    assert "0.05 s" in again("w")
    assert runs == [1]


@database
def test_each_attempt_has_the_whole_timeout_and_a_late_one_is_retried() -> None:
    @step(timeout_seconds=0.2, retries_allowed=True, interval_seconds=0)
    async def slow_at_first() -> str:
        runs.append(1)
        if len(runs) < 3:
            await asyncio.Event().wait()
        return "in time"

    @workflow
    async def retrying() -> str:
        return await slow_at_first()

    assert async_to_sync(retrying)() == "in time"
    assert Step.objects.get().attempts == 3


@database
def test_a_timeout_of_the_bodys_own_is_its_own_error() -> None:
    @step(timeout_seconds=60)
    async def timing_out() -> None:
        raise TimeoutError("mine")

    @workflow
    async def calling() -> None:
        await timing_out()

    with pytest.raises(TimeoutError, match="mine") as caught:
        async_to_sync(calling)()
    assert not isinstance(caught.value, StepTimeout)


def test_outside_a_workflow_no_timeout_applies() -> None:
    @step(timeout_seconds=0.000001)
    async def calm() -> str:
        await asyncio.sleep(0)
        return "done"

    assert async_to_sync(calm)() == "done"


@database
@pytest.mark.parametrize("is_hinted", [True, False], ids=["woken", "unwoken"])
def test_cancelling_a_workflow_interrupts_its_preemptible_step_and_records_nothing(is_hinted: bool) -> None:
    @step(name=f"waiting-{is_hinted}", preemptible=True, timeout_seconds=3600)
    async def waiting() -> str:
        runs.append("began")
        if len(runs) > 1:
            return "second time"
        try:
            await asyncio.Event().wait()
        finally:
            runs.append("cleaned up")
        return "never"

    @workflow(name=f"preempted-{is_hinted}")
    async def preempted() -> str:
        return await waiting()

    with Runtime(), SetWorkflowID("w"):
        handle = start_workflow(preempted)
        eventually(lambda: runs == ["began"])
        if is_hinted:
            cancel_workflow("w")
        else:  # as if the wake-up had been lost
            Workflow.objects.filter(pk="w").update(status=WorkflowStatus.CANCELLED)
        eventually(lambda: runs == ["began", "cleaned up"])
        eventually(lambda: not running_ids())
        with pytest.raises(AwaitedWorkflowCancelled):
            handle.get_result(timeout=10)
        assert not Step.objects.exists()
        assert resume_workflow("w").get_result(timeout=10) == "second time"


@database
def test_a_preemptible_step_is_interrupted_when_another_executor_owns_its_workflow() -> None:
    @step(preemptible=True)
    async def lost() -> str:
        runs.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            runs.append("stopped")
        return "never"

    @workflow
    async def losing() -> str:
        return await lost()

    with Runtime(), SetWorkflowID("w"):
        start_workflow(losing)
        eventually(lambda: runs == ["began"])
        Workflow.objects.filter(pk="w").update(executor_id="another", epoch=7)
        eventually(lambda: runs == ["began", "stopped"])
        eventually(lambda: not running_ids())
        assert Workflow.objects.get().executor_id == "another"


@database
def test_a_preemptible_step_that_nobody_interrupts_is_a_step_like_any_other() -> None:
    @step(preemptible=True)
    async def fine() -> str:
        await asyncio.sleep(0)
        return "fine"

    @step(preemptible=True)
    async def broken() -> str:
        raise LookupError("broken")

    @workflow
    async def calm() -> str:
        try:
            return await broken()
        except LookupError:
            return await fine()

    assert async_to_sync(calm)() == "fine"
    assert list(Step.objects.values_list("number", flat=True)) == [1, 2]


@database
def test_a_shutdown_lets_a_preemptible_step_end() -> None:
    finish = threading.Event()

    @step(preemptible=True)
    async def ending() -> str:
        runs.extend(["began", asyncio.get_running_loop()])
        await asyncio.to_thread(finish.wait, 10)
        return "ended"

    @workflow
    async def outliving() -> str:
        return await ending()

    runtime = Runtime()
    with runtime, SetWorkflowID("w"):
        start_workflow(outliving)
        eventually(lambda: len(runs) == 2)
        runtime.drain()
        asyncio.run_coroutine_threadsafe(asyncio.to_thread(bool), runs[1]).result(10)  # the loop has seen it
        finish.set()
    assert Step.objects.get().output == '"ended"'


@database
def test_a_task_that_is_torn_down_in_a_preemptible_step_hands_its_workflow_back() -> None:
    @step(preemptible=True)
    async def held() -> str:
        runs.append("began")
        if len(runs) == 1:
            await asyncio.Event().wait()
        return "went on"

    @workflow
    async def torn() -> str:
        return await held()

    async def client() -> None:
        task = asyncio.ensure_future(torn())
        while not runs:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with SetWorkflowID("w"):
        async_to_sync(client)()
    assert Workflow.objects.get().status == WorkflowStatus.ENQUEUED
    with Runtime():
        assert retrieve_workflow("w").get_result(timeout=10) == "went on"


# ---- started alone -------------------------------------------------------------------------------------------


@transaction
def written(name: str) -> str:
    Row.objects.create(name=name)
    runs.append(name)
    return name


@transaction
async def awritten(name: str) -> str:
    await Row.objects.acreate(name=name)
    runs.append(name)
    return name


alone = pytest.mark.parametrize("function", [noted, anoted, written, awritten], ids=lambda function: function.__name__)


@database
@alone
def test_a_step_that_is_started_or_enqueued_alone_is_the_only_step_of_a_workflow(function: Any) -> None:
    with Runtime():
        for start in (start_workflow, Queue("steps").enqueue):
            with SetWorkflowID(f"alone {start.__name__}"):
                assert start(function, "x").get_result(timeout=10) == "x"
    for row in Workflow.objects.all():
        assert row.name == f"<temp>.{function.__name__}"
        assert list(row.steps.values_list("number", "name")) == [(1, function.__name__)]
    assert again("alone start_workflow") == "x"
    assert runs == ["x", "x"]


@database
@alone
def test_a_row_that_asks_for_a_step_by_its_own_name_is_run(function: Any) -> None:
    inputs = '{"args": ["x"], "kwargs": {}}'
    submit(Submission(id="w", name=function.__name__, inputs=inputs, serializer="json"))
    with Runtime():
        assert retrieve_workflow("w").get_result(timeout=10) == "x"
    assert Step.objects.get().name == function.__name__


@database
def test_a_step_that_a_workflow_starts_is_a_child() -> None:
    @workflow
    def starting() -> str:
        return str(start_workflow(noted, "x").get_result())

    with Runtime():
        assert start_workflow(starting).get_result(timeout=10) == "x"
    assert Workflow.objects.get(name="<temp>.noted", parent__name=starting.__qualname__).status == "SUCCESS"


@database
def test_a_workflow_has_its_name_before_a_step_has_it() -> None:
    @step(name="both")
    def both_as_a_step() -> str:
        return "step"

    @workflow(name="both")
    def both_as_a_workflow() -> str:
        return "workflow"

    submit(Submission(id="w", name="both", inputs='{"args": [], "kwargs": {}}', serializer="json"))
    with Runtime():
        assert retrieve_workflow("w").get_result(timeout=10) == "workflow"
        assert start_workflow(both_as_a_step).get_result(timeout=10) == "step"


@database
def test_called_directly_outside_a_workflow_nothing_is_recorded() -> None:
    assert [noted(1), async_to_sync(anoted)(2), written("3"), async_to_sync(awritten)("4")] == [1, 2, "3", "4"]
    assert Row.objects.count() == 2
    assert not Workflow.objects.exists()
