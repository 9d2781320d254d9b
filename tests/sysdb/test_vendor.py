"""What the two databases say differently, told by their own real errors; and patience while one is away."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, InterfaceError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_dbos import clock
from django_dbos.models import Queue
from django_dbos.sysdb import vendor
from tests.support import eventually, statements
from tests.sysdb.rows import committed, elsewhere, holding, postgresql, rolled_back, together

sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="these are SQLite's errors")


def error_of(work: Callable[[], Any]) -> Exception:
    """The error that Django raises for this."""
    try:
        work()
    except (DatabaseError, InterfaceError) as error:
        return error
    raise AssertionError("no error")


def verdict(error: BaseException) -> tuple[bool, bool]:
    """(is_conflict, is_outage)"""
    return vendor.is_conflict(error), vendor.is_outage(error)


CONFLICT, OUTAGE, NEITHER = (True, False), (False, True), (False, False)


@contextmanager
def another_connection(**settings: Any) -> Iterator[BaseDatabaseWrapper]:
    """A connection to the database of the test with other settings."""
    other = connection.copy("default")
    other.settings_dict = {**other.settings_dict, **settings}
    try:
        yield other
    finally:
        other.close()


def ask(database: BaseDatabaseWrapper, sql: str = "SELECT 1") -> Any:
    with database.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


def ask_nowhere() -> None:
    """As if the server, or the disk, was gone."""
    nowhere = {"HOST": "127.0.0.1", "PORT": "1"} if connection.vendor == "postgresql" else {"NAME": "/nowhere/at/all"}
    with another_connection(**nowhere) as database:
        ask(database)


# ---- classification


def ask_wrongly(sql: str = "SELEKT 1") -> None:
    with transaction.atomic():
        ask(connection, sql)


@rolled_back
@pytest.mark.parametrize(
    "sql", ["SELEKT 1", "SELECT 1 FROM no_such_table", "INSERT INTO dbos_queue (name) VALUES (NULL)"]
)
def test_a_wrong_statement_is_neither_a_conflict_nor_an_outage(sql: str) -> None:
    assert verdict(error_of(lambda: ask_wrongly(sql))) == NEITHER


@pytest.mark.parametrize("error", [ValueError("database is locked"), OSError("disk I/O error"), KeyboardInterrupt()])
def test_what_is_no_error_of_a_database_is_neither(error: BaseException) -> None:
    assert verdict(error) == NEITHER


def test_a_database_that_cannot_be_reached_is_an_outage() -> None:
    assert verdict(error_of(ask_nowhere)) == OUTAGE


@committed
@postgresql
def test_a_serialization_failure_is_a_conflict() -> None:
    Queue.objects.create(name="q")

    def collide() -> None:
        with transaction.atomic():
            vendor.begin("default", isolation_level="REPEATABLE READ", read_only=False)
            Queue.objects.get()
            elsewhere(lambda: Queue.objects.update(is_paused=True))
            Queue.objects.update(is_paused=False)

    assert verdict(error_of(collide)) == CONFLICT


@committed
@postgresql
def test_a_deadlock_is_a_conflict_for_the_one_that_is_chosen() -> None:
    Queue.objects.bulk_create([Queue(name="a"), Queue(name="b")])
    both_hold_one = threading.Barrier(2)

    def lock(first: str, second: str) -> tuple[bool, bool] | None:
        try:
            with transaction.atomic():
                ask(connection, "SET LOCAL deadlock_timeout = '20ms'")
                Queue.objects.select_for_update().get(pk=first)
                both_hold_one.wait(10)
                Queue.objects.select_for_update().get(pk=second)
        except DatabaseError as error:
            return verdict(error)
        return None

    assert sorted(together(lambda: lock("a", "b"), lambda: lock("b", "a")), key=bool) == [None, CONFLICT]


@committed
@postgresql
def test_the_time_limits_that_a_user_has_set_are_neither() -> None:
    Queue.objects.create(name="q")

    def limited(setting: str, sql: str) -> None:
        with transaction.atomic():
            ask(connection, f"SET LOCAL {setting} = '5ms'")
            ask(connection, sql)

    with holding(lambda: Queue.objects.select_for_update().get()):
        locked = error_of(lambda: limited("lock_timeout", "SELECT 1 FROM dbos_queue FOR UPDATE"))
    assert verdict(locked) == NEITHER
    assert verdict(error_of(lambda: limited("statement_timeout", "SELECT pg_sleep(10)"))) == NEITHER


def break_connection() -> None:
    """End this thread's connection from another one, as a restart of the server would."""
    pid = ask(connection, "SELECT pg_backend_pid()")
    with another_connection() as other:
        ask(other, f"SELECT pg_terminate_backend({pid})")
        eventually(lambda: not ask(other, f"SELECT COUNT(*) FROM pg_stat_activity WHERE pid = {pid}"))


@committed
@postgresql
def test_a_terminated_connection_is_an_outage_at_the_first_statement_and_at_the_next() -> None:
    def broken() -> list[tuple[bool, bool]]:
        break_connection()
        return [verdict(error_of(lambda: ask(connection))) for _ in range(2)]

    assert elsewhere(broken) == [OUTAGE, OUTAGE]


@committed
@postgresql
def test_a_server_that_only_reads_is_an_outage() -> None:
    def write_read_only() -> None:
        with transaction.atomic():
            vendor.begin("default", isolation_level=None, read_only=True)
            Queue.objects.create(name="q")

    refused = error_of(write_read_only)
    assert verdict(refused) == OUTAGE
    assert vendor.is_refused_write(refused)
    assert not vendor.is_refused_write(error_of(ask_nowhere))


@committed
@sqlite
def test_a_locked_database_is_a_conflict() -> None:
    def write_at_once() -> tuple[bool, bool]:
        ask(connection, "PRAGMA busy_timeout = 0")
        return verdict(error_of(lambda: Queue.objects.create(name="ours")))

    with holding(lambda: Queue.objects.create(name="theirs")):
        is_conflict, _ = elsewhere(write_at_once)
    assert is_conflict


@committed
@sqlite
def test_a_file_that_can_only_be_read_is_an_outage() -> None:
    settings = connection.settings_dict
    options = {**settings["OPTIONS"], "uri": True, "init_command": ""}
    with another_connection(NAME=f"file:{settings['NAME']}?mode=ro", OPTIONS=options) as database:
        assert verdict(error_of(lambda: ask(database, "DELETE FROM dbos_queue"))) == OUTAGE


@sqlite
def test_a_full_disk_is_an_outage(tmp_path: Path) -> None:
    with another_connection(NAME=str(tmp_path / "full.sqlite3")) as database:
        ask(database, "CREATE TABLE filling (value TEXT)")
        ask(database, "PRAGMA max_page_count = 2")
        assert verdict(error_of(lambda: ask(database, "INSERT INTO filling VALUES (ZEROBLOB(100000))"))) == OUTAGE


# ---- patience


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What is logged, from a time on when the database was there."""
    monkeypatch.setattr(vendor, "_outage", vendor._Outage())
    caplog.set_level(logging.WARNING, "django_dbos")
    return lambda: [record.getMessage() for record in caplog.records]


class Failing:
    """Work that cannot be done the first ``times`` times."""

    def __init__(self, times: int, fail: Callable[[], None] = ask_nowhere) -> None:
        self.times = times
        self.fail = fail
        self.attempts = 0

    def __call__(self) -> str:
        self.attempts += 1
        if self.attempts <= self.times:
            self.fail()
        return "done"


def test_an_outage_is_waited_for_with_growing_pauses(messages: Callable[[], list[str]]) -> None:
    pauses: list[float] = []
    assert vendor.patiently(Failing(5), pause=pauses.append) == "done"
    assert len(pauses) == 5
    assert pauses == sorted(pauses)
    away, back = messages()
    assert "waiting for it" in away
    assert "can be used again" in back


def test_a_connection_that_broke_once_is_no_outage(messages: Callable[[], list[str]]) -> None:
    assert vendor.patiently(Failing(1), pause=lambda seconds: None) == "done"
    assert messages() == []


@committed
@postgresql
def test_after_a_broken_connection_the_next_attempt_has_a_new_one() -> None:
    def work() -> list[Any]:
        seen: list[Any] = []

        def ask_after_the_break() -> Any:
            if not seen:
                seen.append(ask(connection, "SELECT pg_backend_pid()"))
                break_connection()
            return ask(connection, "SELECT pg_backend_pid()")

        return [vendor.patiently(ask_after_the_break, pause=lambda seconds: None), *seen]

    after, before = elsewhere(work)
    assert after != before


@committed
@sqlite
def test_a_locked_database_is_tried_again_until_it_is_free(messages: Callable[[], list[str]]) -> None:
    def write() -> str:
        ask(connection, "PRAGMA busy_timeout = 0")
        Queue.objects.create(name="ours")
        return "written"

    with holding(lambda: Queue.objects.create(name="theirs")):
        failed, written = threading.Event(), []
        waiting = threading.Thread(
            target=lambda: together(
                lambda: written.append(vendor.patiently(write, pause=lambda seconds: failed.set()))
            ),
        )
        waiting.start()
        assert failed.wait(10)
    waiting.join(10)
    assert written == ["written"]
    assert messages() == [], "somebody else writes: that is no outage"


class GivenUp(Exception):
    """Raised by a pause."""


def test_it_gives_up_when_the_pause_says_so(messages: Callable[[], list[str]]) -> None:
    def pause(seconds: float) -> None:
        raise GivenUp

    work = Failing(99)
    with pytest.raises(GivenUp):
        vendor.patiently(work, pause=pause)
    assert work.attempts == 1


def never(seconds: float) -> None:
    raise AssertionError("there is nothing to wait for")


@rolled_back
def test_what_is_wrong_is_not_tried_again() -> None:
    work = Failing(99, ask_wrongly)
    with pytest.raises(DatabaseError):
        vendor.patiently(work, pause=never)
    assert work.attempts == 1


@rolled_back
def test_nothing_is_tried_again_inside_atomic() -> None:
    work = Failing(99)
    with pytest.raises(DatabaseError), transaction.atomic():
        vendor.patiently(work, pause=never)
    assert work.attempts == 1


def test_an_outage_is_one_log_line_however_many_threads_notice(messages: Callable[[], list[str]]) -> None:
    all_have_noticed = threading.Barrier(4)

    def wait_for_it() -> str:
        work = Failing(4)

        def attempt() -> str:
            if work.attempts == work.times:
                all_have_noticed.wait(10)
            return work()

        return vendor.patiently(attempt, pause=lambda seconds: None)

    assert together(*[wait_for_it] * 4) == ["done"] * 4
    assert len(messages()) == 2, messages()
    vendor.patiently(Failing(2), pause=lambda seconds: None)
    assert len(messages()) == 4, "the next outage is another one"


# ---- transactions and time


@rolled_back
def test_a_test_cases_own_transaction_does_not_count() -> None:
    assert not vendor.in_transaction()
    assert vendor.in_test_transaction()
    with transaction.atomic():
        assert vendor.in_transaction()
        assert not vendor.in_test_transaction()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_transaction_that_could_be_rolled_back_counts() -> None:
    assert not vendor.in_transaction()
    assert not vendor.in_test_transaction()
    with transaction.atomic():
        assert vendor.in_transaction()
        assert not vendor.in_test_transaction()
        assert not elsewhere(vendor.in_transaction), "it is another thread's"
    with transaction.atomic(using="other"):
        assert not vendor.in_transaction()
        assert vendor.in_transaction("other")


@rolled_back
def test_the_databases_time_is_now_and_in_utc() -> None:
    times = [clock.now(), vendor.current_time(), clock.now()]
    assert all(abs((moment - times[0]).total_seconds()) < 2 for moment in times)
    assert {moment.utcoffset() for moment in times} == {clock.now().utcoffset()}


@rolled_back
@pytest.mark.parametrize("seconds", [0.0, 0.5, 90.0, 86400.0 * 400, -3600.0])
def test_so_many_seconds_ago_is_computed_by_the_database(seconds: float) -> None:
    words = vendor.dialect()
    ((age,),) = vendor.fetch(
        f"SELECT {words.age.format('moment')} FROM (SELECT {words.ago} AS moment) AS asked"
        if words.name == "sqlite"
        else f"SELECT {words.age.format('moment')} FROM (SELECT {words.ago} AS moment) asked",
        (seconds,),
    )
    assert float(age) == pytest.approx(seconds, abs=0.01)


# ---- connections and wake-ups


@committed
def test_a_connection_is_discarded_but_never_inside_a_transaction() -> None:
    def discard() -> tuple[bool, bool]:
        with transaction.atomic():
            ask(connection)
            vendor.discard_connection()
            kept = connection.connection is not None
        vendor.discard_connection()
        return kept, connection.connection is None

    assert elsewhere(discard) == (True, True)
    assert len(connections.all(initialized_only=True)) >= 1


@committed
@postgresql
def test_a_wake_up_is_sent_when_the_transaction_commits_and_not_when_it_is_rolled_back() -> None:
    parameters = connection.get_connection_params()
    target = psycopg.conninfo.make_conninfo(
        **{name: parameters[name] for name in ("dbname", "user", "password", "host", "port") if parameters.get(name)}
    )
    with psycopg.connect(target, autocommit=True) as listener:
        listener.execute(f"LISTEN {vendor.CHANNEL}")
        with transaction.atomic():
            vendor.notify("lost")
            transaction.set_rollback(True)
        with transaction.atomic():
            vendor.notify("kept")
        (notification,) = listener.notifies(timeout=10, stop_after=1)
    assert (notification.channel, notification.payload) == ("dbos", "kept")


@committed
@sqlite
def test_where_nobody_can_be_told_nothing_is_sent() -> None:
    with statements() as sent:
        vendor.notify("work")
    assert sent == []
