"""How long who waits in one process takes to hear of what another did: a result, an event, a message."""

import time

from django_dbos import get_event, send

from . import postgresql
from .common import CELERY, DBOS, OURS, POSTGRESQL, Bench, at_random, dbos_worker, delays

RESULT, EVENT, MESSAGE = "result", "event", "message"


def measure(bench: Bench) -> None:
    """From the line before the workflow returns, sets or sends, to the line after the wait."""
    count, messages = bench.size(20), bench.size(50)
    told = postgresql.notifications(messages)
    for line in (RESULT, EVENT, MESSAGE):
        bench.latency(POSTGRESQL, line, told)
    ours = {}
    from .workflows import QUEUE, started_at

    with dbos_worker("--queue", QUEUE.name):
        QUEUE.enqueue(started_at).get_result(60)
        ours = {RESULT: _results(count), EVENT: _events(count), MESSAGE: _messages(messages)}
    for line, seconds in ours.items():
        bench.latency(OURS, line, seconds)
    for who in (DBOS, CELERY):
        for line, seconds in bench.peer(who, "wakeups", count=count, messages=messages).items():
            bench.latency(who, line, seconds)


def _results(count: int) -> list[float]:
    from .workflows import QUEUE, result_later

    seconds = []
    for delay in delays(count):
        ended_at = QUEUE.enqueue(result_later, delay).get_result(60)
        seconds.append(time.time() - ended_at)
    return seconds


def _events(count: int) -> list[float]:
    from .workflows import QUEUE, event_later

    seconds = []
    for delay in delays(count):
        set_at = get_event(QUEUE.enqueue(event_later, delay).workflow_id, "set_at", 60)
        seconds.append(time.time() - set_at)
    return seconds


def _messages(count: int) -> list[float]:
    from .workflows import QUEUE, receiver

    handle = QUEUE.enqueue(receiver, count)
    get_event(handle.workflow_id, "ready", 60)
    for _ in at_random(count, 0.10, 0.20):  # so that the receiver waits when each is sent
        send(handle.workflow_id, time.time(), "messages")
    return handle.get_result(60)


if __name__ == "__main__":
    from .__main__ import main

    main(["wakeups"])
