"""The tools for a project's own tests."""

import asyncio
import socket
import threading
import tomllib
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import entry_points
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import IntegrityError, connection
from django.db.transaction import atomic
from django.test import TestCase

from django_dbos import (
    Queue,
    SetEnqueueOptions,
    SetWorkflowID,
    SetWorkflowTimeout,
    WorkflowHandle,
    asleep,
    astart_workflow,
    cancel_workflow,
    enqueue_many,
    recv,
    retrieve_workflow,
    send,
    sleep,
    start_workflow,
    step,
    transaction,
    workflow,
    workflow_id,
)
from django_dbos import models as system
from django_dbos.exceptions import (
    AwaitedWorkflowCancelled,
    BlockingCall,
    DirectCallInTransaction,
    InvalidOption,
    WouldWaitForever,
)
from django_dbos.models import Executor, Workflow
from django_dbos.testing import (
    DBOSTestMixin,
    arecover,
    arun_until_idle,
    clock,
    conducted,
    crash_at,
    inline,
    recover,
    run_until_idle,
)
from tests.models import Row
from tests.support import ROOT, run_python

line = Queue("testing")
closed = Queue("testing-closed")
single = Queue("testing-single", global_concurrency=1)
ran: list[str] = []
threads: set[int] = set()


@pytest.fixture(autouse=True)
def forget() -> None:
    ran.clear()
    threads.clear()


@pytest.fixture
def gate(db: None) -> Callable[[], int]:
    """The queue ``closed`` is paused; called, it lets go what is on it."""
    system.Queue.objects.create(name="testing-closed", is_paused=True)
    return lambda: system.Queue.objects.update(is_paused=False)


def status(handle: WorkflowHandle[Any]) -> str:
    return handle.get_status().status


@step(name="testing.note")
def note(text: str) -> str:
    threads.add(threading.get_ident())
    ran.append(text)
    return text


@transaction(name="testing.write")
def write(text: str) -> str:
    Row.objects.create(name=text)
    return text


@workflow(name="testing.child")
def child(text: str) -> str:
    return note(text)


@workflow(name="testing.parent")
def parent(*texts: str) -> list[str]:
    handles = [line.enqueue(child, text) for text in texts]
    return [handle.get_result() for handle in handles]


@workflow(name="testing.gated")
def gated(text: str) -> str:
    note(f"{text} begins")
    return closed.enqueue(child, text).get_result()


@workflow(name="testing.caller")
def caller(text: str) -> str:
    return write(gated(text))


@workflow(name="testing.two_steps")
def two_steps(text: str) -> str:
    note(text)
    return write(text)


# ---- run_until_idle ------------------------------------------------------------------------------------------


@pytest.mark.django_db
class TestRunUntilIdle:
    """Everything that can run does, on the test's own connection."""

    def test_runs_what_was_started_and_what_that_starts(self) -> None:
        handle = start_workflow(parent, "a", "b")
        assert run_until_idle() == 3
        assert handle.get_result() == ["a", "b"]
        assert run_until_idle() == 0
        assert threading.get_ident() not in threads

    def test_rows_of_the_test_and_of_bodies_are_in_one_transaction(self) -> None:
        assert connection.in_atomic_block
        handle = start_workflow(two_steps, "row")
        run_until_idle()
        assert handle.get_result() == "row"
        assert Row.objects.get().name == "row"

    def test_what_waits_stays_pending_and_goes_on_from_its_last_step(self, gate: Callable[[], int]) -> None:
        handle = start_workflow(gated, "x")
        assert run_until_idle() == 0
        assert run_until_idle() == 0
        assert status(handle) == "PENDING"
        gate()
        assert run_until_idle() == 2
        assert handle.get_result() == "x"
        assert ran == ["x begins", "x"]

    def test_a_body_that_called_another_which_waits_goes_on_too(self, gate: Callable[[], int]) -> None:
        handle = start_workflow(caller, "x")
        run_until_idle()
        assert Workflow.objects.pending().count() == 2
        gate()
        run_until_idle()
        assert handle.get_result() == "x"
        assert ran == ["x begins", "x"]

    def test_one_that_waits_holds_up_no_other(self, gate: Callable[[], int]) -> None:
        waiting, other = start_workflow(gated, "x"), start_workflow(parent, "y")
        run_until_idle()
        assert (status(waiting), status(other)) == ("PENDING", "SUCCESS")

    def test_one_that_waits_notices_that_it_was_cancelled(self, gate: Callable[[], int]) -> None:
        @workflow(name="testing.cancels")
        def cancels(target: str) -> bool:
            return cancel_workflow(target)

        handle = start_workflow(gated, "x")
        run_until_idle()
        start_workflow(cancels, handle.workflow_id)
        run_until_idle()
        assert status(handle) == "CANCELLED"
        with pytest.raises(AwaitedWorkflowCancelled):
            handle.get_result()

    def test_a_step_may_wait(self, gate: Callable[[], int]) -> None:
        @step(name="testing.waits")
        def waits(awaited: str) -> str:
            return str(retrieve_workflow(awaited).get_result())

        @workflow(name="testing.waits_in_step")
        def waits_in_step(awaited: str) -> str:
            return waits(awaited)

        with SetWorkflowID("awaited"):
            closed.enqueue(child, "x")
        handle = start_workflow(waits_in_step, "awaited")
        run_until_idle()
        assert status(handle) == "PENDING"
        gate()
        run_until_idle()
        assert handle.get_result() == "x"

    def test_limits_hold(self) -> None:
        @workflow(name="testing.counts")
        def counts() -> int:
            return Workflow.objects.pending().in_queue("testing-single").count()

        system.Queue.objects.create(name="testing-single", declared=single.limits)
        handles = [single.enqueue(counts) for _ in range(3)]
        assert run_until_idle() == 3
        assert [handle.get_result() for handle in handles] == [1, 1, 1]
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SHOW idle_in_transaction_session_timeout")
                assert cursor.fetchone() == ("0",), "a debugger in a test would lose its connection"

    def test_attempts_follow_each_other_without_a_pause(self) -> None:
        @step(name="testing.fails_twice", retries_allowed=True, interval_seconds=3600)
        def fails_twice() -> int:
            ran.append("attempt")
            if len(ran) < 3:
                raise ValueError
            return len(ran)

        @workflow(name="testing.retries")
        def retries() -> int:
            return fails_twice()

        handle = start_workflow(retries)
        run_until_idle()
        assert handle.get_result() == 3

    def test_a_statement_that_fails_spoils_nothing_else(self) -> None:
        @step(name="testing.insert")
        def insert(pk: int) -> None:
            Row.objects.create(pk=pk, name="mine")

        @workflow(name="testing.inserts")
        def inserts(pk: int) -> str:
            try:
                insert(pk)
            except IntegrityError:
                return write("another")
            return "inserted"

        row = Row.objects.create(name="first")
        handle = start_workflow(inserts, row.pk)
        run_until_idle()
        assert handle.get_result() == "another"
        assert sorted(Row.objects.values_list("name", flat=True)) == ["another", "first"]

    def test_options_around_the_call_are_not_the_bodies(self) -> None:
        @workflow(name="testing.starts")
        def starts() -> str:
            return start_workflow(child, "x").workflow_id

        handle = start_workflow(starts)
        with SetWorkflowID("mine"):
            run_until_idle()
        assert handle.get_result() == f"{handle.workflow_id}-1"

    def test_refused_inside_atomic(self) -> None:
        with atomic(), pytest.raises(DirectCallInTransaction, match="leave the block"):
            run_until_idle()

    def test_refused_inside_a_workflow(self) -> None:
        @workflow(name="testing.recursive")
        def recursive() -> int:
            return run_until_idle()

        handle = start_workflow(recursive)
        run_until_idle()
        with pytest.raises(DirectCallInTransaction, match="already"):
            handle.get_result()

    def test_refused_on_an_event_loop(self) -> None:
        async def on_loop() -> None:
            run_until_idle()

        with pytest.raises(BlockingCall):
            asyncio.run(on_loop())


@pytest.mark.django_db(transaction=True)
def test_works_without_a_test_transaction() -> None:
    handle, ahandle = start_workflow(parent, "a"), start_workflow(aparent, "b")
    assert run_until_idle() == 4
    assert handle.get_result() == ["a"]
    assert ahandle.get_result() == ["b"]


# ---- async ---------------------------------------------------------------------------------------------------


@step(name="testing.anote")
async def anote(text: str) -> str:
    timer = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, timer.set)
    await timer.wait()
    ran.append(text)
    return await asyncio.to_thread(str, text)


@workflow(name="testing.achild")
async def achild(text: str) -> str:
    return await anote(text)


@workflow(name="testing.aparent")
async def aparent(*texts: str) -> list[str]:
    handles = [await line.aenqueue(achild, text) for text in texts]
    await sync_to_async(write)("parent")
    return list(await asyncio.gather(*(handle.aget_result() for handle in handles)))


@workflow(name="testing.agated")
async def agated(text: str) -> str:
    await anote(f"{text} begins")
    handle = await closed.aenqueue(achild, text)
    return await handle.aget_result()


@pytest.mark.django_db
class TestAsync:
    """Async bodies share one event loop, and the test's connection with all others."""

    def test_runs_what_was_started_and_what_that_starts(self) -> None:
        handle = start_workflow(aparent, "a", "b", "c")
        assert run_until_idle() == 4
        assert handle.get_result() == ["a", "b", "c"]
        assert Row.objects.get().name == "parent"

    def test_what_waits_stays_pending_and_goes_on_from_its_last_step(self, gate: Callable[[], int]) -> None:
        handle, other = start_workflow(agated, "x"), start_workflow(aparent, "y")
        run_until_idle()
        assert (status(handle), status(other)) == ("PENDING", "SUCCESS")
        gate()
        run_until_idle()
        assert handle.get_result() == "x"
        assert ran.count("x begins") == 1

    def test_a_body_that_waits_for_something_of_its_own_is_abandoned_too(self) -> None:
        @workflow(name="testing.never")
        async def never() -> None:
            await anote("once")
            await asyncio.Event().wait()

        handle = start_workflow(never)
        run_until_idle()
        run_until_idle()
        assert status(handle) == "PENDING"
        assert ran == ["once"]

    def test_an_open_connection_is_nothing_to_wait_for(self, gate: Callable[[], int]) -> None:
        ours, theirs = socket.socketpair()

        @step(name="testing.connect")
        async def connect() -> str:
            loop = asyncio.get_running_loop()
            answered = asyncio.Event()
            loop.add_reader(ours, answered.set)
            threading.Timer(0.3, theirs.send, [b"hello"]).start()  # longer than the loop waits where it need not
            await answered.wait()
            return ours.recv(10).decode()

        @workflow(name="testing.connects")
        async def connects() -> str:
            text = await connect()
            handle = await closed.aenqueue(achild, text)
            return await handle.aget_result()

        with ours, theirs:
            handle = start_workflow(connects)
            run_until_idle()
            assert status(handle) == "PENDING"
            assert run_until_idle() == 0
        gate()
        run_until_idle()
        assert handle.get_result() == "hello"

    def test_sync_and_async_bodies_call_each_other(self) -> None:
        @workflow(name="testing.sync_calls")
        def sync_calls() -> list[str]:
            return async_to_sync(aparent)("a", "b")

        @workflow(name="testing.async_calls")
        async def async_calls() -> list[str]:
            return await sync_to_async(parent)("c", "d")

        handles = [start_workflow(sync_calls), start_workflow(async_calls)]
        run_until_idle()
        assert [handle.get_result() for handle in handles] == [["a", "b"], ["c", "d"]]

    def test_async_transactions(self) -> None:
        @transaction(name="testing.awrite")
        async def awrite(text: str) -> str:
            await Row.objects.acreate(name=text)
            return text

        @workflow(name="testing.awrites")
        async def awrites() -> str:
            return await awrite("a")

        handle = start_workflow(awrites)
        run_until_idle()
        assert handle.get_result() == "a"
        assert Row.objects.get().name == "a"

    def test_from_an_async_test(self) -> None:
        async def body() -> None:
            handle = await astart_workflow(aparent, "a")
            assert await arun_until_idle() == 2
            assert await handle.aget_result() == ["a"]
            with conducted():
                later = await astart_workflow(achild, "b")
                assert await later.aget_result() == "b"
            with inline():
                assert (await (await astart_workflow(parent, "c")).aget_status()).status == "SUCCESS"

        async_to_sync(body)()

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_crash(self, when: str) -> None:
        handle = start_workflow(aparent, "a")
        with crash_at("testing.anote", when=when):  # type: ignore[arg-type]
            run_until_idle()
        assert Workflow.objects.pending().count() == 2
        assert async_to_sync(arecover)() == 1
        run_until_idle()
        assert handle.get_result() == ["a"]
        assert ran == ["a"] * (2 if when == "after" else 1)


# ---- crash_at and recover ------------------------------------------------------------------------------------


@pytest.mark.django_db
class TestCrashAt:
    """An execution dies at a step, and the next one goes on from the last that had finished."""

    def test_before_a_step(self) -> None:
        handle = start_workflow(two_steps, "x")
        with crash_at("testing.note"):
            run_until_idle()
        assert status(handle) == "PENDING"
        assert ran == []

    def test_after_a_step_it_runs_again(self) -> None:
        handle = start_workflow(two_steps, "x")
        with crash_at("testing.note", when="after"):
            run_until_idle()
        recover()
        run_until_idle()
        assert handle.get_result() == "x"
        assert ran == ["x", "x"]

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_at_a_transaction_nothing_of_it_is_left(self, when: str) -> None:
        handle = start_workflow(two_steps, "x")
        with crash_at(2, when=when):  # type: ignore[arg-type]
            run_until_idle()
        assert not Row.objects.exists()
        assert recover() == 1
        run_until_idle()
        assert handle.get_result() == "x"
        assert (ran, Row.objects.count()) == (["x"], 1)

    def test_a_direct_call_ends_the_block(self) -> None:
        with SetWorkflowID("called"), crash_at("testing.write"):
            two_steps("x")
            ran.append("never")  # type: ignore[unreachable, unused-ignore]
        row = Workflow.objects.get(pk="called")
        assert row.status == "PENDING"
        assert Executor.objects.get(pk=row.executor_id).state == "running"
        assert recover() == 1
        run_until_idle()
        assert retrieve_workflow("called").get_result() == "x"
        assert ran == ["x"]

    def test_those_who_called_it_die_with_it(self) -> None:
        @workflow(name="testing.calls_two_steps")
        def calls_two_steps() -> str:
            return two_steps("x")

        handle = start_workflow(calls_two_steps)
        with crash_at("testing.write"):
            run_until_idle()
        assert recover() == 2
        run_until_idle()
        assert handle.get_result() == "x"
        assert ran == ["x"]

    def test_others_go_on(self) -> None:
        first, second = start_workflow(two_steps, "x"), start_workflow(two_steps, "y")
        with crash_at("testing.write"):
            run_until_idle()
        assert {status(first), status(second)} == {"PENDING", "SUCCESS"}

    def test_only_the_workflow_that_is_meant(self) -> None:
        first, second = start_workflow(child, "x"), start_workflow(two_steps, "y")
        with crash_at("testing.note", "testing.two_steps"):
            run_until_idle()
        assert (status(first), status(second)) == ("SUCCESS", "PENDING")

    def test_a_body_that_catches_it_writes_nothing(self) -> None:
        @workflow(name="testing.stubborn")
        def stubborn() -> str:
            try:
                return note("x")
            except BaseException:
                return "survived"

        handle = start_workflow(stubborn)
        with crash_at("testing.note"):
            run_until_idle()
        assert status(handle) == "PENDING"

    def test_twice(self) -> None:
        handle = start_workflow(two_steps, "x")
        for name in ("testing.note", "testing.write"):
            with crash_at(name):
                run_until_idle()
            recover()
        run_until_idle()
        assert handle.get_result() == "x"
        assert handle.get_status().attempts == 3

    def test_nobody_came(self) -> None:
        start_workflow(two_steps, "x")
        with pytest.raises(AssertionError, match="came to step 'testing-write'"), crash_at("testing-write"):
            run_until_idle()

    def test_other_errors_pass(self) -> None:
        with pytest.raises(KeyError), crash_at("testing.write"):
            raise KeyError

    def test_when_is_checked(self) -> None:
        with pytest.raises(InvalidOption, match='"before" or "after"'):
            crash_at("testing.write", when="later")  # type: ignore[arg-type]

    def test_recover_leaves_the_living_alone(self, gate: Callable[[], int]) -> None:
        start_workflow(gated, "x")
        run_until_idle()
        assert recover() == 0


# ---- inline and conducted ------------------------------------------------------------------------------------


@workflow(name="testing.starts_child")
def starts_child(text: str) -> list[str]:
    started = start_workflow(starts_grandchild, text)
    return [started.get_status().status, note("parent")]


@workflow(name="testing.starts_grandchild")
def starts_grandchild(text: str) -> str:
    line.enqueue(child, text)
    return note("middle")


@workflow(name="testing.astarts_child")
async def astarts_child(text: str) -> str:
    await line.aenqueue(achild, text)
    return await anote("parent")


@pytest.mark.django_db
class TestInline:
    """Whoever starts something finds it done."""

    def test_at_once(self) -> None:
        with inline():
            handle = start_workflow(child, "a")
            assert ran == ["a"]
            line.enqueue(child, "b")
            assert ran == ["a", "b"]
        start_workflow(child, "c")
        assert handle.get_result() == "a"
        assert ran == ["a", "b"]

    def test_many_at_once(self) -> None:
        with inline():
            enqueue_many(line, child, [("a",), ("b",)])
        assert sorted(ran) == ["a", "b"]

    def test_children_too_in_the_order_of_calls(self) -> None:
        with inline():
            handle = start_workflow(starts_child, "child")
        assert handle.get_result() == ["SUCCESS", "parent"]
        assert ran == ["child", "middle", "parent"]

    def test_children_of_async_workflows(self) -> None:
        with inline():
            start_workflow(astarts_child, "child")
        assert ran == ["child", "parent"]

    def test_children_of_direct_calls(self) -> None:
        with inline():
            assert starts_child("child") == ["SUCCESS", "parent"]
        assert ran == ["child", "middle", "parent"]

    def test_what_waits_stays_pending(self, gate: Callable[[], int]) -> None:
        with inline():
            handle = start_workflow(gated, "x")
            assert status(handle) == "PENDING"
            gate()
            assert handle.get_result() == "x"

    @inline()
    def test_as_a_decorator(self) -> None:
        start_workflow(child, "a")
        assert ran == ["a"]

    def test_as_a_decorator_of_an_async_function(self) -> None:
        @inline()
        async def body() -> None:
            await astart_workflow(achild, "a")
            assert ran == ["a"]

        async_to_sync(body)()

    def test_inside_atomic_after_the_commit(self) -> None:
        with inline(), TestCase.captureOnCommitCallbacks(execute=True), atomic():
            start_workflow(child, "a")
            assert ran == []
        assert ran == ["a"]

    def test_a_transaction_may_start_something(self) -> None:
        @transaction(name="testing.starts_in_transaction")
        def starts_in_transaction() -> str:
            return start_workflow(child, "a").workflow_id

        @workflow(name="testing.transactional")
        def transactional() -> str:
            return starts_in_transaction()

        with inline():
            started = start_workflow(transactional).get_result()
        assert retrieve_workflow(started).get_result() == "a"

    def test_a_crash(self) -> None:
        with inline():
            with crash_at("testing.write"):
                handle = start_workflow(two_steps, "x")
            assert status(handle) == "PENDING"
            recover()
            assert handle.get_result() == "x"


@pytest.mark.django_db
class TestConducted:
    """No wait blocks the test."""

    def test_waiting_runs_the_others(self) -> None:
        with conducted():
            assert start_workflow(parent, "a").get_result() == ["a"]
            assert parent("b") == ["b"]

    def test_a_wait_without_end(self, gate: Callable[[], int]) -> None:
        with conducted():
            handle = start_workflow(gated, "x")
            with pytest.raises(WouldWaitForever, match="Nothing is left to run"):
                handle.get_result()
            gate()
            assert handle.get_result() == "x"

    def test_a_direct_call_without_end_goes_on_later(self, gate: Callable[[], int]) -> None:
        with conducted():
            with SetWorkflowID("called"), pytest.raises(WouldWaitForever):
                caller("x")
            assert Workflow.objects.pending().count() == 2
            gate()
            assert retrieve_workflow("called").get_result() == "x"
        assert ran == ["x begins", "x"]

    def test_attempts_of_a_direct_call_follow_without_a_pause(self) -> None:
        @step(name="testing.fails_once", retries_allowed=True, interval_seconds=3600)
        def fails_once() -> int:
            ran.append("attempt")
            if len(ran) < 2:
                raise ValueError
            return len(ran)

        @workflow(name="testing.retries_once")
        def retries_once() -> int:
            return fails_once()

        with conducted():
            assert retries_once() == 2


class TestMixin(DBOSTestMixin, TestCase):
    """For unittest."""

    def test_the_tools(self) -> None:
        handle = start_workflow(two_steps, "x")
        with self.dbos.crash_at("testing.write"):
            self.dbos.run_until_idle()
        self.dbos.recover()
        assert handle.get_result() == "x"

    def test_nothing_is_left_of_other_tests(self) -> None:
        assert not Workflow.objects.exists()

    async def test_async(self) -> None:
        handle = await astart_workflow(aparent, "x")
        assert await handle.aget_result() == ["x"]
        assert await aparent("y") == ["y"]


# ---- the clock -----------------------------------------------------------------------------------------------


@workflow(name="testing.sleeps")
def sleeps(text: str) -> str:
    sleep(3600)
    return note(text)


@workflow(name="testing.asleeps")
async def asleeps(text: str) -> str:
    await asleep(3600)
    return await anote(text)


@workflow(name="testing.receives")
def receives() -> Any:
    return recv(timeout_seconds=60)


@workflow(name="testing.answers")
def answers() -> None:
    sender = recv("question")
    send(sender, "pong", "answer")


@workflow(name="testing.asks")
def asks() -> Any:
    child = start_workflow(answers)
    send(child.workflow_id, workflow_id(), "question")
    return recv("answer")


@pytest.mark.django_db
class TestClock:
    """What is recorded moves into the past."""

    def test_every_moment_is_longer_ago(self) -> None:
        start_workflow(child, "x")
        run_until_idle()
        row = Workflow.objects.get()
        completed = row.steps.get().completed_at
        clock.advance(3600)
        async_to_sync(clock.aadvance)(timedelta(minutes=1))
        moved = Workflow.objects.get()
        assert row.created_at - moved.created_at == timedelta(seconds=3660)
        assert moved.deadline is None
        assert moved.steps.get().completed_at == (completed and completed - timedelta(seconds=3660))

    def test_sleep(self) -> None:
        handle, ahandle = start_workflow(sleeps, "x"), start_workflow(asleeps, "y")
        run_until_idle()
        clock.advance(3000)
        run_until_idle()
        assert (status(handle), status(ahandle)) == ("PENDING", "PENDING")
        clock.advance(601)
        assert run_until_idle() == 2
        assert (handle.get_result(), ahandle.get_result()) == ("x", "y")
        assert ran == ["x", "y"]

    def test_a_message_comes_before_the_time_is_over(self) -> None:
        handle = start_workflow(receives)
        run_until_idle()
        clock.advance(59)
        send(handle.workflow_id, "hello")
        run_until_idle()
        assert handle.get_result() == "hello"

    def test_the_time_for_a_message_is_over(self) -> None:
        handle = start_workflow(receives)
        run_until_idle()
        clock.advance(61)
        run_until_idle()
        assert handle.get_result() is None

    def test_a_delay_is_over(self) -> None:
        with SetEnqueueOptions(delay_seconds=3600):
            handle = line.enqueue(child, "x")
        run_until_idle()
        assert status(handle) == "DELAYED"
        clock.advance(3601)
        run_until_idle()
        assert handle.get_result() == "x"

    def test_a_deadline_passes(self) -> None:
        with SetWorkflowTimeout(600):
            handle = start_workflow(sleeps, "x")
        run_until_idle()
        assert status(handle) == "PENDING"
        clock.advance(601)
        run_until_idle()
        assert status(handle) == "CANCELLED"

    def test_bodies_talk_to_each_other(self) -> None:
        handle = start_workflow(asks)
        run_until_idle()
        assert handle.get_result() == "pong"

    def test_executors_stay_alive(self) -> None:
        row = Executor.objects.create(id="alive", pid=1)
        clock.advance(timedelta(days=1))
        assert Executor.objects.get().heartbeat_at == row.heartbeat_at

    def test_forward_only(self) -> None:
        with pytest.raises(InvalidOption, match="forward only"):
            clock.advance(-1)


# ---- the plugin for pytest -----------------------------------------------------------------------------------

PLUGIN = "django_dbos.pytest_plugin"

EXAMPLE = """
import pytest
from django_dbos import Queue, start_workflow, step, workflow

@step
def note(text):
    return text

@workflow
def told(text):
    return note(text)

def test_fixture(dbos):
    handle = start_workflow(told, "x")
    with dbos.crash_at("note"):
        dbos.run_until_idle()
    assert dbos.recover() == 1
    assert handle.get_result() == "x"

@pytest.mark.django_db(transaction=True)
def test_fixture_without_a_transaction(dbos, django_db_blocker):
    from django.db import connection
    assert not connection.in_atomic_block
    with dbos.inline():
        assert start_workflow(told, "y").get_status().status == "SUCCESS"
    dbos.clock.advance(1)
"""


def test_the_fixture_of_the_plugin(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DBOS_TEST_SQLITE", str(pytester.path / "db"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(EXAMPLE)
    installed = {entry.value for entry in entry_points(group="pytest11")}
    plugin = [] if PLUGIN in installed else ["-p", PLUGIN]
    result = pytester.runpytest_subprocess("--ds=tests.settings", "-p", "no:randomly", *plugin)
    result.assert_outcomes(passed=2)


def test_the_plugin_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"django_dbos": PLUGIN}


def test_the_plugin_imports_nothing_of_ours_before_it_is_used() -> None:
    done = run_python("-c", f"import sys, {PLUGIN}; print(*(name for name in sys.modules if 'django' in name))")
    assert done.stdout.split() == ["django_dbos", PLUGIN]
