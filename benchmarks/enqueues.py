"""Enqueues from a process that only enqueues: one by one, and many at a time."""

from django_dbos import enqueue_many

from . import postgresql
from .common import CELERY, DBOS, OURS, POSTGRESQL, Bench, per_second

ONE_BY_ONE, BULK = "one by one", "many at a time"


def measure(bench: Bench) -> None:
    """An enqueue is one durable row; many at a time are a statement for each few thousand."""
    from .workflows import QUEUE, one_step

    count, many = bench.size(2000), bench.size(20_000)
    bench.rate(POSTGRESQL, ONE_BY_ONE, "enqueues/s", postgresql.inserts(count))
    bench.rate(POSTGRESQL, BULK, "enqueues/s", postgresql.inserts_by_the_thousand(many))
    calls = [(number,) for number in range(many)]
    QUEUE.enqueue(one_step, 0)
    rate = per_second(count, lambda: [QUEUE.enqueue(one_step, number) for number in range(count)])
    bench.rate(OURS, ONE_BY_ONE, "enqueues/s", rate)
    bench.rate(OURS, BULK, "enqueues/s", per_second(many, lambda: enqueue_many(QUEUE, one_step, calls)))
    for who in (DBOS, CELERY):
        # DBOS has no call for many: they are enqueued in one transaction; Celery's group is sent one by one.
        for line, rate in bench.peer(who, "enqueues", count=count, many=bench.size(5000)).items():
            bench.rate(who, line, "enqueues/s", rate)


if __name__ == "__main__":
    from .__main__ import main

    main(["enqueues"])
