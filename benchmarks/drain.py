"""A backlog of one-step workflows, worked off by one and by two worker processes."""

from datetime import datetime
from typing import Any

from django.db.models import Count, Max, Min

from django_dbos import enqueue_many
from django_dbos.models import Workflow

from . import postgresql
from .common import CELERY, DBOS, OURS, POSTGRESQL, Bench, dbos_worker, wait_until, workers

LINES = {1: "one worker", 2: "two workers"}


def measure(bench: Bench) -> None:
    """From the first start to the last end, by the database's clock; what processes take to come up is not counted."""
    from .workflows import QUEUE, one_step

    count = bench.size(5000)
    jobs = postgresql.jobs(count)
    for processes, line in LINES.items():
        bench.rate(POSTGRESQL, line, "workflows/s", jobs)
        Workflow.objects.all().delete()
        enqueue_many(QUEUE, one_step, [(number,) for number in range(count)])
        bench.rate(OURS, line, "workflows/s", drained(count, processes))
        for who in (DBOS, CELERY):
            measured = bench.peer(who, "drain", count=count, processes=processes)
            if measured:
                bench.rate(who, line, "workflows/s", measured["rate"])


def drained(count: int, processes: int) -> float:
    """How many workflows per second fresh workers finish, until ``count`` are done."""
    from .workflows import QUEUE

    done = Workflow.objects.succeeded().in_queue(QUEUE.name).filter(executor_id__gt="", schedule_name="")
    before = list(Workflow.objects.succeeded().values_list("executor_id", flat=True).order_by().distinct())
    done = done.exclude(executor_id__in=before)
    with workers(dbos_worker("--queue", QUEUE.name) for _ in range(processes)) as running:
        wait_until(lambda: done.count() >= count, *running)
        span: dict[str, Any] = done.aggregate(first=Min("started_at"), last=Max("completed_at"), count=Count("pk"))
    first, last = span["first"], span["last"]
    assert isinstance(first, datetime)
    return float(span["count"] / max((last - first).total_seconds(), 1e-6))


if __name__ == "__main__":
    from .__main__ import main

    main(["drain"])
