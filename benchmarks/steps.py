"""Steps of one workflow, one after the other: called directly, and in a worker."""

from . import postgresql
from .common import DBOS, OURS, POSTGRESQL, Bench, dbos_worker

DIRECTLY, IN_A_WORKER = "called directly", "in a worker"


def measure(bench: Bench) -> None:
    """A step is one durable row; so is a row of PostgreSQL's own."""
    from .workflows import QUEUE, steps

    count = bench.size(2000)
    rows = postgresql.inserts(count)
    dbos = bench.peer(DBOS, "steps", count=count)
    steps(bench.size(50))
    bench.rate(OURS, DIRECTLY, "steps/s", count / steps(count))
    with dbos_worker("--queue", QUEUE.name):
        QUEUE.enqueue(steps, bench.size(50)).get_result(60)
        bench.rate(OURS, IN_A_WORKER, "steps/s", count / QUEUE.enqueue(steps, count).get_result(300))
    for line in (DIRECTLY, IN_A_WORKER):
        bench.rate(POSTGRESQL, line, "steps/s", rows)
        if line in dbos:
            bench.rate(DBOS, line, "steps/s", dbos[line])


if __name__ == "__main__":
    from .__main__ import main

    main(["steps"])
