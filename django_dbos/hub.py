"""Wake-ups inside one process, and the two doors that higher floors hang up here.

A wake-up is only a hint. Whoever waits subscribes first, then looks at the database, then waits a bounded
time, then looks again; so a lost wake-up costs time and never truth.
"""

import asyncio
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Signal:
    """What one waiter waits on: set from any thread, awaited by a thread or on an event loop."""

    def __init__(self) -> None:
        self._flag = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_flag: asyncio.Event | None = None

    def set(self) -> None:
        """Wake the waiter, now or at its next wait."""
        self._flag.set()
        loop, loop_flag = self._loop, self._loop_flag
        if loop is not None and loop_flag is not None:
            try:
                loop.call_soon_threadsafe(loop_flag.set)
            except RuntimeError:  # the waiter's loop is closed: nobody waits any more
                self._loop = None

    def is_set(self) -> bool:
        """Whether a wake-up has come that nobody has waited for yet."""
        return self._flag.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block for at most ``timeout`` seconds; whether a wake-up came."""
        woken = self._flag.wait(timeout)
        self._flag.clear()
        return woken

    async def await_(self, timeout: float | None = None) -> bool:
        """See wait()."""
        self._loop, self._loop_flag = asyncio.get_running_loop(), asyncio.Event()
        if self._flag.is_set():  # set before the loop's flag existed
            self._flag.clear()
            return True
        try:
            await asyncio.wait_for(self._loop_flag.wait(), timeout)
        except TimeoutError:
            return False
        finally:
            self._flag.clear()
        return True


class Hub:
    """Channels by name, and who waits on each."""

    def __init__(self) -> None:
        self.forget_all()

    def forget_all(self) -> None:
        """Be as new, with nobody waiting."""
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, set[Signal]] = defaultdict(set)

    @contextmanager
    def listen(self, *channels: str) -> Iterator[Signal]:
        """A signal that is set whenever one of ``channels`` is woken, for as long as the block runs."""
        signal = Signal()
        with self._lock:
            for channel in channels:
                self._waiting[channel].add(signal)
        try:
            yield signal
        finally:
            with self._lock:
                for channel in channels:
                    self._forget(channel, signal)

    def wake(self, channel: str) -> None:
        """Wake everyone in this process who listens on ``channel``."""
        for signal in tuple(self._waiting.get(channel, ())):
            signal.set()

    def wake_everyone(self) -> None:
        """Wake every waiter: after hints may have been lost, each looks for itself."""
        with self._lock:
            signals = {signal for waiting in self._waiting.values() for signal in waiting}
        for signal in signals:
            signal.set()

    def awaited(self) -> set[str]:
        """The ids of the workflows for whose end, or interruption, somebody in this process waits."""
        with self._lock:
            channels = [channel.partition(":") for channel in self._waiting]
        return {workflow_id for _, colon, workflow_id in channels if colon}

    def _forget(self, channel: str, signal: Signal) -> None:
        waiting = self._waiting[channel]
        waiting.discard(signal)
        if not waiting:
            del self._waiting[channel]


class LocalRunner(Protocol):
    """A running runtime in this process, as the floors below may know it."""

    def reserve(self) -> str | None:
        """Set a free slot aside; the id of the executor that owns it, or None if there is none."""

    def unreserve(self) -> None:
        """Give a reserved slot back unused."""

    def run(self, claimed: Any) -> None:
        """Run a claimed workflow on the slot that was reserved for it."""


def on_event_loop() -> bool:
    """Whether this thread is running an event loop right now, which a blocking call would hold up."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


#: The wake-ups of this process.
hub = Hub()

# The channels, by name. A payload on the database's own channel is one of these names.
WORK = "work"
_OUTCOME = "workflow:"
_INTERRUPTION = "interrupt:"


def outcome_of(workflow_id: str) -> str:
    """The channel that is woken when a workflow has finished."""
    return f"{_OUTCOME}{workflow_id}"


def interruption_of(workflow_id: str) -> str:
    """The channel that is woken when a running workflow has to look up: cancelled, or its executor stops."""
    return f"{_INTERRUPTION}{workflow_id}"


_runners: list[LocalRunner] = []
_heart: Callable[[Any], None] | None = None


def _forget_parent() -> None:
    """A forked child has none of its parent's threads, and no use for a lock that one of them held."""
    _runners.clear()
    hub.forget_all()


os.register_at_fork(after_in_child=_forget_parent)


def local_runner() -> LocalRunner | None:
    """The runtime that was started last in this process, if one runs."""
    return _runners[-1] if _runners else None


def open_door(runner: LocalRunner) -> None:
    """From now on what is started in this process may run on ``runner`` at once."""
    _runners.append(runner)


def close_door(runner: LocalRunner) -> None:
    """``runner`` takes nothing more from this process."""
    if runner in _runners:
        _runners.remove(runner)


def provide_heart(start: Callable[[Any], None]) -> None:
    """Register what keeps the executor of this process alive while it runs direct calls."""
    global _heart
    _heart = start


def start_heart(registration: Any) -> None:
    """Start beating for this process's own executor."""
    if _heart is not None:
        _heart(registration)
