"""
DBOS Transact for Python (``pip install dbos``) at the same workloads, on a database of its own on the same server.

As its documentation sets it up, but for what would be unfair: one process starts or enqueues and serves no queue, and
where throughput is measured its queue is polled every 50 ms instead of every second, under no limit that binds.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import sqlalchemy
from dbos import DBOS, DBOSClient, SQLAlchemyDatasource

from benchmarks.common import (
    Worker,
    answer_as_peer,
    at_random,
    delays,
    idle_costs,
    per_second,
    wait_until,
    workers,
)

URL = os.environ["BENCHMARKS_DBOS_URL"]
NAME, QUEUE = "benchmarks", "benchmarks"
#: Seconds between two looks at a queue: what throughput is measured with, and the default.
OFTEN, DEFAULT = 0.05, 1.0
source: Any = None


@DBOS.step()
def echo(number: int) -> Any:
    """A step that does nothing."""
    return number


@DBOS.workflow()
def one_step(number: int) -> Any:
    """The usual small workflow."""
    return echo(number)


@DBOS.workflow()
def many_steps(count: int) -> float:
    """Seconds that so many steps took."""
    started = time.perf_counter()
    for number in range(count):
        echo(number)
    return time.perf_counter() - started


def insert(number: int) -> None:
    """Write one row."""
    source.sql_session().execute(sqlalchemy.text("INSERT INTO item (payload) VALUES (:p)"), {"p": f"item {number}"})


@DBOS.workflow()
def many_transactions(count: int) -> float:
    """Seconds that so many transactions took, at the isolation level that Django has by default."""
    started = time.perf_counter()
    for number in range(count):
        source.run_tx_step({"name": "insert", "isolation_level": "READ COMMITTED"}, insert, number)
    return time.perf_counter() - started


@DBOS.workflow()
def started_at() -> float:
    """When the body began."""
    return time.time()


@DBOS.workflow()
def result_later(delay: float) -> float:
    """Sleeps, and says when it ended."""
    DBOS.sleep(delay)
    return time.time()


@DBOS.workflow()
def event_later(delay: float) -> None:
    """Sleeps, and sets an event that says when."""
    DBOS.sleep(delay)
    DBOS.set_event("set_at", time.time())


@DBOS.workflow()
def receiver(count: int) -> list[float]:
    """Seconds that each of so many messages took."""
    DBOS.set_event("ready", True)
    seconds = []
    for _ in range(count):
        sent_at = DBOS.recv("messages", timeout_seconds=60)
        seconds.append(time.time() - sent_at)
    return seconds


# ---- processes


@contextmanager
def launched(executor: str, *, serves: bool = False, polling: float = OFTEN) -> Any:
    """DBOS inside this process."""
    DBOS(
        config={
            "name": NAME,
            "system_database_url": URL,
            "application_version": "1",
            "executor_id": executor,
            "log_level": "WARNING",
        }
    )
    if not serves:
        DBOS.listen_queues([])
    DBOS.launch()
    DBOS.register_queue(QUEUE, polling_interval_sec=polling, on_conflict="always_update")
    try:
        yield
    finally:
        DBOS.destroy()


def worker(number: int, polling: float) -> dict[str, Any]:
    """A process that serves the queue until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with launched(f"worker-{number}", serves=True, polling=polling):
        stop.wait()
        os._exit(0)


def new_worker(number: int = 0, polling: float = OFTEN) -> Worker:
    """Such a process."""
    options = json.dumps({"number": number, "polling": polling})
    return Worker(sys.executable, "-m", "benchmarks.peers.dbos_peer", "worker", options)


@contextmanager
def new_client(polling: float = OFTEN) -> Any:
    """What enqueues from elsewhere, on empty tables."""
    with launched("migrations"):
        pass
    _empty()
    client = DBOSClient(system_database_url=URL, application_name=NAME)
    client.register_queue(QUEUE, polling_interval_sec=polling, on_conflict="always_update")
    try:
        yield client
    finally:
        client.destroy()


def _empty() -> None:
    sql = "SELECT 'dbos.' || tablename FROM pg_tables WHERE schemaname = 'dbos' AND tablename <> 'dbos_migrations'"
    with psycopg.connect(URL, autocommit=True) as connection:
        tables = [row[0] for row in connection.execute(sql)]
        connection.execute(f"TRUNCATE {', '.join(tables)}")  # type: ignore[arg-type,unused-ignore]


def enqueue(client: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Enqueue by name, as a client does."""
    return client.enqueue({"queue_name": QUEUE, "workflow_name": function.__name__}, *arguments)


def enqueue_many(client: Any, count: int) -> None:
    """All in one transaction."""
    engine = sqlalchemy.create_engine(URL.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        for number in range(count):
            options = {"queue_name": QUEUE, "workflow_name": one_step.__name__}
            client.enqueue_in_transaction(connection, options, number)
    engine.dispose()


# ---- the tasks


def steps(count: int) -> dict[str, Any]:
    """See benchmarks.steps."""
    with launched("steps"):
        many_steps(50)
        directly = count / many_steps(count)
    with new_client() as client, new_worker():
        enqueue(client, many_steps, 50).get_result()
        return {"called directly": directly, "in a worker": count / enqueue(client, many_steps, count).get_result()}


def transactions(count: int) -> dict[str, Any]:
    """See benchmarks.transactions."""
    global source
    source = SQLAlchemyDatasource.create(URL)
    with launched("transactions"):
        with psycopg.connect(URL, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS item (id BIGSERIAL PRIMARY KEY, payload TEXT)")
        many_transactions(20)
        return {"one row each": count / many_transactions(count)}


def starts(count: int, at_a_time: int) -> dict[str, Any]:
    """See benchmarks.starts."""

    def start(number: int) -> int:
        result: int = DBOS.start_workflow(one_step, number).get_result()
        return result

    with launched("starts"), ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(start, range(50)))
        return {
            "one at a time": per_second(count, lambda: [start(number) for number in range(count)]),
            f"{at_a_time} at a time": per_second(count, lambda: list(pool.map(start, range(count)))),
        }


def enqueues(count: int, many: int) -> dict[str, Any]:
    """See benchmarks.enqueues."""
    with new_client() as client:
        enqueue(client, one_step, 0)
        return {
            "one by one": per_second(count, lambda: [enqueue(client, one_step, number) for number in range(count)]),
            "many at a time": per_second(many, lambda: enqueue_many(client, many)),
        }


def drain(count: int, processes: int) -> dict[str, Any]:
    """See benchmarks.drain."""
    with new_client() as client:
        enqueue_many(client, count)
    sql = """
        SELECT COUNT(*), MIN(started_at_epoch_ms), MAX(completed_at) FROM dbos.workflow_status
        WHERE status = 'SUCCESS' AND name = 'one_step'
    """
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")

        def done() -> Any:
            return connection.execute(sql).fetchone()

        with workers(new_worker(number) for number in range(processes)) as running:
            wait_until(lambda: done()[0] >= count, *running)
        finished, first, last = done()
    return {"rate": finished / max((last - first) / 1000, 1e-6)}


def latency(count: int, polling: float = DEFAULT) -> dict[str, Any]:
    """See benchmarks.latency."""
    with new_client(polling) as client, new_worker(polling=polling):
        for _ in range(3):
            enqueue(client, started_at).get_result()
        sent = []
        for _ in at_random(count, 0.05, 0.10):
            now = time.time()
            sent.append((now, enqueue(client, started_at)))
        return {"seconds": [handle.get_result() - now for now, handle in sent]}


def wakeups(count: int, messages: int) -> dict[str, Any]:
    """See benchmarks.wakeups; the client waits as it does by default."""
    results, events = [], []
    with new_client() as client, new_worker():
        enqueue(client, started_at).get_result()
        for delay in delays(count):
            ended_at = enqueue(client, result_later, delay).get_result()
            results.append(time.time() - ended_at)
        for delay in delays(count):
            set_at = client.get_event(enqueue(client, event_later, delay).workflow_id, "set_at", 60)
            events.append(time.time() - set_at)
        handle = enqueue(client, receiver, messages)
        client.get_event(handle.workflow_id, "ready", 60)
        for _ in at_random(messages, 0.10, 0.20):
            client.send(handle.workflow_id, time.time(), "messages")
        return {"result": results, "event": events, "message": handle.get_result()}


def idle(seconds: float, server: str) -> dict[str, Any]:
    """See benchmarks.idle."""
    from benchmarks import postgresql

    with new_client(DEFAULT):
        pass  # for the tables
    with new_worker(polling=DEFAULT) as process:
        client = DBOSClient(system_database_url=URL, application_name=NAME)
        enqueue(client, started_at).get_result()
        client.destroy()
        name = urlsplit(URL).path.removeprefix("/")
        look = (postgresql.transactions_of(server, name), postgresql.connections_to(server, name))
        return idle_costs(process.pid, *look, seconds)


if __name__ == "__main__":
    tasks = (worker, steps, transactions, starts, enqueues, drain, latency, wakeups, idle)
    answer_as_peer({task.__name__: task for task in tasks})
