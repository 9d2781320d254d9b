"""The workflows under test, written as a user of django-dbos writes them."""

import time

from django_dbos import Queue, recv, set_event, sleep, step, transaction, workflow

from .models import Item

QUEUE, OTHER_QUEUE = Queue("benchmarks"), Queue("benchmarks-other")


@step
def echo(number: int) -> int:
    """A step that does nothing."""
    return number


@transaction
def insert(number: int) -> int:
    """A transaction that writes one row by the ORM."""
    Item.objects.create(payload=f"item {number}")
    return number


@workflow
def one_step(number: int) -> int:
    """The usual small workflow."""
    return echo(number)


@workflow
def steps(count: int) -> float:
    """Seconds that so many steps took, one after the other."""
    started = time.perf_counter()
    for number in range(count):
        echo(number)
    return time.perf_counter() - started


@workflow
def transactions(count: int) -> float:
    """Seconds that so many transactions took, one after the other."""
    started = time.perf_counter()
    for number in range(count):
        insert(number)
    return time.perf_counter() - started


@workflow
def started_at() -> float:
    """When the body began."""
    return time.time()


@workflow
def result_later(delay: float) -> float:
    """Sleeps, and says when it ended."""
    sleep(delay)
    return time.time()


@workflow
def event_later(delay: float) -> None:
    """Sleeps, and sets an event that says when."""
    sleep(delay)
    set_event("set_at", time.time())


@workflow
def receiver(count: int) -> list[float]:
    """Seconds that each of so many messages took from being sent to being received."""
    set_event("ready", True)
    seconds = []
    for _ in range(count):
        sent_at = recv("messages", timeout_seconds=60)
        seconds.append(time.time() - sent_at)  # read after the wait
    return seconds
