"""A service: it ticks, is woken, backs off after an error, and ends when it is told to."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection

from django_dbos.hub import hub
from django_dbos.runtime.service import Service
from django_dbos.sysdb import vendor
from tests.support import eventually

CHANNEL = "tests of services"


class Probe(Service):
    """Does what the test says at each tick."""

    name = "probe"
    channels = (CHANNEL,)

    def __init__(self, work: Callable[[int], float] = lambda number: 3600) -> None:
        super().__init__()
        self.work = work
        self.ticks: list[float] = []

    def tick(self) -> float:
        """Count, and do the work."""
        self.ticks.append(time.monotonic())
        return self.work(len(self.ticks))


@contextmanager
def running(service: Service) -> Iterator[Service]:
    service.start()
    try:
        yield service
    finally:
        service.stop()
        service.join(10)
        assert not alive(service)


def alive(service: Service) -> bool:
    return service._thread is not None and service._thread.is_alive()


def fails_until(number: int, error: Exception) -> Callable[[int], float]:
    def work(tick: int) -> float:
        if tick < number:
            raise error
        return 3600

    return work


def test_it_ticks_at_once_and_then_when_it_is_woken() -> None:
    probe = Probe()
    with running(probe):
        eventually(lambda: len(probe.ticks) == 1)
        hub.wake("another channel")
        hub.wake(CHANNEL)
        eventually(lambda: len(probe.ticks) == 2)
        hub.wake_everyone()
        eventually(lambda: len(probe.ticks) == 3)


def test_it_ticks_again_after_the_seconds_that_the_tick_gave() -> None:
    probe = Probe(lambda number: 0.02 if number < 4 else 3600)
    with running(probe):
        eventually(lambda: len(probe.ticks) == 4)
    gaps = [after - before for before, after in zip(probe.ticks, probe.ticks[1:], strict=False)]
    assert min(gaps) >= 0.019


def test_a_wake_up_during_a_tick_is_not_lost() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def work(number: int) -> float:
        inside.set()
        go_on.wait(10)
        return 3600

    probe = Probe(work)
    with running(probe):
        assert inside.wait(10)
        hub.wake(CHANNEL)
        go_on.set()
        eventually(lambda: len(probe.ticks) == 2)


def test_after_an_error_it_backs_off_and_ticks_again(caplog: pytest.LogCaptureFixture) -> None:
    probe = Probe(fails_until(4, ValueError("boom")))
    with running(probe):
        eventually(lambda: len(probe.ticks) == 4)
    gaps = [after - before for before, after in zip(probe.ticks, probe.ticks[1:], strict=False)]
    assert gaps[0] >= 0.04
    assert gaps[2] > gaps[0]
    assert [record.getMessage() for record in caplog.records] == ["The probe failed, and tries again"] * 3
    assert all(record.exc_info for record in caplog.records)


def test_after_a_good_tick_the_back_off_begins_anew() -> None:
    def work(number: int) -> float:
        if number % 2:
            raise ValueError("boom")
        return 0

    probe = Probe(work)
    with running(probe):
        eventually(lambda: len(probe.ticks) >= 9, timeout=2)


def test_an_outage_is_logged_once_for_all_and_not_as_a_failure(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor, "_outage", vendor._Outage())
    monkeypatch.setattr(vendor, "outage_seen", vendor._outage.begins)
    caplog.set_level(logging.WARNING, "django_dbos")
    away = "unable to open database file" if connection.vendor == "sqlite" else "the connection is closed"
    probe = Probe(fails_until(4, OperationalError(away)))
    with running(probe):
        eventually(lambda: len(probe.ticks) == 4)
    assert [record.getMessage() for record in caplog.records] == [
        f"The database cannot be used, waiting for it: {away}"
    ]


def test_stopping_ends_a_long_wait_at_once() -> None:
    probe = Probe()
    probe.start()
    eventually(lambda: len(probe.ticks) == 1)
    probe.stop()
    probe.join(5)
    assert not alive(probe)
    assert len(probe.ticks) == 1


def test_stopping_ends_a_back_off_at_once(caplog: pytest.LogCaptureFixture) -> None:
    probe = Probe(fails_until(99, ValueError("boom")))
    probe.start()
    eventually(lambda: len(probe.ticks) >= 3)
    probe.stop()
    probe.join(5)
    assert not alive(probe)


def test_one_that_is_stopped_before_it_could_begin_never_ticks() -> None:
    probe = Probe()
    probe.stop()
    with running(probe):
        probe.join(10)
    assert probe.ticks == []


def test_stopping_and_joining_twice_is_fine_and_so_is_one_that_never_started() -> None:
    probe = Probe()
    probe.join()
    with running(probe):
        pass
    probe.stop()
    probe.join()


def test_a_pause_ends_when_the_service_stops() -> None:
    probe = Probe()
    probe.pause(0)
    probe.stop()
    assert probe.is_stopping
    with pytest.raises(InterruptedError, match="the probe stops"):
        probe.pause(3600)


def test_an_error_while_it_stops_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    probe = Probe()

    def work(number: int) -> float:
        probe.stop()
        raise InterruptedError("the probe stops")

    probe.work = work
    probe.start()
    probe.join(10)
    assert not alive(probe)
    assert caplog.records == []


@pytest.mark.django_db(transaction=True)
def test_its_connection_is_closed_with_its_thread() -> None:
    seen: list[bool] = []

    def work(number: int) -> float:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        wrappers.append(vendor.connection())
        return 3600

    wrappers: list[object] = []
    probe = Probe(work)
    with running(probe):
        eventually(lambda: len(wrappers) == 1)
        seen.append(getattr(wrappers[0], "connection", None) is not None)
    seen.append(getattr(wrappers[0], "connection", None) is not None)
    assert seen == [True, False]
