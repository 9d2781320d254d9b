"""The same work in a table full of finished and waiting workflows, compared with an empty one."""

from django.db import connection

from django_dbos.models import Step, Workflow

from .common import OURS, Bench, dbos_worker
from .drain import drained
from .latency import seconds_to_start

EMPTY = "an empty table"


def measure(bench: Bench) -> None:
    """``rows`` finished workflows, and a tenth as many that wait on the queue to be drained."""
    from .workflows import OTHER_QUEUE

    finished = bench.size(bench.rows, least=20)
    waiting, count, starts = finished // 10, bench.size(2000), bench.size(100)
    count = min(count, waiting)
    for who, done, backlog in ((EMPTY, 0, count), (OURS, finished, waiting)):
        fill(done, backlog)
        bench.latency(who, "enqueue to start on another queue", seconds_to_start(OTHER_QUEUE, starts))
        bench.rate(who, "drain", "workflows/s", drained(count, 1))


def fill(finished: int, waiting: int) -> None:
    """Make rows out of one workflow that has run and one that waits."""
    from .workflows import QUEUE, one_step

    Step.objects.all().delete()
    Workflow.objects.all().delete()
    done = QUEUE.enqueue(one_step, 0)
    with dbos_worker("--queue", QUEUE.name):
        done.get_result(60)
    _copy(done.workflow_id, "finished", finished)
    _copy(QUEUE.enqueue(one_step, 0).workflow_id, "waiting", waiting - 1)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE dbos_workflow, dbos_step")


def _copy(workflow_id: str, kind: str, count: int) -> None:
    """So many copies of a workflow and its steps, under ids and times of their own."""
    for model, key in ((Workflow, "id"), (Step, "workflow_id")):
        table = model._meta.db_table
        columns = [field.column for field in model._meta.concrete_fields if field.column]
        values = {column: column for column in columns} | {key: f"'{kind}-' || LPAD(n::text, 9, '0')"}
        if "created_at" in values:
            values["created_at"] = "created_at + n * INTERVAL '1 microsecond'"
        sql = f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())}"
        with connection.cursor() as cursor:
            cursor.execute(f"{sql} FROM {table}, GENERATE_SERIES(1, %s) AS n WHERE {key} = %s", [count, workflow_id])


if __name__ == "__main__":
    from .__main__ import main

    main(["big_table"])
