"""The pool: its threads, its loop, and the connections of both."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from django_dbos import (
    Queue,
    Runtime,
    SendMessage,
    arecv,
    recv,
    send,
    send_bulk,
    start_workflow,
    step,
    workflow,
)
from django_dbos.clock import monotonic
from django_dbos.models import Step, Workflow
from django_dbos.runtime import crew
from django_dbos.runtime import pool as pool_module
from django_dbos.runtime.pool import Pool
from django_dbos.states import WorkflowStatus
from django_dbos.sysdb import journal
from django_dbos.sysdb.grouped import GroupedJournal
from django_dbos.sysdb.workflows import Claimed
from tests.models import Row
from tests.runtime.conftest import Opened, threads
from tests.support import eventually
from tests.sysdb.rows import committed, rolled_back
from tests.sysdb.rows import workflow as row

seen: list[str] = []
inside = threading.Semaphore(0)
gate = threading.Event()
POOLED = Queue("pooled")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    seen.clear()
    gate.clear()
    while inside.acquire(blocking=False):
        pass
    yield
    gate.set()


@step
def pooled_step() -> str:
    seen.append(threading.current_thread().name)
    return seen[-1]


@step
async def pooled_async_step() -> str:
    seen.append(threading.current_thread().name)
    return seen[-1]


@step
def held_in_the_pool() -> None:
    inside.release()
    gate.wait(10)


@workflow
def pooled_one_step() -> str:
    return pooled_step()


@workflow
def pooled_held() -> str:
    held_in_the_pool()
    return "done"


@workflow
def pooled_descent(depth: int) -> int:
    Workflow.objects.exists()  # a connection that is not needed while it waits
    seen.append(threading.current_thread().name)
    if depth == 0:
        held_in_the_pool()
        return 0
    return 1 + int(start_workflow(pooled_descent, depth - 1).get_result())


@workflow
async def pooled_async_steps(count: int) -> list[str]:
    return [await pooled_async_step() for _ in range(count)]


@workflow
def pooled_receiver() -> Any:
    return recv(timeout_seconds=30)


@workflow
async def pooled_async_crowd(count: int) -> list[Any]:
    return await asyncio.gather(*(arecv(str(number), timeout_seconds=30) for number in range(count)))


@workflow
async def pooled_async_orm_receiver() -> list[int]:
    before = await Row.objects.acount()
    await arecv(timeout_seconds=30)
    return [before, await Row.objects.acount()]


@workflow
async def pooled_async_quitter() -> None:
    for task in [asyncio.ensure_future(pooled_async_step()) for _ in range(8)]:
        await asyncio.sleep(0)
        task.cancel()


@workflow
async def pooled_async_orm(name: str) -> int:
    await Row.objects.acreate(name=name)
    return await Row.objects.acount()


@committed
def test_threads_are_used_again_and_each_keeps_its_connection_while_there_is_work(opened: Opened) -> None:
    with Runtime(concurrency=2):
        handles = [start_workflow(pooled_one_step) for _ in range(40)]
        for handle in handles:
            handle.get_result(timeout=20)
    assert len(seen) == 40
    assert all(name.startswith("dbos-worker-") for name in seen)
    # Two slots; a thread may still be on its way back when the next workflow comes.
    assert len(set(seen)) <= 6, sorted(set(seen))


@committed
@pytest.mark.usefixtures("inline_journal")
def test_a_thread_that_has_nothing_to_do_holds_no_connection(opened: Opened) -> None:
    with Runtime(concurrency=4):
        for handle in [start_workflow(pooled_one_step) for _ in range(8)]:
            handle.get_result(timeout=20)
        assert opened.by("dbos-worker")
        eventually(lambda: not opened.still_open("dbos-worker"))
        assert threads("dbos-worker"), "the threads are kept for a while"
        assert start_workflow(pooled_one_step).get_result(timeout=10)
    assert not opened.still_open("dbos-")
    assert not threads("dbos-")


@committed
def test_a_thread_without_work_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_IDLE", 0.02)
    with Runtime():
        for _ in range(3):
            start_workflow(pooled_one_step).get_result(timeout=10)
            eventually(lambda: not threads("dbos-worker"))


@committed
def test_more_threads_than_slots_run_while_some_wait_for_others() -> None:
    depth = 6
    with override_settings(DBOS={"POLL_INTERVAL": 0.05}), Runtime(concurrency=1):
        handle = start_workflow(pooled_descent, depth)
        assert inside.acquire(timeout=10), "parents that wait have starved their child"
        assert len(set(seen)) == depth + 1, "each has a thread of its own"
        assert len(threads("dbos-worker")) >= depth + 1
        gate.set()
        assert handle.get_result(timeout=10) == depth


@committed
def test_no_more_run_at_a_time_than_there_are_slots() -> None:
    with Runtime(concurrency=3):
        handles = [start_workflow(pooled_held) for _ in range(9)]
        for _ in range(3):
            assert inside.acquire(timeout=10)
        assert not inside.acquire(timeout=0.1)
        assert Workflow.objects.pending().count() == 3
        gate.set()
        assert [handle.get_result(timeout=10) for handle in handles] == ["done"] * 9


@committed
def test_who_waits_hands_its_connection_on_and_holds_none(opened: Opened) -> None:
    with Runtime(concurrency=2):
        handle = start_workflow(pooled_descent, 5)
        assert inside.acquire(timeout=10)
        eventually(lambda: opened.still_open("dbos-worker") <= 1)
        gate.set()
        assert handle.get_result(timeout=10) == 5
    assert not opened.still_open("dbos-")


@committed
def test_many_that_wake_up_at_once_open_no_more_connections_than_there_are_slots(opened: Opened) -> None:
    with Runtime(concurrency=3):
        handles = [start_workflow(pooled_receiver) for _ in range(60)]
        eventually(lambda: Step.objects.filter(name="DBOS.sleep").count() == 60, 20)
        eventually(lambda: not opened.still_open("dbos-worker"))
        before, peak = len(opened.by("dbos-worker")), 0
        send_bulk([SendMessage(handle.workflow_id, "go") for handle in handles])
        for handle in handles:
            peak = max(peak, opened.still_open("dbos-worker"))
            assert handle.get_result(timeout=20) == "go"
        assert peak <= 3
        assert len(opened.by("dbos-worker")) - before < 60, "those that wake up do not each open one"
        eventually(lambda: not opened.still_open("dbos-worker"))


@committed
def test_an_async_body_that_used_the_orm_holds_no_connection_while_it_waits(opened: Opened) -> None:
    with Runtime():
        handle = start_workflow(pooled_async_orm_receiver)
        eventually(lambda: Step.objects.filter(name="DBOS.sleep").exists())
        eventually(lambda: opened.by("ThreadPoolExecutor") and not opened.still_open("ThreadPoolExecutor"))
        send(handle.workflow_id, "go")
        assert handle.get_result(timeout=10) == [0, 0]


@committed
def test_an_async_workflow_has_one_slot_or_none_however_many_of_its_operations_wait() -> None:
    with Runtime(concurrency=2) as runtime:
        handle = start_workflow(pooled_async_crowd, 8)
        eventually(lambda: Step.objects.filter(name="DBOS.sleep").count() == 8)
        eventually(lambda: runtime._pool.slots.free == 2)
        send_bulk([SendMessage(handle.workflow_id, "go", str(number)) for number in range(8)])
        assert handle.get_result(timeout=10) == ["go"] * 8
        eventually(lambda: runtime._pool.slots.free == 2)


@committed
def test_a_runtime_that_stops_right_after_a_start_waits_for_nobody() -> None:
    for _ in range(5):
        with Runtime(queues=[]) as runtime:
            handle = start_workflow(pooled_async_crowd, 1)
            begun = monotonic()
            assert runtime.stop()
            assert monotonic() - begun < 10
        handle.get_status().delete()


@committed
def test_cancelled_tasks_leave_no_connection_behind(opened: Opened) -> None:
    for _ in range(5):
        with Runtime():
            assert start_workflow(pooled_async_quitter).get_result(timeout=10) is None
        assert not opened.still_open("dbos-")


@committed
@pytest.mark.usefixtures("inline_journal")
def test_async_workflows_share_one_loop_and_a_few_database_threads(opened: Opened) -> None:
    with Runtime(concurrency=20):
        handles = [start_workflow(pooled_async_steps, 3) for _ in range(20)]
        for handle in handles:
            assert handle.get_result(timeout=20) == ["dbos-loop"] * 3
        names = {name for name, _ in opened.connections if name.startswith("dbos-crew")}
        assert 1 <= len(names) <= crew.SIZE
        assert not threads("dbos-worker")
        assert len(threads("dbos-loop")) == 1
    assert not opened.still_open("dbos-")
    assert not threads("dbos-")


@committed
def test_the_connection_of_an_async_workflows_own_orm_thread_is_closed_with_it(opened: Opened) -> None:
    with Runtime(concurrency=10):
        handles = [start_workflow(pooled_async_orm, f"row {number}") for number in range(10)]
        for handle in handles:
            handle.get_result(timeout=20)
        own = [name for name, _ in opened.connections if name.startswith("ThreadPoolExecutor")]
        assert len(own) >= 10, "the body of each has used the ORM"
        eventually(lambda: not opened.still_open("ThreadPoolExecutor"))
    assert Row.objects.count() == 10


@committed
@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has the grouped journal")
def test_with_the_grouped_journal_threads_need_no_connection_for_what_they_record(opened: Opened) -> None:
    with Runtime(concurrency=4):
        for handle in [start_workflow(pooled_one_step) for _ in range(8)]:
            handle.get_result(timeout=20)
        for other in [start_workflow(pooled_async_steps, 3) for _ in range(8)]:
            other.get_result(timeout=20)
        assert not opened.by("dbos-worker")
        assert not opened.by("dbos-database")


@committed
@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has the grouped journal")
def test_the_event_loop_never_writes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    leaders: set[str] = set()
    lead = GroupedJournal._lead

    def noting(self: GroupedJournal) -> bool:
        leaders.add(threading.current_thread().name)
        return lead(self)

    monkeypatch.setattr(GroupedJournal, "_lead", noting)
    with Runtime():
        for handle in [start_workflow(pooled_async_steps, 3) for _ in range(8)]:
            handle.get_result(timeout=20)
    assert leaders
    assert "dbos-loop" not in leaders


@committed
def test_a_runtime_may_be_stopped_twice() -> None:
    with Runtime() as runtime:
        start_workflow(pooled_async_steps, 1).get_result(timeout=10)
        start_workflow(pooled_one_step).get_result(timeout=10)
        assert runtime.stop()
    assert not threads("dbos-")


# ---- one pool by itself


def new_pool(concurrency: int = 2) -> Pool:
    return Pool(executor_id="me", concurrency=concurrency, journal=journal.inline)


def claimed(workflow_id: str = "w") -> Claimed:
    return Claimed(
        id=workflow_id,
        name="pooled_one_step",
        inputs="",
        serializer="json",
        executor_id="me",
        epoch=1,
        attempts=1,
        queue_name="pooled",
    )


def test_many_threads_that_bring_jobs_at_once_leave_none_lying(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(pool_module, "_IDLE", 0.001)
    monkeypatch.setattr(Pool, "_run", lambda self, job: ran.append(job.claimed.id))
    pool = new_pool()

    def bring(name: str) -> None:
        for number in range(300):
            pool.submit(claimed(f"{name}-{number}"), {})

    bringers = [threading.Thread(target=bring, args=(name,)) for name in "abcd"]
    for bringer in bringers:
        bringer.start()
    for bringer in bringers:
        bringer.join(20)
    eventually(lambda: len(ran) == 1200)
    assert len(set(ran)) == 1200
    pool.stop()
    assert pool.join(10)


def test_a_pool_has_no_more_threads_than_it_ever_had_jobs_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    at_a_time = 4
    slots = threading.Semaphore(at_a_time)
    monkeypatch.setattr(Pool, "_run", lambda self, job: slots.release())
    pool = new_pool()
    for number in range(500):
        slots.acquire()
        pool.submit(claimed(f"w{number}"), {})
    # A thread that is just going back to wait is not there yet for the next job.
    assert len(pool._threads) <= 2 * at_a_time
    pool.stop()
    assert pool.join(10)


@rolled_back
def test_what_is_claimed_while_the_pool_stops_is_handed_back_at_once() -> None:
    row("w", WorkflowStatus.PENDING, executor_id="me", epoch=1, attempts=1)
    pool = new_pool()
    assert pool.slots.take_one()
    pool.stop()
    pool.submit(claimed(), {})
    after = Workflow.objects.get()
    assert (after.status, after.executor_id, after.attempts) == (WorkflowStatus.ENQUEUED, "", 0)
    assert pool.running_in("pooled") == 0
    assert pool.join(10)


@committed
def test_how_many_of_a_queue_run_here_is_known() -> None:
    with Runtime(queues=["pooled"]) as runtime:
        handles = [POOLED.enqueue(pooled_held) for _ in range(3)]
        for _ in range(3):
            assert inside.acquire(timeout=10)
        assert runtime._pool.running_in("pooled") == 3
        assert runtime._pool.running_in("another") == 0
        gate.set()
        for handle in handles:
            handle.get_result(timeout=10)
        eventually(lambda: runtime._pool.running_in("pooled") == 0)
    assert runtime._pool._running == {}
