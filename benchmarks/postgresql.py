"""What PostgreSQL does by itself, and what is asked of it while others work."""

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

from .common import at_random, per_second

INSERT = "INSERT INTO benchmarks_item (payload) VALUES ('a payload') RETURNING id"
FINISH = "UPDATE benchmarks_item SET state = 'done' WHERE id = %s"
CLAIM = """
    UPDATE benchmarks_item SET state = 'running' WHERE id = (
        SELECT id FROM benchmarks_item WHERE state = 'waiting' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id
"""
PGBENCH = f"{INSERT} \\gset\n{FINISH.replace('%s', ':id')};\n"


def url() -> str:
    """Where the benchmarks' own database is."""
    return os.environ["BENCHMARKS_DATABASE_URL"]


def sibling(address: str, name: str) -> str:
    """The address of another database of the same server."""
    return urlunsplit(urlsplit(address)._replace(path=f"/{name}"))


def connect(address: str = "") -> "psycopg.Connection[Any]":
    """An autocommit connection; to the benchmarks' database unless another is given."""
    return psycopg.connect(address or url(), autocommit=True)


def one(connection: "psycopg.Connection[Any]", sql: str, *parameters: Any) -> Any:
    """The first column of the first row."""
    row = connection.execute(sql, parameters).fetchone()
    return None if row is None else row[0]


@contextmanager
def new_databases(server: str, *names: str) -> Iterator[list[str]]:
    """Empty databases on a server for the length of a block; their addresses."""
    with connect(server) as admin:
        for name in names:
            admin.execute(f'CREATE DATABASE "{name}"')
        try:
            yield [sibling(server, name) for name in names]
        finally:
            for name in names:
                admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def describe(server: str) -> dict[str, str]:
    """The server's version and the settings that decide what a commit costs."""
    with connect(server) as connection:
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers")
        return {name: str(one(connection, f"SHOW {name}")) for name in names}


# ---- loops without anything around them


def inserts(count: int) -> float:
    """Rows per second of one connection, each committed by itself."""
    return _loop(count, lambda connection: connection.execute(INSERT))


def inserts_and_updates(count: int) -> float:
    """Rows per second of one connection, inserted, then updated: two commits each, as a workflow's least is."""

    def once(connection: "psycopg.Connection[Any]") -> None:
        connection.execute(FINISH, [one(connection, INSERT)])

    return _loop(count, once)


def inserts_and_updates_together(count: int, clients: int) -> float:
    """The same of so many clients: pgbench's if it is installed, otherwise threads."""
    program = shutil.which("pgbench")
    if program is not None:
        return _pgbench(program, count, clients)
    with ThreadPoolExecutor(clients) as pool:
        return per_second(count, lambda: list(pool.map(inserts_and_updates, [count // clients] * clients)))


def _pgbench(program: str, count: int, clients: int) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(PGBENCH)
        script.flush()
        each = ("-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-t", str(max(1, count // clients)))
        command = [program, *each, "-f", script.name, url()]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


def inserts_by_the_thousand(count: int) -> float:
    """Rows per second of one connection, a thousand in each statement and commit."""
    sql = "INSERT INTO benchmarks_item (payload) SELECT UNNEST(%s::text[])"
    with connect() as connection:
        chunks = [min(1000, count - first) for first in range(0, count, 1000)]
        return per_second(count, lambda: [connection.execute(sql, [["a payload"] * size]) for size in chunks])


def jobs(count: int) -> float:
    """Jobs per second of the least worker there is: claim one with SKIP LOCKED, then mark it as done."""
    with connect() as connection:
        connection.execute("TRUNCATE benchmarks_item")
        connection.execute(
            "INSERT INTO benchmarks_item (payload) SELECT 'a payload' FROM GENERATE_SERIES(1, %s)", [count]
        )
        connection.execute(
            "CREATE INDEX IF NOT EXISTS benchmarks_waiting ON benchmarks_item (id) WHERE state = 'waiting'"
        )
        connection.execute("ANALYZE benchmarks_item")
    try:
        return _loop(count, lambda connection: connection.execute(FINISH, [one(connection, CLAIM)]))
    finally:
        with connect() as connection:
            connection.execute("DROP INDEX benchmarks_waiting")


def _loop(count: int, once: Callable[["psycopg.Connection[Any]"], object]) -> float:
    with connect() as connection:
        once(connection)
        return per_second(count, lambda: [once(connection) for _ in range(count)])


def notifications(count: int) -> list[float]:
    """Seconds from NOTIFY (in the statement that inserts a row) to the listener of another connection."""
    arrived: list[float] = []
    listening = threading.Event()

    def listen() -> None:
        with connect() as connection:
            connection.execute("LISTEN benchmarks")
            listening.set()
            told = connection.notifies(timeout=60, stop_after=count)
            arrived.extend(time.time() - float(notification.payload) for notification in told)

    thread = threading.Thread(target=listen)
    thread.start()
    listening.wait(60)
    sql = "INSERT INTO benchmarks_item (payload) VALUES ('a payload') RETURNING pg_notify('benchmarks', %s)"
    with connect() as connection:
        for _ in at_random(count, 0.02, 0.05):
            connection.execute(sql, [str(time.time())])
    thread.join()
    return arrived


# ---- looking at others, over a connection to another database


def transactions_of(server: str, database: str) -> Callable[[], int]:
    """Counts the transactions that a database has seen; a statement outside of BEGIN and COMMIT is one, too."""
    sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
    return lambda: int(_ask(server, sql, database))


def connections_to(server: str, database: str) -> Callable[[], int]:
    """Counts the connections to a database."""
    sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
    return lambda: int(_ask(server, sql, database))


def _ask(server: str, sql: str, database: str) -> Any:
    with connect(server) as connection:
        return one(connection, sql, database)
