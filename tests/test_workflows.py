"""Starting and running workflows: rules 6 to 8 and 11 of the design, in this process."""

import asyncio
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from datetime import date
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.test import TestCase
from pydantic import BaseModel

from django_dbos import (
    ConfiguredInstance,
    Runtime,
    SetWorkflowID,
    astart_workflow,
    dbos_class,
    make_pydantic_args_validator,
    pydantic_args_validator,
    retrieve_workflow,
    serialization,
    signals,
    start_workflow,
    step,
    workflow,
    workflow_id,
)
from django_dbos.exceptions import (
    BlockingCall,
    ConflictingWorkflow,
    DeserializationError,
    DirectCallInTransaction,
    DuplicateRegistration,
    InvalidArguments,
    InvalidOption,
    InvalidWorkflowID,
    MaxRecoveryAttemptsExceeded,
    RecordedError,
    SerializationError,
    UnexpectedStep,
)
from django_dbos.models import Executor, Step, Workflow
from django_dbos.states import WorkflowStatus
from django_dbos.sysdb import executors
from django_dbos.sysdb.workflows import Submission, submit
from tests.support import eventually

database = pytest.mark.django_db(transaction=True)

calls: list[Any] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@step
def add(left: int, right: int) -> int:
    calls.append((left, right))
    return left + right


@step
async def aadd(left: int, right: int) -> int:
    await asyncio.sleep(0)
    calls.append((left, right))
    return left + right


@workflow
def total(count: int) -> int:
    result = 0
    for number in range(count):
        result = add(result, number)
    return result


@workflow
async def atotal(count: int) -> int:
    result = 0
    for number in range(count):
        result = await aadd(result, number)
    return result


@workflow
def failing(message: str) -> None:
    raise ValueError(message)


@workflow
async def afailing(message: str) -> None:
    raise ValueError(message)


@workflow
def family(counts: list[int]) -> list[int]:
    handles = [start_workflow(total, count) for count in counts]
    return [total(2), *(handle.get_result() for handle in handles)]


@workflow
async def afamily(counts: list[int]) -> list[int]:
    handles = [await astart_workflow(atotal, count) for count in counts]
    first = await atotal(2)
    return [first, *[await handle.aget_result() for handle in handles]]


def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a workflow, sync or async."""
    call = async_to_sync(function) if asyncio.iscoroutinefunction(function) else function
    return call(*args, **kwargs)


both = pytest.mark.parametrize("function", [total, atotal], ids=["sync", "async"])


@database
@both
def test_a_direct_call_runs_here_and_leaves_its_steps_and_result(function: Callable[..., Any]) -> None:
    assert run(function, 4) == 6
    row = Workflow.objects.get()
    assert (row.name, row.status, row.queue_name, row.attempts) == (function.__qualname__, "SUCCESS", "", 1)
    assert row.started_at
    assert row.completed_at
    assert list(row.steps.values_list("number", "output")) == [(1, "0"), (2, "1"), (3, "3"), (4, "6")]


@database
def test_a_direct_call_runs_in_the_callers_own_thread() -> None:
    @workflow
    def where() -> int:
        return threading.get_ident()

    assert where() == threading.get_ident()


@database
@pytest.mark.parametrize("function", [failing, afailing], ids=["sync", "async"])
def test_an_error_is_recorded_and_raised_again(function: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="no luck"):
        run(function, "no luck")
    row = Workflow.objects.get()
    assert row.status == WorkflowStatus.ERROR
    with pytest.raises(ValueError, match="no luck"):
        retrieve_workflow(row.id).get_result()


@database
def test_an_error_whose_class_cannot_be_rebuilt_comes_back_with_all_of_it() -> None:
    class LocalError(Exception):
        pass

    @workflow
    def failing_locally() -> None:
        raise LocalError("reason", 7)

    with pytest.raises(LocalError), SetWorkflowID("local"):
        failing_locally()
    with pytest.raises(RecordedError) as caught:
        retrieve_workflow("local").get_result()
    assert caught.value.type_name.endswith("LocalError")
    assert caught.value.arguments == ("reason", 7)
    assert "failing_locally" in caught.value.traceback


@database
@both
def test_the_same_id_attaches_to_the_finished_execution(function: Callable[..., Any]) -> None:
    for _ in range(2):
        with SetWorkflowID("once"):
            assert run(function, 3) == 3
    assert len(calls) == 3
    assert Workflow.objects.count() == 1


@database
def test_inputs_are_not_compared_the_first_caller_won() -> None:
    with SetWorkflowID("once"):
        assert total(3) == 3
    with SetWorkflowID("once"):
        assert total(100) == 3


@database
def test_the_same_id_for_another_function_is_refused_by_name() -> None:
    with SetWorkflowID("once"):
        total(1)
    with SetWorkflowID("once"), pytest.raises(ConflictingWorkflow, match=r"'once' belongs to 'total'.*'failing'"):
        start_workflow(failing, "x")


@database
def test_an_id_is_used_up_by_the_first_start_in_its_block() -> None:
    with SetWorkflowID("first"):
        total(1)
        total(1)
    assert Workflow.objects.filter(pk="first").exists()
    assert Workflow.objects.count() == 2


@pytest.mark.parametrize("bad", ["", "x" * 256, None, 7, "nul\x00"])
def test_a_bad_workflow_id_is_refused_at_once(bad: Any) -> None:
    with pytest.raises(InvalidWorkflowID, match="1 to 255 characters"):
        SetWorkflowID(bad)


@database
def test_two_threads_that_call_the_same_id_run_the_body_once() -> None:
    entered, gate = threading.Event(), threading.Event()

    @workflow
    def gated() -> str:
        calls.append("body")
        entered.set()
        gate.wait(10)
        return "done"

    results: list[str] = []

    def call() -> None:
        with SetWorkflowID("shared"):
            results.append(gated())
        from django.db import connections

        connections.close_all()

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    gate.set()
    for thread in threads:
        thread.join(10)
    assert results == ["done"] * 3
    assert calls == ["body"]


@database
@pytest.mark.parametrize("function", [family, afamily], ids=["sync", "async"])
def test_children_have_the_parents_id_and_step_number_and_their_results_are_steps(
    function: Callable[..., Any],
) -> None:
    with Runtime(), SetWorkflowID("parent"):
        assert run(function, [3, 4]) == [1, 3, 6]
    parent = Workflow.objects.get(pk="parent")
    child = function.__name__.replace("family", "total")
    assert sorted(parent.children.values_list("pk", flat=True)) == ["parent-1", "parent-2", "parent-3"]
    assert list(parent.steps.values_list("number", "name", "child_id")) == [
        (1, child, "parent-1"),
        (2, child, "parent-2"),
        (3, child, "parent-3"),
        (4, "DBOS.getResult", "parent-3"),
        (5, "DBOS.getResult", "parent-1"),
        (6, "DBOS.getResult", "parent-2"),
    ]


@database
@pytest.mark.parametrize("function", [family, afamily], ids=["sync", "async"])
def test_parents_that_wait_for_children_never_starve_them(function: Callable[..., Any]) -> None:
    with Runtime(concurrency=1):
        handles = [start_workflow(function, [1, 2]) for _ in range(4)]
        assert [handle.get_result(timeout=30) for handle in handles] == [[1, 0, 1]] * 4


@database
def test_a_child_that_fails_raises_in_its_parent_which_may_go_on() -> None:
    @workflow
    def forgiving() -> str:
        try:
            failing("child")
        except ValueError as error:
            return f"caught {error}"
        return "nothing to catch"

    assert forgiving() == "caught child"
    assert Workflow.objects.get(name="failing").status == WorkflowStatus.ERROR


@database
def test_a_start_runs_in_this_process_at_once_where_a_runtime_has_a_free_slot() -> None:
    gate = threading.Event()

    @workflow
    def held() -> str:
        gate.wait(10)
        return "done"

    with Runtime(concurrency=1) as runtime:
        first, second = start_workflow(held), start_workflow(held)
        assert first.get_status().status == WorkflowStatus.PENDING
        assert first.get_status().executor_id == runtime.executor_id
        assert first.get_status().queue_name == ""
        assert second.get_status().status == WorkflowStatus.ENQUEUED
        gate.set()
        assert [first.get_result(10), second.get_result(10)] == ["done", "done"]


@database
def test_without_a_runtime_a_start_waits_for_a_worker() -> None:
    handle = start_workflow(total, 3)
    assert handle.get_status().status == WorkflowStatus.ENQUEUED
    with Runtime():
        assert handle.get_result(timeout=10) == 3


@database
def test_a_start_in_atomic_appears_on_commit_and_vanishes_on_rollback() -> None:
    with Runtime():
        with transaction.atomic():
            kept = start_workflow(total, 2)
            assert kept.get_status().status == WorkflowStatus.ENQUEUED
        with transaction.atomic():
            lost = start_workflow(total, 2)
            transaction.set_rollback(True)
        assert kept.get_result(timeout=10) == 1
    assert not Workflow.objects.filter(pk=lost.workflow_id).exists()


@database
def test_a_direct_call_in_atomic_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(DirectCallInTransaction, match="start_workflow"), transaction.atomic():
        total(2)
    assert not Workflow.objects.exists()


class DirectCallInTestCase(TestCase):
    """A TestCase's own transaction does not count as one."""

    def test_a_direct_call_is_allowed(self) -> None:
        assert total(3) == 3
        assert not Executor.objects.exists()  # nobody else could see it, so nobody is told

    def test_a_direct_call_in_a_further_atomic_is_refused(self) -> None:
        with transaction.atomic(), pytest.raises(DirectCallInTransaction):
            total(3)


@database
def test_a_step_in_atomic_inside_a_workflow_is_refused_and_the_workflow_fails() -> None:
    @workflow
    def careless() -> int:
        with transaction.atomic():
            return add(1, 1)

    with pytest.raises(DirectCallInTransaction, match="@transaction"):
        careless()
    assert not calls
    assert Workflow.objects.get().status == WorkflowStatus.ERROR


@database
def test_an_argument_that_cannot_be_stored_is_refused_at_the_call_and_nothing_is_written() -> None:
    with pytest.raises(SerializationError, match=r"args\[0\]\['lock'\]"):
        start_workflow(total, {"lock": threading.Lock()})  # type: ignore[call-overload]
    assert not Workflow.objects.exists()


@database
def test_a_result_that_cannot_be_stored_is_an_error_that_names_it() -> None:
    @workflow
    def unstorable() -> object:
        return object()

    with pytest.raises(SerializationError, match=r"unstorable\(\)"):
        unstorable()
    assert Workflow.objects.get().status == WorkflowStatus.ERROR


@database
def test_an_input_that_cannot_be_read_back_ends_in_error_with_a_reason() -> None:
    submit(Submission(id="broken", name="total", inputs="{not json", serializer="json"))
    with Runtime(), pytest.raises(DeserializationError):
        retrieve_workflow("broken").get_result(timeout=10)
    row = Workflow.objects.get()
    assert row.status == WorkflowStatus.ERROR
    assert row.error


@database
def test_a_body_that_exits_is_an_error_and_not_an_endless_loop() -> None:
    @workflow
    def leaving() -> None:
        sys.exit(3)

    with Runtime():
        handle = start_workflow(leaving)
        eventually(lambda: handle.get_status().status == WorkflowStatus.ERROR)


@database
def test_a_direct_call_that_is_torn_down_is_handed_back_to_the_workers() -> None:
    @workflow
    def torn() -> str:
        if not calls:
            calls.append("torn")
            raise KeyboardInterrupt
        return "went on"

    with pytest.raises(KeyboardInterrupt), SetWorkflowID("torn"):
        torn()
    assert Workflow.objects.get().status == WorkflowStatus.ENQUEUED
    with Runtime():
        assert retrieve_workflow("torn").get_result(timeout=10) == "went on"


@database
def test_an_async_call_whose_task_is_cancelled_is_handed_back_to_the_workers() -> None:
    started = asyncio.Event()

    @workflow
    async def patient() -> str:
        if not calls:
            calls.append("waiting")
            started.set()
            await asyncio.Event().wait()
        return "went on"

    async def client() -> None:
        task = asyncio.ensure_future(patient())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with SetWorkflowID("cancelled-client"):
        async_to_sync(client)()
    assert Workflow.objects.get().status == WorkflowStatus.ENQUEUED
    with Runtime():
        assert retrieve_workflow("cancelled-client").get_result(timeout=10) == "went on"


@database
def test_a_workflow_recovered_too_often_is_set_aside_and_says_so() -> None:
    @workflow(max_recovery_attempts=1)
    def unlucky() -> str:
        return "never reached"

    with SetWorkflowID("unlucky"):
        start_workflow(unlucky)
    Workflow.objects.update(attempts=2)
    with Runtime(), pytest.raises(MaxRecoveryAttemptsExceeded):
        retrieve_workflow("unlucky").get_result(timeout=10)
    assert Workflow.objects.get().status == WorkflowStatus.MAX_RECOVERY_ATTEMPTS_EXCEEDED


@database
def test_a_changed_function_stops_with_the_number_and_both_names() -> None:
    with SetWorkflowID("changed"):
        total(2)
    Step.objects.filter(number=2).update(name="subtract")
    Workflow.objects.update(status=WorkflowStatus.ENQUEUED, epoch=1, output=None)
    with Runtime(), pytest.raises(UnexpectedStep, match=r"Step 2 of workflow 'total'.*'subtract'.*'add'.*[Ff]ork"):
        retrieve_workflow("changed").get_result(timeout=10)


@database
def test_signals_tell_how_a_workflow_ended_and_a_failing_receiver_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[tuple[str, Any]] = []

    def succeeded(sender: type[Workflow], name: str, **details: Any) -> None:
        heard.append((name, None))
        raise RuntimeError("a bad receiver")

    def failed(sender: type[Workflow], name: str, error: Exception, **details: Any) -> None:
        heard.append((name, str(error)))

    signals.workflow_succeeded.connect(succeeded)
    signals.workflow_failed.connect(failed)
    try:
        total(1)
        with pytest.raises(ValueError, match="bad day"):
            failing("bad day")
    finally:
        signals.workflow_succeeded.disconnect(succeeded)
        signals.workflow_failed.disconnect(failed)
    assert heard == [("total", None), ("failing", "bad day")]
    assert "a bad receiver" in caplog.text


@database
def test_the_body_knows_its_workflow_and_code_outside_knows_none() -> None:
    @workflow
    def who() -> str | None:
        return workflow_id()

    with SetWorkflowID("me"):
        assert who() == "me"
    assert workflow_id() is None


def test_a_plain_function_is_no_workflow_and_the_remedy_is_named() -> None:
    with pytest.raises(InvalidOption, match="@workflow"):
        start_workflow(len, [])


def test_two_functions_under_one_name_are_refused_with_the_remedy() -> None:
    @workflow(name="twice")
    def one() -> None: ...

    with pytest.raises(DuplicateRegistration, match=r"twice.*name="):

        @workflow(name="twice")
        def two() -> None: ...


def test_a_negative_number_of_recoveries_is_refused() -> None:
    with pytest.raises(InvalidOption, match="max_recovery_attempts"):
        workflow(max_recovery_attempts=-1)


@database
def test_a_direct_call_registers_this_process_as_an_executor_of_its_own() -> None:
    total(1)
    row = Workflow.objects.get()
    executor = Executor.objects.get()
    assert row.executor_id == executor.id == executors.own.ensure().id
    assert executor.state == "running"


@database
def test_the_version_that_is_set_is_written_down_and_others_leave_it(settings: Any) -> None:
    settings.DBOS = {**settings.DBOS, "APPLICATION_VERSION": "1"}
    handle = start_workflow(total, 2)
    assert handle.get_status().application_version == "1"
    settings.DBOS = {**settings.DBOS, "APPLICATION_VERSION": "2"}
    with Runtime():
        unversioned = Workflow.objects.create(
            id="free", name="total", inputs=handle.get_status().inputs, status="ENQUEUED"
        )
        assert retrieve_workflow(unversioned.id).get_result(timeout=10) == 1
        assert handle.get_status().status == WorkflowStatus.ENQUEUED
    settings.DBOS = {**settings.DBOS, "APPLICATION_VERSION": "1"}
    with Runtime():
        assert handle.get_result(timeout=10) == 1


@database
def test_an_unexpected_step_ends_the_workflow_even_if_its_body_swallows_the_error() -> None:
    @workflow
    def swallowing() -> str:
        for number in range(3):
            try:
                add(number, number)
            except Exception:
                calls.append("swallowed")
        return "as if nothing had happened"

    with SetWorkflowID("changed"):
        swallowing()
    calls.clear()
    Step.objects.filter(number=1).update(name="subtract")
    Workflow.objects.update(status=WorkflowStatus.ENQUEUED, epoch=1, output=None)
    with Runtime(), pytest.raises(UnexpectedStep, match="Step 1"):
        retrieve_workflow("changed").get_result(timeout=10)
    assert calls == ["swallowed"] * 3


@database
def test_a_blocking_call_on_an_event_loop_is_refused_and_names_the_way_out() -> None:
    @workflow
    async def blocking() -> int:
        return add(1, 1)

    async def client() -> None:
        start_workflow(total, 3)

    for call in (blocking, client):
        with pytest.raises(BlockingCall, match=r"sync_to_async"):
            async_to_sync(call)()
    assert not calls


@database
def test_a_sync_step_may_be_awaited_through_sync_to_async() -> None:
    @workflow
    async def considerate() -> int:
        return await sync_to_async(add)(1, 1)

    assert async_to_sync(considerate)() == 2
    with Runtime():
        assert start_workflow(considerate).get_result(timeout=10) == 2


@database
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_a_body_sets_in_its_context_does_not_reach_other_workflows(is_async: bool) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    def look() -> str:
        before = variable.get()
        variable.set("left behind")
        return before

    async def alook() -> str:
        return look()

    looking: Any = workflow(name=f"looking-{is_async}")(alook if is_async else look)
    variable.set("the starter's")
    with Runtime(concurrency=1):
        assert [start_workflow(looking).get_result(timeout=10) for _ in range(3)] == ["unset"] * 3


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_the_system_tables_may_live_in_another_database(settings: Any) -> None:
    settings.DBOS = {**settings.DBOS, "DATABASE": "other"}
    with Runtime(scheduler=False):
        assert start_workflow(family, [3]).get_result(timeout=10) == [1, 3]
        assert total(3) == 3
    assert Workflow.objects.count() == Workflow.objects.using("other").count() == 4
    assert Workflow.objects.using("default").count() == 0
    assert Workflow.objects.get(name="family").steps.count() == 4


@database
def test_a_parent_whose_child_was_set_aside_is_not_set_aside_itself() -> None:
    @workflow(max_recovery_attempts=0)
    def set_aside() -> None: ...

    @workflow
    def relying() -> None:
        retrieve_workflow("child").get_result()

    with SetWorkflowID("child"):
        start_workflow(set_aside)
    Workflow.objects.update(attempts=5)
    with Runtime(), pytest.raises(MaxRecoveryAttemptsExceeded):
        start_workflow(relying).get_result(timeout=10)
    assert Workflow.objects.get(name=relying.__qualname__).status == WorkflowStatus.ERROR
    assert Workflow.objects.get(pk="child").status == WorkflowStatus.MAX_RECOVERY_ATTEMPTS_EXCEEDED


# ---- validation of arguments ---------------------------------------------------------------------------------


class Basket(BaseModel):
    """What is bought."""

    items: list[str]
    paid: bool = False


@workflow(validate_args=True)
def buy(basket: Basket, count: int = 1, *, on: "date | None" = None) -> list[Any]:
    calls.append((basket, count, on))
    return [basket.items * count, on]


@workflow(validate_args=pydantic_args_validator)
async def abuy(basket: Basket, count: int = 1, *, on: "date | None" = None) -> list[Any]:
    calls.append((basket, count, on))
    return [basket.items * count, on]


buying = pytest.mark.parametrize("function", [buy, abuy], ids=["sync", "async"])


@database
@buying
def test_arguments_are_converted_by_the_type_hints_before_they_are_stored(function: Any) -> None:
    converted = [(Basket(items=["a"]), 2, date(2026, 1, 2))] * 2
    assert run(function, {"items": ["a"]}, "2", on="2026-01-02") == [["a", "a"], date(2026, 1, 2)]
    with Runtime():
        handle = start_workflow(function, {"items": ["a"]}, count="2", on="2026-01-02")
        assert handle.get_result(timeout=10) == [["a", "a"], date(2026, 1, 2)]
    assert calls == converted
    assert serialization.load_call(handle.get_status().inputs, "json") == (
        (Basket(items=["a"]),),
        {"count": 2, "on": date(2026, 1, 2)},
    )


@database
@buying
def test_arguments_that_do_not_fit_are_refused_at_the_call_and_nothing_is_written(function: Any) -> None:
    for args in ([{"items": 7}], [{"items": []}, "many"], [], [{"items": []}, 1, 2, 3]):
        with pytest.raises(InvalidArguments, match=function.__name__):
            run(function, *args)
        with pytest.raises(InvalidArguments):
            start_workflow(function, *args)
    assert not Workflow.objects.exists()
    assert not calls


@database
@buying
def test_arguments_are_validated_again_when_a_row_is_claimed(function: Any) -> None:
    for name, argument in (("good", '{"items": ["a"]}'), ("bad", '{"items": 7}')):
        inputs = f'{{"args": [{argument}], "kwargs": {{}}}}'
        submit(Submission(id=name, name=function.__name__, inputs=inputs, serializer="json"))
    with Runtime():
        assert retrieve_workflow("good").get_result(timeout=10) == [["a"], None]
        with pytest.raises(InvalidArguments, match=r"buy\(\) does not .*: basket\.items: Input should be a valid list"):
            retrieve_workflow("bad").get_result(timeout=10)
    assert Workflow.objects.get(pk="bad").status == WorkflowStatus.ERROR
    assert calls == [(Basket(items=["a"]), 1, None)]


@database
def test_the_arguments_of_methods_are_validated_without_what_they_are_called_on() -> None:
    @dbos_class
    class Till(ConfiguredInstance):
        @workflow(validate_args=True)
        def add(self, count: int) -> int:
            return count + 1

        @workflow(validate_args=True)
        @classmethod
        def of_class(cls, count: int) -> int:
            return count + 1

        @workflow(validate_args=True)
        @staticmethod
        def static(count: int) -> int:
            return count + 1

    till: Any = Till("1")
    with Runtime():
        for function in (till.add, till.of_class, till.static):
            assert function("3") == start_workflow(function, "3").get_result(timeout=10) == 4
            with pytest.raises(InvalidArguments):
                function("three")


@database
def test_a_validator_of_ones_own_gets_both_and_gives_both() -> None:
    def positive(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args[0] < 0:
            raise ValueError("less than nothing")
        return (abs(args[0]), *args[1:]), kwargs

    @workflow(validate_args=positive)
    def counting(count: int) -> int:
        return count

    assert counting(3) == 3
    with pytest.raises(ValueError, match="less than nothing"):
        counting(-3)

    @workflow
    def parent() -> str:
        try:
            counting(-3)
        except ValueError as error:
            return str(error)
        return ""

    assert parent() == "less than nothing"


def test_a_validator_that_can_never_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def validate(args: Any, kwargs: Any) -> Any:
        return args

    decorator: Any = workflow
    with pytest.raises(InvalidOption, match="validate_args"):
        decorator(validate_args="strict")(len)

    @workflow(validate_args=validate)
    def careless() -> None: ...

    with pytest.raises(InvalidOption, match=r"returns \(args, kwargs\)"):
        start_workflow(careless)
    monkeypatch.setattr("django_dbos.arguments.find_spec", lambda name: None)
    with pytest.raises(InvalidOption, match="pip install pydantic"):
        make_pydantic_args_validator(total)
