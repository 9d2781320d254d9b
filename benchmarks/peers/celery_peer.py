"""
Celery (``pip install 'celery[redis]'``) on Redis at the workloads that it knows, with results stored in Redis.

A task is acknowledged when it is done, so that it survives its worker; whether it survives Redis is up to that. Queue
and results are this process's own: nothing else in that Redis is touched. ``REDIS_URL`` says where it is.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import celery
import redis

from benchmarks.common import Worker, answer_as_peer, at_random, delays, idle_costs, per_second, wait_until, workers

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.setdefault("BENCHMARKS_CELERY_QUEUE", f"benchmarks-{os.getpid()}")

app = celery.Celery("benchmarks", broker=URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_expires=3600,
    task_acks_late=True,
    task_default_queue=QUEUE,
    worker_prefetch_multiplier=64,
)


@app.task(name="started_at")
def started_at() -> float:
    """When the body began."""
    return time.time()


@app.task(name="result_later")
def result_later(delay: float) -> float:
    """Sleeps, and says when it ended."""
    time.sleep(delay)
    return time.time()


def new_worker(number: int = 0) -> Worker:
    """A worker with as many processes as there are cores, which is its default."""
    name = f"{QUEUE}-{number}@%h"
    command = ("-m", "celery", "-A", "benchmarks.peers.celery_peer", "worker", "-Q", QUEUE, "-n", name, "-l", "WARNING")
    return Worker(sys.executable, *command)


@contextmanager
def cleaned() -> Iterator[redis.Redis]:
    """Redis, from which the queue and every result of ours is gone in the end."""
    connection = redis.Redis.from_url(URL)
    connection.ping()
    sent.clear()
    try:
        yield connection
    finally:
        connection.delete(QUEUE, f"_kombu.binding.{QUEUE}", f"_kombu.binding_permanent.{QUEUE}")
        for first in range(0, len(sent), 1000):
            connection.delete(*(_key(result) for result in sent[first : first + 1000]))


#: Every task that was sent.
sent: list[Any] = []


def delay(task: Any, *arguments: Any) -> Any:
    """Send a task."""
    sent.append(task.delay(*arguments))
    return sent[-1]


def _key(result: Any) -> str:
    return f"celery-task-meta-{result.id}"


def enqueues(count: int, many: int) -> dict[str, Any]:
    """See benchmarks.enqueues."""
    with cleaned():
        delay(started_at)
        one_by_one = per_second(count, lambda: [delay(started_at) for _ in range(count)])
        group = celery.group(started_at.s() for _ in range(many))
        return {"one by one": one_by_one, "many at a time": per_second(many, lambda: group.apply_async())}


def drain(count: int, processes: int) -> dict[str, Any]:
    """See benchmarks.drain; a task says when it began, so the last one's length is left out."""
    with cleaned() as connection:
        results = [delay(started_at) for _ in range(count)]
        with workers(new_worker(number) for number in range(processes)) as running:
            wait_until(lambda: None not in _stored(connection, results), *running, pause=0.5)
        times = [json.loads(text)["result"] for text in _stored(connection, results)]
    return {"rate": count / max(max(times) - min(times), 1e-6)}


def _stored(connection: redis.Redis, results: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for first in range(0, len(results), 1000):
        found += connection.mget([_key(result) for result in results[first : first + 1000]])
    return found


def latency(count: int) -> dict[str, Any]:
    """See benchmarks.latency."""
    with cleaned(), new_worker():
        for _ in range(3):
            delay(started_at).get(timeout=60)
        began = []
        for _ in at_random(count, 0.05, 0.10):
            now = time.time()
            began.append((now, delay(started_at)))
        return {"seconds": [result.get(timeout=60) - now for now, result in began]}


def wakeups(count: int, messages: int) -> dict[str, Any]:
    """See benchmarks.wakeups; of the three, results are what Celery has."""
    seconds = []
    with cleaned(), new_worker():
        delay(started_at).get(timeout=60)
        for pause in delays(count):
            ended_at = delay(result_later, pause).get(timeout=60)
            seconds.append(time.time() - ended_at)
    return {"result": seconds}


def idle(seconds: float, server: str) -> dict[str, Any]:
    """See benchmarks.idle; what is counted is commands of Redis, of all who use it."""
    with cleaned() as connection, new_worker() as process:
        delay(started_at).get(timeout=60)
        app.close()

        def commands() -> int:
            return int(connection.info("stats")["total_commands_processed"])

        def clients() -> int:
            return int(connection.info("clients")["connected_clients"]) - 1

        return idle_costs(process.pid, commands, clients, seconds)


if __name__ == "__main__":
    answer_as_peer({task.__name__: task for task in (enqueues, drain, latency, wakeups, idle)})
