"""Options, queues and errors in the words of programs."""

import asyncio
import threading
from typing import Any

import pytest

from django_dbos import SetWorkflowAttributes, exceptions
from django_dbos.dbos import (
    DBOS,
    DBOSClient,
    DBOSConfiguredInstance,
    DBOSContextEnsure,
    DBOSContextSetAuth,
    DBOSPortableJSONSerializer,
    PortableWorkflowError,
    Queue,
    Serializer,
    SetEnqueueOptions,
    SetWorkflowID,
    WorkflowSerializationFormat,
    error,
)
from django_dbos.hub import local_runner
from django_dbos.models import Workflow
from django_dbos.queues import declared_queues
from tests.support import eventually

# ---- queues


def test_a_queue_made_after_launch_is_served_with_its_limits() -> None:
    running, most, lock, gate = 0, 0, threading.Lock(), threading.Event()

    @DBOS.workflow()
    def limited() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(0.05)
        with lock:
            running -= 1

    DBOS.launch()
    queue = Queue("late", concurrency=1)
    assert (queue.concurrency, queue.global_concurrency, queue.worker_concurrency) == (1, 1, None)
    for handle in [queue.enqueue(limited) for _ in range(5)]:
        handle.get_result()
    assert most == 1


def test_words_of_a_queue_that_are_wrong() -> None:
    with pytest.raises(ValueError, match="one of them"):
        Queue("wrong", concurrency=1, global_concurrency=1)
    with pytest.raises(ValueError, match="worker_concurrency"):
        Queue("wrong", concurrency=1, worker_concurrency=2)
    with pytest.raises(ValueError, match="from 1"):
        Queue("wrong", concurrency=0)
    with pytest.raises(ValueError, match="not there yet"):
        Queue("wrong", limiter={"limit": 1, "period": 1})
    with pytest.raises(TypeError, match="colour"):
        Queue("wrong", colour="red")
    assert "wrong" not in declared_queues()


def test_a_queue_is_declared_anew_and_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    Queue("twice", concurrency=1)
    Queue("twice", concurrency=2)
    assert "declared again" in caplog.text
    assert declared_queues()["twice"].global_concurrency == 2
    DBOS.destroy(destroy_registry=True)
    assert "twice" not in declared_queues()


def test_only_the_queues_that_are_listened_to_are_served() -> None:
    @DBOS.workflow()
    def work() -> str:
        return "done"

    served, other = Queue("served"), Queue("other")
    DBOS.listen_queues([served])
    DBOS.launch()
    waiting = other.enqueue(work)
    assert served.enqueue(work).get_result() == "done"
    assert waiting.get_status().status == "ENQUEUED"
    with pytest.raises(error.DBOSException, match="before launch"):
        DBOS.listen_queues([other])


def test_an_unknown_queue_takes_work_by_name() -> None:
    @DBOS.workflow(name="served later")
    def later(number: int) -> int:
        return number

    DBOS.launch()
    client = DBOSClient()
    handle = client.enqueue({"workflow_name": "served later", "queue_name": "of tomorrow"}, 3)
    assert handle.get_status().status == "ENQUEUED"
    Queue("of tomorrow")
    assert handle.get_result() == 3


# ---- options


def test_options_of_an_enqueue_by_name_win_over_those_around() -> None:
    DBOS.launch()
    client = DBOSClient()
    with SetEnqueueOptions(priority=5, delay_seconds=60), SetWorkflowAttributes({"a": 1, "b": 1}):
        handle = client.enqueue(
            {
                "workflow_name": "unknown here",
                "queue_name": "elsewhere",
                "workflow_id": "by-name",
                "workflow_timeout": 9.5,
                "priority": 2,
                "queue_partition_key": "p",
                "app_version": "v2",
                "attributes": {"b": 2},
                "authenticated_user": "ada",
                "authenticated_roles": ["user"],
                "serialization_type": WorkflowSerializationFormat.PORTABLE,
            },
            1,
            two=2,
        )
    status = handle.get_status()
    assert (status.workflow_id, status.status, status.name) == ("by-name", "DELAYED", "unknown here")
    assert (status.priority, status.queue_partition_key, status.app_version) == (2, "p", "v2")
    assert (status.workflow_timeout_ms, status.attributes) == (9500, {"a": 1, "b": 2})
    assert (status.authenticated_user, status.authenticated_roles) == ("ada", ["user"])
    assert status.input == {"args": (1,), "kwargs": {"two": 2}}
    client.set_workflow_delay("by-name", delay_until_epoch_ms=0)
    eventually(lambda: handle.get_status().status == "ENQUEUED")
    with pytest.raises(ValueError, match="workflow_name is missing, colour is not known"):
        client.enqueue({"queue_name": "elsewhere", "colour": "red"})


def test_an_option_of_queues_without_a_queue_is_refused_before_anything_is_written() -> None:
    @DBOS.workflow()
    def direct() -> None: ...

    DBOS.launch()
    with SetEnqueueOptions(priority=1), pytest.raises(ValueError, match="priority"):
        DBOS.start_workflow(direct)
    assert not Workflow.objects.exists()


def test_attributes_are_replaced_unless_they_are_merged() -> None:
    @DBOS.workflow()
    def child() -> Any:
        return DBOS.get_workflow_status(DBOS.workflow_id).attributes

    @DBOS.workflow()
    def parent() -> Any:
        return child()

    DBOS.launch()
    with SetWorkflowID("parent"), SetWorkflowAttributes({"a": 1}):
        assert parent() is None  # children do not inherit them
    DBOS.update_workflow_attributes("parent", {"b": 2}, merge=True)
    assert DBOS.get_workflow_status("parent").attributes == {"a": 1, "b": 2}
    DBOS.update_workflow_attributes("parent", {"c": 3})
    assert [status.workflow_id for status in DBOS.list_workflows(attributes={"c": 3})] == ["parent"]
    DBOS.update_workflow_attributes("parent", None)
    assert DBOS.get_workflow_status("parent").attributes is None


def test_an_id_that_has_to_be_new() -> None:
    @DBOS.workflow()
    def once() -> int:
        return 1

    DBOS.launch()
    with DBOSContextEnsure(), SetWorkflowID("once"):
        once()
    with (
        SetWorkflowID("once", workflow_id_reuse_policy="reject"),
        pytest.raises(error.DBOSWorkflowIDInUseError, match="DBOS Error 27"),
    ):
        once()


# ---- what is started runs at once


def test_more_than_any_limit_run_at_once_if_they_are_started() -> None:
    begun, gate, count = threading.Semaphore(0), threading.Event(), 80

    @DBOS.workflow()
    def held() -> None:
        begun.release()
        gate.wait(10)

    DBOS(config={"name": "many", "max_executor_threads": 2})
    DBOS.launch()
    handles = [DBOS.start_workflow(held) for _ in range(count)]
    assert all(begun.acquire(timeout=10) for _ in range(count))
    gate.set()
    for handle in handles:
        handle.get_result()


def test_an_async_workflow_runs_on_the_loop_that_starts_it() -> None:
    async def program() -> None:
        event = asyncio.Event()

        @DBOS.workflow()
        async def waits() -> str:
            await event.wait()
            return "woken"

        @DBOS.workflow()
        async def parent() -> str:
            handle = await DBOS.start_workflow_async(waits)
            result: str = await handle.get_result()
            return result

        handles = [await DBOS.start_workflow_async(each) for each in (waits, parent)]
        event.set()
        assert [await handle.get_result() for handle in handles] == ["woken", "woken"]

    DBOS.launch()
    asyncio.run(program())


def test_an_async_workflow_of_a_queue_runs_on_the_workers_loop() -> None:
    @DBOS.workflow()
    async def where() -> str:
        return threading.current_thread().name

    async def program() -> str:
        handle = await Queue("loops").enqueue_async(where)
        result: str = await handle.get_result()
        return result

    DBOS.launch()
    assert asyncio.run(program()) == "dbos-loop"


def test_what_is_left_on_a_loop_that_ends_goes_on_elsewhere() -> None:
    async def program() -> Any:
        handle = await DBOS.start_workflow_async(patient)
        await DBOS.get_event_async(handle.workflow_id, "begun")
        return handle.workflow_id

    @DBOS.workflow()
    async def patient() -> Any:
        await DBOS.set_event_async("begun", True)
        return await DBOS.recv_async("go")

    DBOS.launch()
    workflow_id = asyncio.run(program())
    DBOS.send(workflow_id, "gone", "go")
    assert DBOS.get_result(workflow_id) == "gone"


# ---- errors


def test_errors_have_a_class_a_number_and_words() -> None:
    for ours in (exceptions.NonExistentWorkflow, exceptions.QueueDeduplicated, exceptions.NotAuthorized):
        theirs = error.translated(ours("so it is"))
        assert isinstance(theirs, ours)
        assert isinstance(theirs, error.DBOSException)
        assert str(theirs) == f"DBOS Error {theirs.dbos_error_code}: so it is"
        assert theirs.__cause__ is not None
    cancelled = error.translated(exceptions.WorkflowCancelled("stop"))
    assert isinstance(cancelled, error.DBOSWorkflowCancelledError)
    assert not isinstance(cancelled, Exception)
    assert error.translated(KeyError("a")).args == ("a",)
    assert type(error.translated(exceptions.NotInWorkflow("here"))) is error.DBOSException
    assert str(error.DBOSException("plain")) == "plain"
    assert str(error.DBOSException("numbered", dbos_error_code=99)) == "DBOS Error 99: numbered"


def test_what_is_refused_is_refused_by_its_kind() -> None:
    @DBOS.workflow()
    def mine() -> None: ...

    @DBOS.workflow()
    def unstorable() -> Any:
        return threading.Lock()

    @DBOS.workflow(name="other")
    def other() -> None: ...

    DBOS.launch()
    with SetWorkflowID("taken"):
        mine()
    with SetWorkflowID("taken"), pytest.raises(error.DBOSConflictingWorkflowError, match="DBOS Error 9"):
        other()
    with pytest.raises(TypeError):
        unstorable()
    with pytest.raises(error.DBOSException, match="body of a workflow"):
        DBOS.recv()
    with pytest.raises(error.DBOSNonExistentWorkflowError):
        DBOS.send("nobody", "hello")
    with pytest.raises(error.DBOSNonExistentWorkflowError):
        DBOS.resume_workflows(["taken", "nobody"])


def test_a_cancelled_workflow_cannot_swallow_it() -> None:
    seen: list[str] = []

    @DBOS.workflow()
    def stubborn() -> None:
        try:
            DBOS.recv("never")
        except Exception:
            seen.append("swallowed")
        except error.DBOSWorkflowCancelledError as stopped:
            seen.append(str(stopped))
            raise

    DBOS.launch()
    handle = DBOS.start_workflow(stubborn)
    DBOS.cancel_workflow(handle.workflow_id)
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    eventually(lambda: seen)
    assert [text.startswith("DBOS Error 10: ") for text in seen] == [True]


def test_a_portable_error_keeps_what_it_says() -> None:
    @DBOS.workflow()
    def fails() -> None:
        raise PortableWorkflowError("no funds", "FundsError", 17, {"account": "ada"})

    DBOS.launch()
    with SetWorkflowID("portable"), pytest.raises(PortableWorkflowError):
        fails()
    recorded = DBOS.get_workflow_status("portable").error
    assert (recorded.message, recorded.name, recorded.code, recorded.data) == (
        "no funds",
        "FundsError",
        17,
        {"account": "ada"},
    )
    assert str(recorded) == "no funds"


# ---- roles and classes


def test_roles() -> None:
    @DBOS.required_roles(["admin"])
    @DBOS.workflow()
    def above() -> Any:
        return DBOS.assumed_role

    @DBOS.workflow()
    @DBOS.required_roles(["admin"])
    def below() -> Any:
        return DBOS.assumed_role

    @DBOS.required_roles(["admin"])
    def plain() -> str:
        return "plain"

    DBOS.launch()
    for function in (above, below, plain):
        with pytest.raises(error.DBOSNotAuthorizedError, match="DBOS Error 8"):
            function()
    with DBOSContextSetAuth("ada", ["user", "admin"]):
        assert [above(), below(), plain()] == ["admin", "admin", "plain"]


def test_a_class_by_its_name() -> None:
    @DBOS.dbos_class("Named")
    @DBOS.default_required_roles(["user"])
    class Unnamed(DBOSConfiguredInstance):
        @DBOS.workflow()
        def name(self) -> str:
            return self.config_name

    one = Unnamed("one")
    DBOS.launch()
    with DBOSContextSetAuth("ada", ["user"]):
        handle = DBOS.start_workflow(one.name)
    assert handle.get_result() == "one"
    assert (handle.get_status().class_name, handle.get_status().config_name) == ("Named", "one")
    with pytest.raises(error.DBOSNotAuthorizedError):
        one.name()


# ---- steps that are made where they are called


def test_steps_without_a_decorator() -> None:
    @DBOS.workflow()
    def reserved() -> list[int]:
        later = DBOS.reserve_step()
        first = DBOS.run_step({"name": "first"}, max, 1, 2)
        second: int = later.run(None, min, 1, 2)
        return [first, second, later.step_id]

    assert DBOS.run_step(None, max, 3, 4) == 4  # before launch, too
    DBOS.launch()
    with SetWorkflowID("reserved"):
        assert reserved() == [2, 1, 1]
    names = [step["function_name"] for step in DBOS.list_workflow_steps("reserved")]
    assert names == ["min", "first"]


def test_a_step_that_is_started_alone() -> None:
    @DBOS.step()
    def alone(number: int) -> int:
        return number + 1

    DBOS.launch()
    assert DBOS.start_workflow(alone, 1).get_result() == 2
    assert Queue("steps").enqueue(alone, 2).get_result() == 3


# ---- the client


def test_a_call_of_a_client_is_no_step() -> None:
    client = DBOSClient()

    @DBOS.workflow()
    def looks() -> int:
        return len(client.list_workflows()) + len(DBOS.list_workflows())

    DBOS.launch()
    with SetWorkflowID("looks"):
        assert looks() == 2
    assert [step["function_name"] for step in DBOS.list_workflow_steps("looks")] == ["DBOS.listWorkflows"]


def test_a_client_needs_no_launch_and_knows_what_it_cannot_do(caplog: pytest.LogCaptureFixture) -> None:
    DBOS(config={"name": "not launched"})
    assert local_runner() is None
    client = DBOSClient(system_database_url="postgresql://someone@elsewhere/another")
    assert "'another' is not used" in caplog.text
    assert client.list_workflows() == []
    with pytest.raises(AttributeError, match="atomic"):
        client.enqueue_in_transaction  # noqa: B018
    with pytest.raises(AttributeError, match="not there yet"):
        client.create_schedule  # noqa: B018
    with pytest.raises(AttributeError, match="start_workflow"):
        client.start_workflow  # noqa: B018


# ---- configuration


class Shouting(Serializer):
    """Keeps texts in capitals."""

    def serialize(self, data: Any) -> str:
        return repr(data).upper()

    def deserialize(self, serialized_data: str) -> Any:
        return eval(serialized_data.lower(), {"true": True, "none": None})  # noqa: S307

    def name(self) -> str:
        return "shouting"


def test_a_serializer_of_ones_own() -> None:
    @DBOS.workflow()
    def echo(text: str) -> str:
        return text

    DBOS(config={"name": "shout", "serializer": Shouting()})
    DBOS.launch()
    with SetWorkflowID("shout"):
        echo("hey")
    row = Workflow.objects.get(pk="shout")
    assert (row.serializer, row.output) == ("shouting", "'HEY'")
    assert DBOS.get_workflow_status("shout").output == "hey"


def test_the_portable_serializer_stands_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    @DBOS.workflow(serialization_type=WorkflowSerializationFormat.PORTABLE)
    def plain() -> int:
        DBOS.set_event("a", 1, serialization_type=WorkflowSerializationFormat.NATIVE)
        return 1

    monkeypatch.setenv("DBOS__APPVERSION", "from the environment")
    monkeypatch.setenv("DBOS__VMID", "machine-7")
    DBOS(config={"name": "portable", "serializer": DBOSPortableJSONSerializer(), "application_version": "config"})
    DBOS.launch()
    with SetWorkflowID("plain"):
        plain()
    status = DBOS.get_workflow_status("plain")
    assert (status.app_version, DBOS.application_version) == ("from the environment", "from the environment")
    assert status.executor_id.startswith("machine-7-")
    assert DBOS.executor_id.startswith("machine-7-")


def test_versions_are_dicts() -> None:
    DBOS(config={"name": "versioned", "application_version": "v1"})
    DBOS.launch()
    latest = DBOS.get_latest_application_version()
    assert (latest["version_name"], type(latest["version_timestamp"])) == ("v1", int)
    assert DBOS.list_application_versions() == [latest]
    DBOS.set_latest_application_version("v1")


def test_recovery_of_another_executor_by_its_word() -> None:
    @DBOS.workflow()
    def work() -> str:
        return "done"

    DBOS.launch()
    with SetWorkflowID("lost"):
        assert work() == "done"
    lost = {"status": "PENDING", "output": None, "completed_at": None}
    Workflow.objects.filter(pk="lost").update(executor_id="vm-9-123-abc", **lost)
    assert DBOS._recover_pending_workflows(["vm-8"]) == []
    (handle,) = DBOS._recover_pending_workflows(["vm-9"])
    assert handle.get_result() == "done"
    assert handle.get_status().recovery_attempts == 2


def test_the_tables_are_emptied_for_a_test() -> None:
    @DBOS.workflow()
    def work() -> None: ...

    DBOS.launch()
    work()
    with pytest.raises(error.DBOSException, match="before launch"):
        DBOS.reset_system_database()
    DBOS.destroy()
    DBOS.reset_system_database()
    assert not Workflow.objects.exists()
    DBOS.migrate()
