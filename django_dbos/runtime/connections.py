"""Connections belong to threads, and whoever owns a thread cleans up after itself.

A pool thread keeps its connections from one workflow to the next while there is work, closes them when there is
none or when its workflow waits, and drops a broken one before the next workflow could meet it.
"""

from typing import Any

import psycopg
from django.db import connections, reset_queries

from ..sysdb import vendor

#: Seconds after which a server that does not answer is given up, until the next try.
CONNECT_TIMEOUT = 10


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
