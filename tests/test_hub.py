"""The hub: wake-ups inside one process, for threads and for event loops."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from django_dbos import hub as hub_module
from django_dbos.hub import Hub, Signal, interruption_of, outcome_of
from tests.support import eventually


@pytest.fixture
def hub() -> Hub:
    return Hub()


def woken(signal: Signal, on_loop: bool, timeout: float = 10) -> bool:
    """Wait as a thread does, or as a task of an event loop."""
    return asyncio.run(signal.await_(timeout)) if on_loop else signal.wait(timeout)


waiters = pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "event loop"])


@waiters
def test_a_wake_up_before_the_wait_is_not_lost_and_counts_once(hub: Hub, on_loop: bool) -> None:
    with hub.listen("a") as signal:
        hub.wake("a")
        hub.wake("a")
        assert signal.is_set()
        assert woken(signal, on_loop)
        assert not signal.is_set()
        assert not woken(signal, on_loop, 0.01)


@waiters
def test_a_wake_up_ends_a_wait(hub: Hub, on_loop: bool) -> None:
    results: list[bool] = []
    with hub.listen("a") as signal:
        waiter = threading.Thread(target=lambda: results.append(woken(signal, on_loop)))
        waiter.start()
        if on_loop:
            eventually(lambda: signal._loop_flag is not None)
        hub.wake("a")
        waiter.join(10)
    assert results == [True]


@waiters
def test_without_a_wake_up_a_wait_ends_with_its_time(hub: Hub, on_loop: bool) -> None:
    with hub.listen("a") as signal:
        hub.wake("b")
        assert not woken(signal, on_loop, 0.01)
        assert not woken(signal, on_loop, 0)


@waiters
def test_wake_ups_that_come_all_the_time_are_never_lost(hub: Hub, on_loop: bool) -> None:
    """One side counts up and wakes, the other looks and waits: it sees the last number."""
    latest, last = 0, 2000

    def count() -> None:
        nonlocal latest
        for number in range(1, last + 1):
            latest = number
            hub.wake("a")

    async def watch() -> int:
        while latest < last and await signal.await_(10):
            pass
        return latest

    def watch_in_thread() -> int:
        while latest < last and signal.wait(10):
            pass
        return latest

    with hub.listen("a") as signal:
        counter = threading.Thread(target=count)
        counter.start()
        seen = asyncio.run(watch()) if on_loop else watch_in_thread()
        counter.join(10)
    assert seen == last


def test_one_waiter_may_listen_on_several_channels(hub: Hub) -> None:
    with hub.listen("a", "b", "a") as signal:
        for channel in ("a", "b"):
            hub.wake(channel)
            assert signal.wait(0)
        hub.wake("c")
        assert not signal.is_set()


def test_everyone_on_a_channel_is_woken_and_nobody_else(hub: Hub) -> None:
    with hub.listen("a") as first, hub.listen("a") as second, hub.listen("b") as other:
        hub.wake("a")
        assert (first.is_set(), second.is_set(), other.is_set()) == (True, True, False)


def test_who_has_left_is_forgotten_and_so_is_a_channel_without_anyone(hub: Hub) -> None:
    with hub.listen("a", "b") as first:
        with hub.listen("a") as second:
            pass
        hub.wake("a")
        assert first.is_set()
        assert not second.is_set()
    hub.wake("a")
    assert hub._waiting == {}
    with pytest.raises(LookupError), hub.listen("a"):
        raise LookupError
    assert hub._waiting == {}


def test_everyone_can_be_woken_at_once(hub: Hub) -> None:
    with hub.listen("a", "b") as first, hub.listen("c") as second, hub.listen() as nobody:
        hub.wake_everyone()
        assert (first.is_set(), second.is_set()) == (True, True)
        assert not nobody.is_set()


def test_whom_somebody_waits_for_is_known(hub: Hub) -> None:
    assert hub.awaited() == set()
    with hub.listen("work"), hub.listen(outcome_of("w"), interruption_of("parent:1")), hub.listen(outcome_of("w")):
        assert hub.awaited() == {"w", "parent:1"}
    assert hub.awaited() == set()


class Late(threading.Event):
    """An event that is set just after a wait for it has timed out."""

    def wait(self, timeout: float | None = None) -> bool:
        """See Event.wait()."""
        woken = super().wait(0)
        self.set()
        return woken


def test_a_wake_up_that_comes_as_the_time_runs_out_is_kept_for_the_next_wait(hub: Hub) -> None:
    with hub.listen("a") as signal:
        signal._flag = Late()
        assert not signal.wait(0)
        assert signal.wait(0)


def test_a_signal_whose_loop_has_ended_can_still_be_set(hub: Hub) -> None:
    with hub.listen("a") as signal:
        assert not asyncio.run(signal.await_(0))
        hub.wake("a")
        assert signal.wait(0)
        hub.wake("a")
        assert asyncio.run(signal.await_(0)), "another loop"


def test_listening_while_others_wake_never_fails(hub: Hub) -> None:
    stop = threading.Event()
    errors: list[BaseException] = []

    def come_and_go() -> None:
        try:
            while not stop.is_set():
                with hub.listen("a", "b"):
                    pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2000):
        hub.wake("a")
        hub.wake_everyone()
        hub.awaited()
    stop.set()
    for thread in threads:
        thread.join(10)
    assert errors == []


# ---- the doors


class Runner:
    """Enough of a runtime."""

    def reserve(self) -> str | None:
        """See LocalRunner.reserve()."""
        return None

    def unreserve(self) -> None:
        """See LocalRunner.unreserve()."""

    def run(self, claimed: object) -> None:
        """See LocalRunner.run()."""


@pytest.fixture
def closed_doors() -> Iterator[None]:
    before = list(hub_module._runners)
    hub_module._runners.clear()
    yield
    hub_module._runners[:] = before


@pytest.mark.usefixtures("closed_doors")
def test_the_runtime_of_this_process_is_the_one_that_was_started_last() -> None:
    first, second = Runner(), Runner()
    assert hub_module.local_runner() is None
    hub_module.open_door(first)
    hub_module.open_door(second)
    assert hub_module.local_runner() is second
    hub_module.close_door(second)
    assert hub_module.local_runner() is first
    hub_module.close_door(second)
    hub_module.close_door(first)
    assert hub_module.local_runner() is None


def test_a_heart_is_started_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(hub_module, "_heart", None)
    hub_module.start_heart("nobody")
    hub_module.provide_heart(started.append)
    hub_module.start_heart("me")
    assert started == ["me"]
