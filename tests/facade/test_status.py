"""What programs see of workflows and steps: attribute names, plain strings, milliseconds, None for what is not."""

import asyncio
import contextvars
import time
from typing import Any

import pytest

from django_dbos.dbos import (
    DBOS,
    DBOSContextSetAuth,
    Queue,
    SetEnqueueOptions,
    SetWorkflowAttributes,
    SetWorkflowID,
    SetWorkflowTimeout,
    WorkflowStatusString,
    error,
)


def test_the_status_of_a_finished_workflow() -> None:
    @DBOS.workflow()
    def add(a: int, b: int) -> int:
        return a + b

    DBOS(config={"name": "sums"})
    DBOS.launch()
    before = time.time() * 1000
    with SetWorkflowID("sum"), SetWorkflowTimeout(60), DBOSContextSetAuth("ada", ["user"]):
        assert add(1, b=2) == 3
    status = DBOS.get_workflow_status("sum")
    assert status.workflow_id == "sum"
    assert status.status == "SUCCESS" == WorkflowStatusString.SUCCESS.value
    assert type(status.status) is str
    assert status.name == add.__qualname__
    assert status.input == {"args": (1,), "kwargs": {"b": 2}}
    assert (status.output, status.error) == (3, None)
    assert (status.class_name, status.config_name, status.queue_name) == (None, None, None)
    assert (status.deduplication_id, status.queue_partition_key, status.dequeued_at) == (None, None, None)
    assert (status.authenticated_user, status.authenticated_roles, status.assumed_role) == ("ada", ["user"], None)
    assert status.application_name == "sums"
    assert status.recovery_attempts == 1
    assert status.workflow_timeout_ms == 60_000
    assert type(status.created_at) is int
    assert before - 60_000 < status.created_at <= status.completed_at < before + 60_000
    assert status.workflow_deadline_epoch_ms >= status.created_at + 60_000
    assert (status.forked_from, status.was_forked_from, status.parent_workflow_id) == (None, False, None)
    assert (status.attributes, status.schedule_name, status.app_version, status.priority) == (None, None, None, 0)


def test_what_does_not_exist() -> None:
    DBOS.launch()
    assert DBOS.get_workflow_status("nobody") is None
    assert DBOS.list_workflow_steps("nobody") == []
    with pytest.raises(error.DBOSNonExistentWorkflowError) as raised:
        DBOS.retrieve_workflow("nobody")
    assert raised.value.dbos_error_code == 5
    assert str(raised.value).startswith("DBOS Error 5: ")
    handle = DBOS.retrieve_workflow("nobody", existing_workflow=False)
    assert handle.get_workflow_id() == "nobody"
    with pytest.raises(error.DBOSNonExistentWorkflowError):
        handle.get_status()


def test_the_status_of_an_enqueued_workflow() -> None:
    @DBOS.workflow()
    def enqueued() -> Any:
        return DBOS.workflow_id

    DBOS.launch()
    queue = Queue("statuses", worker_concurrency=2)
    options = SetEnqueueOptions(priority=3, deduplication_id="only", app_version=None)
    with options, SetWorkflowAttributes({"customer": 7}):
        handle = queue.enqueue(enqueued)
    assert handle.get_result() == handle.workflow_id
    status = handle.get_status()
    assert (status.queue_name, status.priority, status.attributes) == ("statuses", 3, {"customer": 7})
    assert type(status.dequeued_at) is int
    assert status.deduplication_id is None  # it is free again


def test_an_error_is_an_exception_object() -> None:
    @DBOS.workflow()
    def broken() -> None:
        raise KeyError("missing")

    DBOS.launch()
    with SetWorkflowID("broken"), pytest.raises(KeyError):
        broken()
    status = DBOS.get_workflow_status("broken")
    assert (status.status, status.output) == ("ERROR", None)
    assert isinstance(status.error, KeyError)
    assert status.error.args == ("missing",)


def test_the_very_exception_comes_back_in_its_process() -> None:
    mistakes = [ValueError("one"), ValueError("two")]

    @DBOS.workflow()
    def mistaken(number: int) -> None:
        raise mistakes[number]

    DBOS.launch()
    with pytest.raises(ValueError, match="one") as direct:
        mistaken(0)
    assert direct.value is mistakes[0]
    with pytest.raises(ValueError, match="two") as awaited:
        DBOS.start_workflow(mistaken, 1).get_result()
    assert awaited.value is mistakes[1]


def test_steps_are_dicts() -> None:
    @DBOS.step()
    def fine(number: int) -> int:
        return number

    @DBOS.step()
    def failing() -> None:
        raise ValueError("no")

    @DBOS.workflow()
    def child() -> str:
        return "child"

    @DBOS.workflow()
    def parent() -> None:
        fine(1)
        with pytest.raises(ValueError, match="no"):
            failing()
        DBOS.start_workflow(child).get_result()
        DBOS.sleep(0.01)

    DBOS.launch()
    with SetWorkflowID("parent"):
        parent()
    steps = DBOS.list_workflow_steps("parent")
    assert [step["function_id"] for step in steps] == [1, 2, 3, 4, 5]
    assert [step["function_name"] for step in steps] == [
        fine.__qualname__,
        failing.__qualname__,
        child.__qualname__,
        "DBOS.getResult",
        "DBOS.sleep",
    ]
    assert [step["output"] for step in steps] == [1, None, None, "child", None]
    assert isinstance(steps[1]["error"], ValueError)
    assert [step["child_workflow_id"] for step in steps] == [None, None, "parent-3", "parent-3", None]
    assert all(type(step["started_at_epoch_ms"]) is int for step in steps)
    assert steps[4]["completed_at_epoch_ms"] >= steps[4]["started_at_epoch_ms"] + 9
    assert DBOS.list_workflow_steps("parent", load_output=False)[0]["output"] is None


def test_lists_by_their_filters() -> None:
    @DBOS.workflow()
    def listed(number: int) -> int:
        return number

    DBOS.launch()
    for number in range(3):
        with SetWorkflowID(f"listed-{number}"):
            listed(number)
    found = DBOS.list_workflows(workflow_id_prefix="listed-", sort_desc=True, limit=2)
    assert [status.workflow_id for status in found] == ["listed-2", "listed-1"]
    assert DBOS.list_workflows(name=listed.__qualname__, status="ERROR") == []
    assert [status.input for status in DBOS.list_workflows(workflow_ids=["listed-0"], load_input=False)] == [None]
    assert DBOS.list_queued_workflows() == []
    with pytest.raises(ValueError, match="status"):
        DBOS.list_workflows(status="PENDNG")


def test_a_started_workflow_is_pending_on_no_queue() -> None:
    @DBOS.workflow()
    def waiting() -> str:
        message: str = DBOS.recv()
        return message

    DBOS.launch()
    handle = DBOS.start_workflow(waiting)
    status = handle.get_status()
    assert (status.status, status.queue_name, status.executor_id) == ("PENDING", None, DBOS.executor_id)
    DBOS.send(handle.workflow_id, "go")
    assert handle.get_result() == "go"


def test_properties_of_the_class_and_of_its_instance() -> None:
    dbos = DBOS(config={"name": "properties", "application_version": "v7"})
    assert DBOS(config={"name": "another"}) is dbos
    seen: list[Any] = []

    @DBOS.step()
    def plain() -> None:
        seen.append((DBOS.step_id, dbos.step_id, DBOS.step_status, DBOS.workflow_id))

    @DBOS.step(retries_allowed=True, max_attempts=4, interval_seconds=0)
    def retried() -> None:
        status = DBOS.step_status
        seen.append((status.step_id, status.current_attempt, status.max_attempts))
        if status.current_attempt < 2:
            raise RuntimeError

    @DBOS.workflow()
    def look() -> None:
        plain()
        retried()

    DBOS.launch()
    assert (DBOS.workflow_id, dbos.workflow_id, DBOS.step_id) == (None, None, None)
    assert (DBOS.application_version, dbos.application_version) == ("v7", "v7")
    with SetWorkflowID("look"):
        look()
    (number, same, status, workflow_id), *attempts = seen
    assert (number, same, workflow_id) == (1, 1, "look")
    assert (status.step_id, status.current_attempt, status.max_attempts) == (1, None, None)
    assert attempts == [(2, 0, 4), (2, 1, 4), (2, 2, 4)]
    assert DBOS.get_workflow_status("look").app_version == "v7"
    assert DBOS.logger.name == "django_dbos"


def test_the_caller_of_a_scope() -> None:
    @DBOS.workflow()
    def who() -> tuple[str, list[str]]:
        return DBOS.authenticated_user, DBOS.authenticated_roles

    def request() -> tuple[str, list[str]]:
        DBOS.set_authentication("grace", ["admin"])
        return who()

    DBOS.launch()
    assert contextvars.copy_context().run(request) == ("grace", ["admin"])
    assert DBOS.authenticated_user is None
    assert DBOS.authenticated_roles is None


def test_the_same_for_code_that_awaits() -> None:
    @DBOS.workflow()
    async def shout(text: str) -> str:
        await DBOS.sleep_async(0)
        return text.upper()

    async def program() -> None:
        with SetWorkflowID("shout"):
            handle = await DBOS.start_workflow_async(shout, "hey")
        assert handle.get_workflow_id() == "shout"
        assert await handle.get_result() == "HEY"
        assert (await handle.get_status()).output == "HEY"
        assert (await DBOS.get_workflow_status_async("shout")).input == {"args": ("hey",), "kwargs": {}}
        assert [step["function_name"] for step in await DBOS.list_workflow_steps_async("shout")] == ["DBOS.sleep"]
        assert [status.workflow_id for status in await DBOS.list_workflows_async()] == ["shout"]
        with pytest.raises(RuntimeError, match="_async"):
            DBOS.list_workflows()
        with pytest.raises(RuntimeError, match="_async"):
            DBOS.start_workflow(shout, "hey")

    DBOS.launch()
    asyncio.run(program())
