"""The workflows under test. Each of their steps writes into a ledger when its body begins and ends."""

import asyncio
import os
import signal
import time
from datetime import datetime
from pathlib import Path

from asgiref.sync import sync_to_async
from django.db.transaction import atomic

from django_dbos import (
    ConfiguredInstance,
    Queue,
    arecv,
    asleep,
    astart_workflow,
    await_first,
    dbos_class,
    recv,
    scheduled,
    sleep,
    start_workflow,
    step,
    transaction,
    wait_all,
    workflow,
)
from tests.acceptance.observed import Gate, Ledger
from tests.models import Effect, Row

#: Set in the environment of a worker, it declares a schedule that fires each second.
SCHEDULE = "ACCEPTANCE_SCHEDULE"

#: How long the body of a step works, in seconds, so that a kill can meet it.
WORK = 0.01

one_at_a_time = Queue("acceptance-one", global_concurrency=1)
two_per_worker = Queue("acceptance-two", worker_concurrency=2)
plain = Queue("acceptance-plain")
other = Queue("acceptance-other")

# ---- steps and transactions


@step
def doubled(ledger: Ledger, number: int) -> int:
    with ledger.running("doubled"):
        time.sleep(WORK)
    return 2 * number


@step
async def adoubled(ledger: Ledger, number: int) -> int:
    with ledger.running("adoubled"):
        await asyncio.sleep(WORK)
    return 2 * number


@step
def effected(ledger: Ledger, number: int) -> int:
    """A step that talks to the database: its connection is the thread's own."""
    with ledger.running("effected") as key:
        Effect.objects.create(key=key, pid=os.getpid())
    return number + 1


@step
async def aeffected(ledger: Ledger, number: int) -> int:
    with ledger.running("aeffected") as key:
        await Effect.objects.acreate(key=key, pid=os.getpid())
    return number + 1


@transaction
def booked(ledger: Ledger, number: int) -> int:
    with ledger.running("booked") as key:
        Row.objects.create(name=key, payload=str(number), pid=os.getpid())
    return number


@transaction
async def abooked(ledger: Ledger, number: int) -> int:
    with ledger.running("abooked") as key:
        await Row.objects.acreate(name=key, payload=str(number), pid=os.getpid())
    return number


@step
def process(ledger: Ledger) -> int:
    """The process in which the step ran."""
    with ledger.running("process"):
        return os.getpid()


@step
async def aprocess(ledger: Ledger) -> int:
    with ledger.running("aprocess"):
        return os.getpid()


@step
def held_step(ledger: Ledger, gate: Gate) -> int:
    with ledger.running("held_step"):
        gate.hold()
    return os.getpid()


@step
async def aheld_step(ledger: Ledger, gate: Gate) -> int:
    with ledger.running("aheld_step"):
        await gate.ahold()
    return os.getpid()


@step
async def aheld_thread_step(ledger: Ledger, gate: Gate) -> int:
    """Holds a thread that belongs to the body, and that nobody can cancel."""
    with ledger.running("aheld_thread_step"):
        await sync_to_async(gate.hold)()
    return os.getpid()


@step(retries_allowed=True, interval_seconds=3600)
def failing_once(ledger: Ledger) -> int:
    """Fails in the first process, and would try again in an hour."""
    with ledger.running("failing_once"):
        if len(ledger.entries("begin", name="failing_once")) == 1:
            raise ConnectionError("no answer")
    return os.getpid()


@transaction
def held_transaction(ledger: Ledger, gate: Gate) -> int:
    with ledger.running("held_transaction") as key:
        Row.objects.create(name=key, pid=os.getpid())
        gate.hold()
    return os.getpid()


# ---- orders: everything in one workflow, sync and async, with children


@workflow
def sync_order(ledger: Ledger, number: int) -> int:
    amount = booked(ledger, doubled(ledger, number))
    receipt = start_workflow(async_child, ledger, number)
    parcel = sync_child(ledger, amount)
    return booked(ledger, doubled(ledger, parcel) + receipt.get_result())


@workflow
async def async_order(ledger: Ledger, number: int) -> int:
    first, second = await asyncio.gather(adoubled(ledger, number), adoubled(ledger, number + 1))
    amount = await abooked(ledger, first + second)
    parcel = await astart_workflow(sync_child, ledger, number)
    receipt = await async_child(ledger, amount)
    return await abooked(ledger, receipt + int(await parcel.aget_result()))


@workflow
def sync_child(ledger: Ledger, number: int) -> int:
    return booked(ledger, doubled(ledger, number)) + 1


@workflow
async def async_child(ledger: Ledger, number: int) -> int:
    return await abooked(ledger, await adoubled(ledger, number)) + 2


def sync_order_result(number: int) -> int:
    return 2 * (2 * (2 * number) + 1) + 2 * number + 2


def async_order_result(number: int) -> int:
    return 2 * (2 * number + 2 * (number + 1)) + 2 + 2 * number + 1


@workflow
def queued_job(ledger: Ledger, number: int) -> int:
    return booked(ledger, effected(ledger, doubled(ledger, number)))


@workflow
async def aqueued_job(ledger: Ledger, number: int) -> int:
    return await abooked(ledger, await aeffected(ledger, await adoubled(ledger, number)))


def queued_job_result(number: int) -> int:
    return 2 * number + 1


# ---- workflows that are held somewhere; their results are the processes in which their steps ran


@workflow
def where(ledger: Ledger) -> int:
    return process(ledger)


@workflow
async def awhere(ledger: Ledger) -> int:
    return await aprocess(ledger)


@workflow
def held_in_step(ledger: Ledger, gate: Gate) -> list[int]:
    return [process(ledger), held_step(ledger, gate), process(ledger)]


@dbos_class
class Station(ConfiguredInstance):
    """Each process creates the same ones; each has its own process id."""

    def __init__(self, instance_name: str) -> None:
        super().__init__(instance_name)
        self.pid = os.getpid()

    @workflow
    def held(self, ledger: Ledger, gate: Gate) -> list[int]:
        return [self.pid, process(ledger), held_step(ledger, gate), process(ledger)]


north, south = Station("north"), Station("south")


@workflow
async def aheld_in_step(ledger: Ledger, gate: Gate) -> list[int]:
    return [await aheld_step(ledger, gate), await abooked(ledger, os.getpid())]


@workflow
async def aheld_in_thread(ledger: Ledger, gate: Gate) -> list[int]:
    return [await aheld_thread_step(ledger, gate)]


@workflow
def held_in_transaction(ledger: Ledger, gate: Gate) -> list[int]:
    return [process(ledger), held_transaction(ledger, gate), process(ledger)]


@workflow
def held_before_transaction(ledger: Ledger, gate: Gate) -> list[int]:
    first = process(ledger)
    gate.hold()
    return [first, booked(ledger, os.getpid())]


@workflow
def held_in_backoff(ledger: Ledger) -> list[int]:
    return [process(ledger), failing_once(ledger)]


@workflow
def held_by_child(ledger: Ledger) -> list[int]:
    first = process(ledger)
    return [first, other.enqueue(where, ledger).get_result()]


# ---- and others


@workflow(max_recovery_attempts=1)
def deadly(ledger: Ledger, antidote: Path) -> str:
    """Kills the process in which it runs, until ``antidote`` is there."""
    ledger.write("begin", name="deadly")
    if not antidote.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@workflow
def careless(ledger: Ledger) -> None:
    with atomic():
        Row.objects.create(name="careless")
        process(ledger)


@step
def added(number: int) -> int:
    return 2 * number + 1


@transaction
def saved(number: int) -> int:
    Row.objects.create(name=str(number))
    return number


@workflow
def unwatched(number: int) -> int:
    return saved(added(number))


@transaction
def ticked(scheduled_at: datetime) -> None:
    Row.objects.create(name=scheduled_at.isoformat(), pid=os.getpid())


if os.environ.get(SCHEDULE):

    @scheduled("* * * * * *")
    @workflow
    def every_second(scheduled_at: datetime, started_at: datetime) -> None:
        ticked(scheduled_at)


# ---- workflows that wait


@workflow
def waiting_receiver() -> int | None:
    message: int | None = recv(timeout_seconds=3600)
    return message


@workflow
async def awaiting_receiver() -> int | None:
    message: int | None = await arecv(timeout_seconds=3600)
    return message


@workflow
def waiting_sleeper(seconds: float) -> None:
    sleep(seconds)


@workflow
async def awaiting_sleeper(seconds: float) -> None:
    await asleep(seconds)


@workflow
def waiting_ancestor(depth: int, width: int) -> int:
    """How many workflows there are in a family: of its children one is called, one enqueued, the others started."""
    if depth == 0:
        return 1
    started = [start_workflow(awaiting_ancestor, depth - 1, width) for _ in range(width - 1)]
    queued = plain.enqueue(waiting_ancestor, depth - 1, width)
    called = waiting_ancestor(depth - 1, width)
    return 1 + called + sum(wait_all([*started, queued]))


@workflow
async def awaiting_ancestor(depth: int, width: int) -> int:
    """See waiting_ancestor()."""
    if depth == 0:
        return 1
    started = [await astart_workflow(waiting_ancestor, depth - 1, width) for _ in range(width - 1)]
    queued = await plain.aenqueue(awaiting_ancestor, depth - 1, width)
    results = [(await await_first([handle])).aget_result() for handle in started]
    return (
        1
        + await awaiting_ancestor(depth - 1, width)
        + await queued.aget_result()
        + sum([await each for each in results])
    )
