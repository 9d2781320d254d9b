"""Queues: declared, enqueued on, bounded."""

import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from django_dbos import Queue, Runtime, SetEnqueueOptions, SetWorkflowID, step, workflow
from django_dbos.exceptions import DuplicateRegistration, InvalidOption
from django_dbos.models import Queue as QueueRow
from django_dbos.models import Workflow
from django_dbos.states import WorkflowStatus
from tests.support import eventually

database = pytest.mark.django_db(transaction=True)

PLAIN = Queue("plain")
NARROW = Queue("narrow", worker_concurrency=2)
SINGLE = Queue("single", global_concurrency=1)


class Gauge:
    """How many run at a time, and how many did at most."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.order: list[Any] = []
        self.running = 0
        self.peak = 0

    def enter(self, value: Any) -> None:
        with self.lock:
            self.running += 1
            self.peak = max(self.peak, self.running)
            self.order.append(value)
        self.gate.wait(10)
        with self.lock:
            self.running -= 1


gauge = Gauge()


@pytest.fixture(autouse=True)
def new_gauge() -> None:
    global gauge
    gauge = Gauge()


@step
def measured(value: Any) -> None:
    gauge.enter(value)


@workflow
def measuring(value: Any) -> Any:
    measured(value)
    return value


@database
def test_an_enqueued_workflow_waits_on_its_queue_until_a_worker_takes_it() -> None:
    gauge.gate.set()
    handle = PLAIN.enqueue(measuring, "x")
    row = handle.get_status()
    assert (row.status, row.queue_name, row.attempts) == (WorkflowStatus.ENQUEUED, "plain", 0)
    with Runtime():
        assert handle.get_result(timeout=10) == "x"
    row = handle.get_status()
    assert (row.queue_name, row.attempts, row.epoch) == ("plain", 1, 1)


@database
def test_the_async_twin_enqueues_too() -> None:
    gauge.gate.set()

    async def client() -> Any:
        handle = await PLAIN.aenqueue(measuring, "x")
        return await handle.aget_result(timeout=10)

    with Runtime():
        assert async_to_sync(client)() == "x"


@database
def test_an_enqueue_in_atomic_appears_on_commit_and_vanishes_on_rollback() -> None:
    gauge.gate.set()
    with transaction.atomic():
        kept = PLAIN.enqueue(measuring, 1)
    with transaction.atomic():
        lost = PLAIN.enqueue(measuring, 2)
        transaction.set_rollback(True)
    with Runtime():
        assert kept.get_result(timeout=10) == 1
    assert not Workflow.objects.filter(pk=lost.workflow_id).exists()


@database
@pytest.mark.parametrize(("queue", "most"), [(NARROW, 2), (SINGLE, 1)], ids=["worker", "global"])
def test_no_more_run_at_a_time_than_the_queue_allows(queue: Queue, most: int) -> None:
    handles = [queue.enqueue(measuring, number) for number in range(6)]
    with Runtime(concurrency=8), Runtime(concurrency=8, queues=[] if queue is NARROW else None):
        eventually(lambda: gauge.running == most)
        gauge.gate.set()
        assert [handle.get_result(timeout=20) for handle in handles] == list(range(6))
    assert gauge.peak == most


@database
def test_what_waits_is_taken_by_priority_and_then_by_age() -> None:
    gauge.gate.set()
    for name, priority in [("late", 5), ("first", 0), ("last", 9), ("second", 0)]:
        with SetEnqueueOptions(priority=priority):
            PLAIN.enqueue(measuring, name)
    with Runtime(concurrency=1):
        eventually(lambda: Workflow.objects.succeeded().count() == 4)
    assert gauge.order == ["first", "second", "late", "last"]


@database
def test_a_backlog_on_one_queue_does_not_delay_another() -> None:
    gauge.gate.set()
    for number in range(30):
        PLAIN.enqueue(measuring, number)
    NARROW.enqueue(measuring, "other queue")
    with Runtime(concurrency=2):
        eventually(lambda: "other queue" in gauge.order)
    assert gauge.order.index("other queue") <= 2


@database
def test_a_worker_serves_only_the_queues_it_was_given_and_what_was_started() -> None:
    gauge.gate.set()
    mine, other = PLAIN.enqueue(measuring, 1), NARROW.enqueue(measuring, 2)
    with Runtime(queues=["plain"]):
        assert mine.get_result(timeout=10) == 1
    assert other.get_status().status == WorkflowStatus.ENQUEUED


@database
def test_a_worker_writes_down_the_limits_that_the_code_declares_and_keeps_an_operators_overrides() -> None:
    QueueRow.objects.create(name="narrow", declared={}, overrides={"worker_concurrency": 1})
    with Runtime():
        pass
    row = QueueRow.objects.get(name="narrow")
    assert row.declared == {"worker_concurrency": 2}
    assert row.limits == {"worker_concurrency": 1}


@database
def test_an_operators_override_holds() -> None:
    QueueRow.objects.create(name="narrow", declared={}, overrides={"worker_concurrency": 1})
    handles = [NARROW.enqueue(measuring, number) for number in range(3)]
    with Runtime(concurrency=8):
        eventually(lambda: gauge.running == 1)
        gauge.gate.set()
        for handle in handles:
            handle.get_result(timeout=10)
    assert gauge.peak == 1


@database
@pytest.mark.parametrize("name", ["plain", "single"])
def test_nothing_is_taken_from_a_paused_queue(name: str) -> None:
    gauge.gate.set()
    QueueRow.objects.create(name=name, is_paused=True)
    paused = (PLAIN if name == "plain" else SINGLE).enqueue(measuring, 1)
    with Runtime():
        assert NARROW.enqueue(measuring, 2).get_result(timeout=10) == 2
    assert paused.get_status().status == WorkflowStatus.ENQUEUED


@database
def test_an_enqueue_in_a_workflow_is_a_recorded_child() -> None:
    gauge.gate.set()

    @workflow
    def spreading() -> list[Any]:
        handles = [PLAIN.enqueue(measuring, number) for number in range(3)]
        return [handle.get_result() for handle in handles]

    with Runtime(concurrency=1), SetWorkflowID("p"):
        assert spreading() == [0, 1, 2]
    assert list(Workflow.objects.in_queue("plain").values_list("pk", "parent_id").order_by("pk")) == [
        ("p-1", "p"),
        ("p-2", "p"),
        ("p-3", "p"),
    ]


@pytest.mark.parametrize("limit", [0, -1, 1.5, "3", True])
def test_a_limit_below_one_or_no_whole_number_is_refused_at_once(limit: Any) -> None:
    with pytest.raises(InvalidOption, match="worker_concurrency is a whole number from 1"):
        Queue("refused", worker_concurrency=limit)


@pytest.mark.parametrize("name", ["", None, "x" * 256])
def test_a_bad_name_is_refused_at_once(name: Any) -> None:
    with pytest.raises(InvalidOption, match="1 to 255 characters"):
        Queue(name)


@pytest.mark.parametrize("priority", [-1, 2**31, 0.5, "1"])
def test_a_bad_priority_is_refused_at_once(priority: Any) -> None:
    with pytest.raises(InvalidOption, match="priority"):
        SetEnqueueOptions(priority=priority)


def test_one_queue_declared_twice_with_different_limits_is_refused_with_both() -> None:
    Queue("declared twice", worker_concurrency=1)
    Queue("declared twice", worker_concurrency=1)
    with pytest.raises(DuplicateRegistration, match=r"worker_concurrency': 1.*worker_concurrency': 2"):
        Queue("declared twice", worker_concurrency=2)
