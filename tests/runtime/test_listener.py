"""The listener: wake-ups of other processes, on PostgreSQL."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from psycopg.conninfo import make_conninfo

from django_dbos import Queue, Runtime, workflow
from django_dbos.hub import WORK, hub
from django_dbos.runtime.listener import Listener
from django_dbos.sysdb import vendor
from tests.support import eventually
from tests.sysdb.rows import elsewhere

# What these tests write is no more than a NOTIFY, which leaves nothing behind: nothing has to be emptied.
reading = pytest.mark.django_db(databases=["default", "other"])
committed = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has LISTEN")

QUEUE = Queue("listened to")
NOBODY_THERE = "host=127.0.0.1 port=1 dbname=nothing"


@workflow
def heard() -> str:
    return "done"


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    listener.start()
    try:
        yield listener
    finally:
        listener.stop()
        listener.join(10)
        assert listener._thread is not None
        assert not listener._thread.is_alive()


def query(sql: str, *parameters: Any) -> Any:
    def ask() -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    return elsewhere(ask)


def backends() -> list[int]:
    """The server's processes that serve a listener of this database."""
    rows = query(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'django-dbos listener'"
        " AND datname = CURRENT_DATABASE() AND query LIKE 'LISTEN%%'"
    )
    return [pid for (pid,) in rows]


def say(channel: str) -> None:
    def notify() -> None:
        with transaction.atomic():
            vendor.notify(channel)

    elsewhere(notify)


@reading
def test_what_another_connection_says_wakes_who_listens_here() -> None:
    with listening(), hub.listen("one") as one, hub.listen("another") as another:
        eventually(backends)
        eventually(lambda: hub.is_hearing)  # everyone looks when the listener begins to hear
        one.wait(0)
        another.wait(0)
        say("one")
        assert one.wait(10)
        assert not another.is_set()


@reading
def test_many_wake_ups_at_once_all_come() -> None:
    channels = [f"channel {number}" for number in range(50)]
    with listening(), hub.listen(WORK) as begun:
        eventually(begun.is_set)
        heard_of = {channel: hub.listen(channel) for channel in channels}
        signals = {channel: listen.__enter__() for channel, listen in heard_of.items()}

        def say_all() -> None:
            with transaction.atomic():
                for channel in channels:
                    vendor.notify(channel)

        elsewhere(say_all)
        eventually(lambda: all(signal.is_set() for signal in signals.values()))
        for listen in heard_of.values():
            listen.__exit__(None, None, None)


@reading
def test_when_its_connection_breaks_it_listens_again_and_wakes_everyone(caplog: pytest.LogCaptureFixture) -> None:
    with listening(), hub.listen("one") as signal:
        eventually(lambda: hub.is_hearing)
        signal.wait(0)
        (pid,) = eventually(backends)
        query("SELECT pg_terminate_backend(%s)", pid)
        assert signal.wait(10), "what was said while nobody listened is looked for"
        assert eventually(backends) != [pid]
        signal.wait(0)
        say("one")
        assert signal.wait(10)
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == 2, messages
        assert messages[0].startswith("Cannot listen, so that everything is found a poll later: ")
        assert messages[1] == "Listening again"


@reading
def test_it_may_listen_through_a_database_of_its_own() -> None:
    with (
        override_settings(DBOS={"LISTEN_DSN": "other"}),
        listening() as listener,
        hub.listen(WORK) as signal,
    ):
        eventually(signal.is_set)
        assert listener._connection is not None
        assert listener._connection.info.dbname.endswith("_other")


@reading
def test_it_may_listen_by_a_connection_string() -> None:
    settings = connection.settings_dict
    dsn = make_conninfo(
        host=settings["HOST"] or None,
        port=settings["PORT"] or None,
        user=settings["USER"] or None,
        password=settings["PASSWORD"] or None,
        dbname=settings["NAME"],
        application_name="by-string",
    )
    with override_settings(DBOS={"LISTEN_DSN": dsn}), listening(), hub.listen("one") as signal:
        eventually(signal.is_set)
        signal.wait(0)
        say("one")
        assert signal.wait(10)


@committed
def test_where_it_cannot_listen_it_says_so_once_and_work_is_found_by_polling(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, attempts = Listener._connect, []

    def count(listener: Listener) -> Any:
        attempts.append(1)
        return connect(listener)

    monkeypatch.setattr(Listener, "_connect", count)
    with override_settings(DBOS={"LISTEN_DSN": NOBODY_THERE, "POLL_INTERVAL": 0.05}), Runtime(queues=["listened to"]):
        for _ in range(5):
            assert elsewhere(lambda: QUEUE.enqueue(heard)).get_result(timeout=10) == "done"
        eventually(lambda: len(attempts) >= 3)
    said = [record.getMessage() for record in caplog.records if "isten" in record.getMessage()]
    assert len(said) == 1, said
    assert "Connection refused" in said[0]


@reading
@pytest.mark.parametrize("dsn", [None, NOBODY_THERE], ids=["listening", "backing off"])
def test_it_stops_at_once(dsn: str | None) -> None:
    with override_settings(DBOS={"LISTEN_DSN": dsn}):
        listener = Listener()
        listener.start()
        eventually((lambda: listener._is_deaf) if dsn else backends)
        begin = time.monotonic()
        listener.stop()
        listener.join(10)
        assert time.monotonic() - begin < 1
        assert listener._connection is None


@reading
def test_stopping_twice_is_fine() -> None:
    with listening() as listener:
        listener.stop()
        listener.join(10)
