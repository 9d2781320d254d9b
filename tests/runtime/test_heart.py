"""The heart of a process that calls workflows directly: it beats while there are any, and holds nothing."""

import threading
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import override_settings

from django_dbos import step, workflow
from django_dbos.models import Executor
from django_dbos.runtime import heart
from django_dbos.runtime.heart import stop_heart
from tests.runtime.conftest import Opened, threads
from tests.support import eventually
from tests.sysdb.rows import committed, elsewhere, holding, postgresql, rolled_back, state_of

gate = threading.Event()
inside = threading.Event()


@step
def held_in_a_direct_call() -> None:
    inside.set()
    gate.wait(10)


@workflow
def direct_call() -> str:
    return "done"


@workflow
def held_direct_call() -> None:
    held_in_a_direct_call()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    stop_heart()
    gate.clear()
    inside.clear()
    yield
    gate.set()
    stop_heart()


def beats() -> int:
    return len(threads("dbos-heart"))


@committed
def test_it_starts_with_the_first_direct_call_and_there_is_one_for_all_calls() -> None:
    assert beats() == 0
    for _ in range(3):
        direct_call()
        assert beats() == 1
    assert state_of(Executor.objects.get().pk) == "running"
    stop_heart()
    assert beats() == 0
    assert state_of(Executor.objects.get().pk) == "stopped"


@committed
def test_it_beats_for_as_long_as_a_call_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heart, "LINGER", 0.05)
    with override_settings(DBOS={"HEARTBEAT_INTERVAL": 0.03}):
        caller = threading.Thread(target=lambda: elsewhere(held_direct_call))
        caller.start()
        assert inside.wait(10)
        seen = {Executor.objects.get().heartbeat_at}

        def has_beaten_five_times() -> bool:
            seen.add(Executor.objects.get().heartbeat_at)
            return len(seen) > 5

        eventually(has_beaten_five_times)
        gate.set()
        caller.join(10)
        eventually(lambda: beats() == 0)


@committed
@postgresql
def test_it_beats_also_if_it_had_stopped_while_the_call_waited_for_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heart, "LINGER", 0.05)

    def lock() -> None:
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE dbos_workflow IN EXCLUSIVE MODE")

    with override_settings(DBOS={"HEARTBEAT_INTERVAL": 0.03}):
        caller = threading.Thread(target=lambda: elsewhere(held_direct_call))
        with holding(lock):
            caller.start()
            eventually(lambda: Executor.objects.filter(state="stopped").exists())
        assert inside.wait(10)
        assert beats() == 1
        assert state_of(Executor.objects.get().pk) == "running", "its work would never be recovered"
        gate.set()
        caller.join(10)


@committed
def test_it_stops_when_nothing_was_called_for_a_while_and_the_next_call_starts_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heart, "LINGER", 0.05)
    with override_settings(DBOS={"HEARTBEAT_INTERVAL": 0.02}):
        for _ in range(3):
            assert direct_call() == "done"
            executor = Executor.objects.get()
            eventually(lambda: beats() == 0)
            assert state_of(executor.pk) == "stopped"
    assert Executor.objects.count() == 1, "the process is one executor, however often it rests"


@committed
def test_it_holds_no_connection_between_two_beats(opened: Opened) -> None:
    with override_settings(DBOS={"HEARTBEAT_INTERVAL": 0.05}):
        direct_call()
        eventually(lambda: len(opened.by("dbos-heart")) >= 3, message="each beat opens one")
        eventually(lambda: not opened.still_open("dbos-heart"))


@committed
def test_when_its_executors_row_is_gone_it_registers_again() -> None:
    with override_settings(DBOS={"HEARTBEAT_INTERVAL": 0.02}):
        direct_call()
        executor_id = Executor.objects.get().pk
        Executor.objects.all().delete()
        eventually(lambda: Executor.objects.filter(pk=executor_id, state="running").exists())


@rolled_back
def test_there_is_none_under_a_test_case() -> None:
    assert direct_call() == "done"
    assert connection.in_atomic_block
    assert beats() == 0
    assert not Executor.objects.exists()
