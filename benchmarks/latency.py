"""How long a workflow waits from its enqueue to the first line of its body, if a worker has nothing else to do."""

import time

from django_dbos import Queue

from . import postgresql
from .common import CELERY, DBOS, OURS, POSTGRESQL, Bench, at_random, dbos_worker

LINE = "enqueue to start"


def measure(bench: Bench) -> None:
    """Nothing is faster than NOTIFY, from the statement that inserts a row to a listener."""
    from .workflows import QUEUE

    count = bench.size(100)
    bench.latency(POSTGRESQL, LINE, postgresql.notifications(count))
    bench.latency(OURS, LINE, seconds_to_start(QUEUE, count))
    for who in (DBOS, CELERY):
        measured = bench.peer(who, "latency", count=count)
        if measured:
            bench.latency(who, LINE, measured["seconds"])
    measured = bench.peer(DBOS, "latency", count=count, polling=0.05)
    if measured:
        bench.latency("DBOS polling every 50 ms", LINE, measured["seconds"])


def seconds_to_start(queue: Queue, count: int) -> list[float]:
    """Enqueue now and then while a worker is idle; how long each took to start."""
    from .workflows import started_at

    with dbos_worker("--queue", queue.name):
        for _ in range(3):
            queue.enqueue(started_at).get_result(60)
        sent = []
        for _ in at_random(count, 0.05, 0.10):
            now = time.time()
            sent.append((now, queue.enqueue(started_at)))
        return [handle.get_result(60) - now for now, handle in sent]


if __name__ == "__main__":
    from .__main__ import main

    main(["latency"])
