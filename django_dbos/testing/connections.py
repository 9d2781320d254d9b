"""The test's own connections, lent to the threads on which its workflows run, one at a time."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

Connections = dict[str, BaseDatabaseWrapper]

_SAVEPOINT = "dbos_statement"


@contextmanager
def lent() -> Iterator[Connections]:
    """This thread's connections, fit to be used by other threads in the block."""
    ours: Connections = {alias: connections[alias] for alias in connections}
    with ExitStack() as stack:
        for connection in ours.values():
            connection.inc_thread_sharing()
            stack.callback(connection.dec_thread_sharing)
            stack.enter_context(connection.execute_wrapper(_as_in_autocommit))
        yield ours


@contextmanager
def borrowed(theirs: Connections) -> Iterator[None]:
    """Use another thread's connections in the block."""
    for alias, connection in theirs.items():
        connections[alias] = connection
    try:
        yield
    finally:
        for alias in theirs:
            del connections[alias]


def _as_in_autocommit(
    execute: Callable[..., Any], sql: Any, parameters: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Let a statement that fails take nothing else with it, although it runs in the transaction of a TestCase."""
    connection: BaseDatabaseWrapper = context["connection"]
    if not _is_in_test_transaction(connection):
        return execute(sql, parameters, many, context)
    connection.needs_rollback = False
    if connection.vendor != "postgresql" or str(sql).startswith(("SAVEPOINT", "RELEASE", "ROLLBACK")):
        return execute(sql, parameters, many, context)
    with connection.connection.cursor() as cursor:
        cursor.execute(f"SAVEPOINT {_SAVEPOINT}")
        try:
            result = execute(sql, parameters, many, context)
        except BaseException:
            cursor.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
            raise
        finally:
            cursor.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        return result


def _is_in_test_transaction(connection: BaseDatabaseWrapper) -> bool:
    blocks = connection.atomic_blocks
    return bool(blocks) and getattr(blocks[-1], "_from_testcase", False)
