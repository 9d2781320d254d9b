"""Connections belong to threads, and whoever owns a thread cleans up after itself.

A pool thread has connections for as long as its workflow has a slot. With the slot it hands them on, to whoever takes
one next; what nobody wants is closed a moment later. A broken one is dropped before a workflow could meet it.
"""

import threading
from typing import Any

import psycopg
from django.db import connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper

from ..bridge import GRACE
from ..clock import monotonic
from ..sysdb import vendor

#: Seconds after which a server that does not answer is given up, until the next try.
CONNECT_TIMEOUT = 10


class Handover:
    """Open connections on their way from a thread that gave its slot away to the next that takes one.

    Putting down comes before giving a slot away, and taking up after taking one: so there are never more connections
    to a database than slots, and a thousand workflows that wake up at once open no more than a few.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Since when they lie here, and what one thread left: one connection for each database.
        self._left: list[tuple[float, list[BaseDatabaseWrapper]]] = []

    def put_down(self) -> None:
        """Leave this thread's open connections for others."""
        mine = connections.all(initialized_only=True)
        is_open = [each for each in mine if each.connection is not None and not each.in_atomic_block]
        for connection in is_open:
            del connections[connection.alias]
            if not connection.allow_thread_sharing:
                connection.inc_thread_sharing()
        if is_open:
            with self._lock:
                self._left.append((monotonic(), is_open))

    def take_up(self) -> None:
        """Go on with what another thread left last, unless this one has connections of its own."""
        if any(each.connection is not None for each in connections.all(initialized_only=True)):
            return
        with self._lock:
            _, found = self._left.pop() if self._left else (0.0, [])
        for connection in found:
            connections[connection.alias] = connection

    def close_idle(self, seconds: float = GRACE / 2) -> None:
        """Close what nobody has taken up for so long. Whoever put something down calls this a moment later."""
        with self._lock:
            fresh = monotonic() - seconds
            idle = [left for since, left in self._left if since <= fresh]
            self._left = [(since, left) for since, left in self._left if since > fresh]
        for connection in (connection for left in idle for connection in left):
            connection.close()


def close_unusable_connections() -> None:
    """Close what the last unit of work on this thread left broken, or what is too old; between two units of work.

    ``CONN_MAX_AGE = 0`` means one request in a web process. Here it means: as long as this thread has work.
    """
    reset_queries()  # what DEBUG keeps would grow for ever
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            continue
        if connection.settings_dict["CONN_MAX_AGE"] == 0:
            connection.close_at = None
        connection.close_if_unusable_or_obsolete()


def connect(direct: str | None, purpose: str) -> "psycopg.Connection[Any]":
    """A connection of our own beside Django's, in autocommit: to ``direct`` (an alias or a connection string),
    or to the system database.
    """
    if direct and direct not in connections:
        parameters: dict[str, Any] = {"conninfo": direct}
    else:
        parameters = connections[direct or vendor.alias()].get_connection_params()
        for name in ("pool", "cursor_factory", "context", "prepare_threshold"):
            parameters.pop(name, None)
        if vendor.is_pooled(connections[direct or vendor.alias()]):
            parameters["prepare_threshold"] = None
    ours: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT, "application_name": f"django-dbos {purpose}"}
    return psycopg.connect(**{**ours, **parameters}, autocommit=True)
