"""Wake-ups inside one process, and the two doors that higher floors hang up here.

A wake-up is only a hint. Whoever waits subscribes first, then looks at the database, then waits a bounded
time, then looks again; so a lost wake-up costs time and never truth.
"""

import asyncio
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from .clock import monotonic


class Watch(NamedTuple):
    """What somebody waits for, so that one look at the database can be made for all who wait in a process.

    ``kind`` is one of the words below; ``key`` the topic of a message, or the key of an event or stream; ``offset``
    the first entry of a stream that is wanted.
    """

    kind: str
    workflow_id: str
    key: str = ""
    offset: int = 0

    @property
    def channel(self) -> str:
        """The channel that is woken when there may be news of it."""
        return f"{self.kind}:{self.workflow_id}"

    @property
    def channels(self) -> tuple[str, ...]:
        """All channels on which there may be news of it: a stream ends with its workflow."""
        return (self.channel, outcome_of(self.workflow_id)) if self.kind == STREAM else (self.channel,)


class Signal:
    """What one waiter waits on: set from any thread, awaited by a thread or on an event loop."""

    def __init__(self) -> None:
        #: What came with the last wake-up, if it said more than "look".
        self.news: Any = None
        self._flag = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_flag: asyncio.Event | None = None

    def set(self, news: Any = None) -> None:
        """Wake the waiter, now or at its next wait."""
        if news is not None:
            self.news = news
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
        if woken:  # one that comes as the time runs out is for the next wait
            self._flag.clear()
        return woken

    async def await_(self, timeout: float | None = None) -> bool:
        """See wait()."""
        self._loop, self._loop_flag = asyncio.get_running_loop(), asyncio.Event()
        if self._flag.is_set():  # set before the loop's flag existed
            self._flag.clear()
            return True
        try:
            async with asyncio.timeout(timeout):  # wait_for() of Python 3.11 may swallow a cancellation
                await self._loop_flag.wait()
        except TimeoutError:
            return False
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
        self._watches: dict[Signal, tuple[Watch, ...]] = {}
        #: When somebody was last seen to wait for anything.
        self.watched_at = 0.0
        #: Whether the wake-ups of other processes reach this one at the moment.
        self.is_hearing = False

    @contextmanager
    def listen(self, *channels: str, watches: Iterable[Watch] = ()) -> Iterator[Signal]:
        """A signal that is set whenever one of ``channels`` is woken, for as long as the block runs.

        ``watches`` say what is waited for, their channels being among them.
        """
        signal, watched = Signal(), tuple(watches)
        channels = (*channels, *(channel for watch in watched for channel in watch.channels))
        with self._lock:
            for channel in channels:
                self._waiting[channel].add(signal)
            if watched:
                self._watches[signal] = watched
        try:
            yield signal
        finally:
            with self._lock:
                if self._watches.pop(signal, None) is not None:
                    self.watched_at = monotonic()
                for channel in channels:
                    self._forget(channel, signal)

    def wake(self, channel: str, news: Any = None) -> None:
        """Wake everyone in this process who listens on ``channel``; ``news`` spares them a look."""
        for signal in tuple(self._waiting.get(channel, ())):
            signal.set(news)

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
        return {workflow_id for kind, _, workflow_id in channels if kind in _ENDED_BY_AN_OUTCOME}

    def watched(self) -> set[Watch]:
        """Everything that somebody in this process waits for, apart from outcomes."""
        with self._lock:
            return {watch for watches in self._watches.values() for watch in watches if watch.kind != OUTCOME}

    @property
    def has_watches(self) -> bool:
        """Whether somebody in this process waits for anything that may come from another one."""
        return bool(self._watches)

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


def current_task() -> "asyncio.Task[Any] | None":
    """The task that this thread's event loop is running right now; None on a thread without a loop."""
    return asyncio.current_task() if on_event_loop() else None


#: The wake-ups of this process.
hub = Hub()

# The channels, by name. A payload on the database's own channel is one of these names.
WORK = "work"
#: What this process declares as its schedules has changed.
SCHEDULES = "schedules"
# The others are a kind of news and the id of a workflow.
OUTCOME = "outcome"
MESSAGE = "message"
EVENT = "event"
STREAM = "stream"
_INTERRUPTION = "interrupt"
_ENDED_BY_AN_OUTCOME = (OUTCOME, _INTERRUPTION)


def outcome_of(workflow_id: str) -> str:
    """The channel that is woken when a workflow has finished."""
    return f"{OUTCOME}:{workflow_id}"


def interruption_of(workflow_id: str) -> str:
    """The channel that is woken when a running workflow has to look up: cancelled, or its executor stops."""
    return f"{_INTERRUPTION}:{workflow_id}"


_runners: list[LocalRunner] = []
_heart: Callable[[Any], None] | None = None
_ear: Callable[[], None] | None = None


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


def provide_ear(start: Callable[[], None]) -> None:
    """Register what carries the wake-ups of other processes into one that has no runtime, while somebody waits."""
    global _ear
    _ear = start


def start_ear() -> None:
    """Begin to listen to other processes, unless this one does already."""
    if _ear is not None and local_runner() is None:
        _ear()
