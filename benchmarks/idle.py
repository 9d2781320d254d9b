"""What a worker with nothing to do asks of the server and of its own machine."""

import os
from typing import Any
from urllib.parse import urlsplit

from django.db import connections

from . import postgresql
from .common import CELERY, DBOS, OURS, Bench, dbos_worker, idle_costs


def measure(bench: Bench) -> None:
    """What the server counts - transactions, of which a lone statement is one, connections - and processor time."""
    from .workflows import QUEUE, started_at

    seconds = bench.size(30, least=5)  # the server counts with a delay of a second
    server = os.environ["BENCHMARKS_SERVER_URL"]
    name = urlsplit(postgresql.url()).path.removeprefix("/")
    with dbos_worker("--queue", QUEUE.name) as worker:
        QUEUE.enqueue(started_at).get_result(60)
        connections.close_all()  # ours are not the worker's
        look = (postgresql.transactions_of(server, name), postgresql.connections_to(server, name))
        _write(bench, OURS, idle_costs(worker.pid, *look, seconds))
    for who in (DBOS, CELERY):
        measured = bench.peer(who, "idle", seconds=seconds, server=server)
        if measured:
            _write(bench, who, measured)


def _write(bench: Bench, who: str, costs: dict[str, Any]) -> None:
    bench.cost(who, "transactions per second", "1/s", costs["requests"])
    bench.cost(who, "connections", "", costs["connections"])
    bench.cost(who, "processor", "% of a core", costs["cpu"])


if __name__ == "__main__":
    from .__main__ import main

    main(["idle"])
