"""Where PostgreSQL and SQLite differ, and what is done when a database is away.

Nothing else in the package asks which database it talks to.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, F, Func, Q, TextField, Value
from django.db.transaction import Atomic, atomic

from .. import clock
from ..conf import conf
from ..hub import hub

logger = logging.getLogger("django_dbos")
T = TypeVar("T")

#: The database channel on which PostgreSQL carries the wake-ups of all processes; a payload is a hub channel.
CHANNEL: Final = "dbos"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Fragments of SQL that a vendor spells in its own way."""

    name: str
    #: The time of the statement.
    now: str
    #: The time so many seconds (one parameter) before the statement; a negative number is in the future.
    ago: str
    #: The time so many seconds (an expression, or a parameter) after the statement.
    later: str
    #: The time of the statement and so many microseconds, less than a thousand of them.
    nth: str
    #: How many seconds before the statement a column's time was.
    age: str
    #: A column's time in whole seconds since 1970.
    epoch: str
    #: "is one of these rows", so that they are found first and then looked up by their key.
    among: str
    #: "is one of these", for a list of texts as one parameter: see listed().
    listed: str
    #: What makes rows that another worker holds be passed over.
    skip_locked: str
    #: Whether one statement can claim from several queues at a time, each with its own quota.
    lateral: bool
    #: Whether NOTIFY exists.
    notifies: bool
    #: Whether rows of many workflows can be written by one statement, whose answer tells which were accepted.
    groups: bool
    #: What ends this transaction's session if its process stands still in the middle (a column of a SELECT).
    bounds_idling: str


POSTGRESQL: Final = Dialect(
    name="postgresql",
    now="STATEMENT_TIMESTAMP()",
    ago="STATEMENT_TIMESTAMP() - %s * INTERVAL '1 second'",
    later="STATEMENT_TIMESTAMP() + {} * INTERVAL '1 second'",
    nth="STATEMENT_TIMESTAMP() + {} * INTERVAL '1 microsecond'",
    age="EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - {})",
    epoch="CAST(FLOOR(EXTRACT(EPOCH FROM {})) AS BIGINT)",
    among="= ANY(ARRAY({}))",
    listed="= ANY(%s)",
    skip_locked="FOR UPDATE SKIP LOCKED",
    lateral=True,
    notifies=True,
    groups=True,
    bounds_idling="SET_CONFIG('idle_in_transaction_session_timeout', '10s', TRUE)",
)
# SQLite has one writer at a time: a statement that writes has all rows to itself, there is nothing to skip.
SQLITE: Final = Dialect(
    name="sqlite",
    now="STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')",
    ago="STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', PRINTF('%%+.6f seconds', -%s))",
    later="STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', PRINTF('%%+.6f seconds', {}))",
    nth="STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW') || PRINTF('%%03d', {})",
    age="(JULIANDAY('NOW') - JULIANDAY({})) * 86400.0",
    epoch="CAST(STRFTIME('%%s', {}) AS INTEGER)",
    among="IN ({})",
    listed="IN (SELECT value FROM JSON_EACH(%s))",
    skip_locked="",
    lateral=False,
    notifies=False,
    groups=False,
    bounds_idling="NULL",
)
_DIALECTS: Final = {dialect.name: dialect for dialect in (POSTGRESQL, SQLITE)}


def alias() -> str:
    """The alias of the system database."""
    database: str = conf.DATABASE
    return database


def connection() -> BaseDatabaseWrapper:
    """This thread's connection to the system database."""
    return connections[alias()]


def is_connected() -> bool:
    """Whether this thread has a connection to the system database open."""
    return connection().connection is not None


def dialect(using: str | None = None) -> Dialect:
    """How the system database (or another one) spells things."""
    return _DIALECTS.get(connections[using or alias()].vendor, POSTGRESQL)


def execute(sql: str, parameters: Sequence[Any], *, using: str | None = None) -> int:
    """Run one statement on the system database (or another one); the number of rows it changed."""
    with _run(connections[using or alias()], sql, parameters) as cursor:
        return int(cursor.rowcount)


def fetch(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run one statement on the system database; the rows it returns."""
    with _run(connection(), sql, parameters) as cursor:
        return list(cursor.fetchall())


def _run(database: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any]) -> Any:
    """The cursor on which a statement of ours has run.

    On PostgreSQL it goes round Django's cursor, which costs more than the statement, and is prepared by the server when
    it comes again and again; unless somebody looks at what is executed, or a pooler is in between.
    """
    if database.vendor != "postgresql" or database.execute_wrappers or database.queries_logged or is_pooled(database):
        cursor = database.cursor()
        cursor.execute(sql, parameters)
        return cursor
    database.validate_no_broken_transaction()
    database.ensure_connection()
    with database.wrap_database_errors:
        return psycopg.Cursor(database.connection).execute(sql, parameters, prepare=True)


def is_pooled(database: BaseDatabaseWrapper) -> bool:
    """Whether a pooler in transaction mode stands before a database, by what Django asks to be set then."""
    return bool(database.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"))


def current_time() -> datetime:
    """The database's time, in UTC."""
    moment = fetch(f"SELECT {dialect().now}", ())[0][0]
    return datetime.fromisoformat(moment).replace(tzinfo=UTC) if isinstance(moment, str) else moment.astimezone(UTC)


def listed(values: Iterable[str]) -> Any:
    """Texts as the one parameter of ``listed``, however many there are."""
    return list(values) if dialect().groups else json.dumps(list(values))


def table_of(names: Sequence[str]) -> str:
    """What can be selected from, for lists of texts: a column for each, and ``n``, the row's number from 1."""
    if dialect().lateral:
        # Not arrays: the driver would look at each text by itself, which takes longer than all the rest.
        lists = ", ".join(["JSON_ARRAY_ELEMENTS_TEXT(%s)"] * len(names))
        return f"ROWS FROM ({lists}) WITH ORDINALITY AS v ({', '.join(names)}, n)"
    columns = ", ".join(f"JSON_EXTRACT(value, '$[{place}]') AS {name}" for place, name in enumerate(names))
    return f"(SELECT {columns}, key + 1 AS n FROM JSON_EACH(%s)) v"  # noqa: S608


def table_parameters(lists: Sequence[Sequence[str]]) -> list[Any]:
    """The parameters of a table_of() with these columns."""
    if dialect().lateral:
        return [json.dumps(values) for values in lists]
    return [json.dumps(list(zip(*lists, strict=True)))]


def moment(value: datetime) -> Any:
    """A moment as a parameter of our own SQL."""
    return connection().ops.adapt_datetimefield_value(value)


def as_stored(moment: datetime | None) -> Any:
    """A time as a column holds it that the database filled in, for comparing the two; SQLite compares their texts."""
    if moment is None or dialect().name != SQLITE.name:
        return moment
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat(" ", "microseconds" if utc.microsecond % 1000 else "milliseconds")


def transaction() -> Atomic:
    """One short transaction on the system database."""
    return atomic(using=alias())


def in_transaction(using: str | None = None) -> bool:
    """Whether the caller has a transaction open that could still be rolled back (a TestCase's own does not count)."""
    blocks = connections[using or alias()].atomic_blocks
    return bool(blocks) and not getattr(blocks[-1], "_from_testcase", False)


def in_test_transaction() -> bool:
    """Whether this thread is inside the transaction of a TestCase: what it writes nobody else ever sees."""
    return connection().in_atomic_block and not in_transaction()


def notify(*channels: str) -> None:
    """Tell every process, when the current transaction commits, to look at what these channels stand for."""
    if dialect().notifies and channels:
        listed = ", ".join(["(%s)"] * len(channels))
        execute(f"SELECT pg_notify(%s, c.column1) FROM (VALUES {listed}) AS c", (CHANNEL, *channels))  # noqa: S608


# What is asked for and what is there, both taken apart: each part of the one has to be among those of the other.
_CONTAINS_SQLITE: Final = {
    "template": """NOT EXISTS (SELECT 1 FROM JSON_TREE(%(expressions)s) own WHERE own.fullkey = asked.fullkey
        AND REPLACE(own.type, 'real', 'integer') = REPLACE(asked.type, 'real', 'integer')
        AND (asked.type = 'object' OR own.value IS asked.value)))""",
    "arg_joiner": ") asked WHERE asked.path NOT LIKE '%%[%%' AND NOT EXISTS (SELECT 1 FROM JSON_TREE(",
}


def contains(column: str, document: Mapping[str, Any]) -> Q:
    """Whether a column of JSON has every key of a document, with the same value; for a filter."""
    if dialect().name == POSTGRESQL.name:
        return Q(**{f"{column}__contains": document})
    asked = Value(json.dumps(document), output_field=TextField())
    return Q(Func(asked, F(column), output_field=BooleanField(), **_CONTAINS_SQLITE))


def wake_on_commit(*channels: str) -> None:
    """Wake who listens in this process, when the current transaction commits; at once where there is none."""

    def wake() -> None:
        for channel in channels:
            hub.wake(channel)

    connection().on_commit(wake)


def telling(dialect: Dialect, kind: str, row: str) -> str:
    """An expression that tells every process of ``kind`` of news, if somebody asked to be told; for a RETURNING.

    ``row`` is the workflow's row in that statement, locked by it, so that whoever asks at this moment is either seen
    here or sees what is committed here.
    """
    if not dialect.notifies:
        return "NULL"
    return f"CASE WHEN {row}.is_awaited THEN pg_notify('{CHANNEL}', '{kind}:' || {row}.id)::text END"


def begin(using: str, *, isolation_level: str | None, read_only: bool) -> None:
    """Give the transaction that has just been opened its isolation level and access mode.

    SQLite is always serializable, and a TestCase's transaction has begun long ago: there nothing is said.
    """
    database = connections[using]
    if database.vendor != "postgresql" or len(database.atomic_blocks) > 1 or not (isolation_level or read_only):
        return
    modes = [f"ISOLATION LEVEL {isolation_level}"] if isolation_level else []
    modes += ["READ ONLY"] if read_only else []
    with database.cursor() as cursor:
        cursor.execute(f"SET TRANSACTION {', '.join(modes)}")


# SQLSTATE classes and codes that pass by themselves: connection lost, shutdown and restart, out of resources
# (connections, disk), a standby that is still read-only.
_OUTAGE: Final = ("08", "53", "57P", "25006")
_OUTAGE_SQLITE: Final = ("database is locked", "disk is full", "readonly database", "disk I/O error", "unable to open")
_CONFLICT: Final = ("40001", "40P01")


def _sqlstate(error: BaseException) -> str | None:
    state: str | None = getattr(error.__cause__, "sqlstate", None)
    return state


def is_conflict(error: BaseException) -> bool:
    """Whether a transaction failed only because another one ran beside it: it may simply be run again."""
    if not isinstance(error, DatabaseError):
        return False
    return _sqlstate(error) in _CONFLICT or "database is locked" in str(error)


def is_outage(error: BaseException) -> bool:
    """Whether the database is away, or full, or read-only, rather than asked for something wrong."""
    if not isinstance(error, OperationalError | InterfaceError | DatabaseError):
        return False
    state = _sqlstate(error)
    if state is not None:
        return state.startswith(_OUTAGE)
    if any(words in str(error) for words in _OUTAGE_SQLITE):
        return True
    # A lost connection has no SQLSTATE: nothing came back that could carry one.
    return isinstance(error, OperationalError | InterfaceError) and connection().vendor == "postgresql"


def wrapped(error: psycopg.Error) -> DatabaseError:
    """An error of the driver as Django would raise it."""
    kind = OperationalError if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else DatabaseError
    wrapping = kind(*error.args)
    wrapping.__cause__ = error
    return wrapping


def is_refused_write(error: BaseException) -> bool:
    """Whether a write was refused because the transaction is read-only."""
    return _sqlstate(error) == "25006"


class _Outage:
    """One log line when a database goes away and one when it is back, however many threads notice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None
        self._thread = threading.local()

    def begins(self, error: BaseException) -> None:
        # A connection that broke is no outage: only a thread that does not get on with a new one either sees that.
        if not getattr(self._thread, "has_failed", False):
            self._thread.has_failed = True
            return
        with self._lock:
            if self._since is None:
                self._since = clock.monotonic()
                logger.warning("The database cannot be used, waiting for it: %s", " ".join(str(error).split()))

    def ends(self) -> None:
        self._thread.has_failed = False
        if self._since is None:
            return
        with self._lock:
            if self._since is not None:
                logger.warning("The database can be used again after %.1f s", clock.monotonic() - self._since)
                self._since = None


_outage = _Outage()
outage_seen = _outage.begins
outage_over = _outage.ends


def discard_connection(using: str | None = None) -> None:
    """Close this thread's connection, so that the next statement opens a new one; not inside a transaction."""
    database = connections[using or alias()]
    if not database.in_atomic_block:
        with suppress(DatabaseError, InterfaceError):
            database.close()


def patiently(work: Callable[[], T], *, pause: Callable[[float], None]) -> T:
    """Do ``work``, and again until the database can do it; ``pause(seconds)`` waits, or raises to give up.

    ``work`` must be safe to repeat: when a connection breaks nobody knows whether its last statement committed.
    """
    for delay in clock.backoff(0.01, 2, 5.0):
        try:
            result = work()
        except (DatabaseError, InterfaceError) as error:
            if in_transaction() or not (is_outage(error) or is_conflict(error)):
                raise
            if not is_conflict(error):
                _outage.begins(error)
            discard_connection()
            pause(delay)
        else:
            _outage.ends()
            return result
    raise AssertionError("a back-off never ends")
