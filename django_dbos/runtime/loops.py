"""The event loops on which async workflows run: one of our own, and those of a program that is its own worker."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from contextvars import Context
from typing import Any

from .. import context
from ..bridge import database_threads, home_loop
from ..clock import backoff, monotonic
from .crew import Crew

#: Seconds that tasks which were cancelled get to end.
_CANCELLED = 1.0
#: How often what still runs is told to end, in seconds.
_NUDGE = 0.1


class Loop:
    """One event loop in a thread of its own, started with the first async workflow."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, coroutine: Any) -> None:
        """Run a coroutine as a task of the loop."""
        # In a context of its own: the one that starts a workflow may be in the middle of another.
        self._ensure().call_soon_threadsafe(self._create_task, coroutine, context=Context())

    def _create_task(self, coroutine: Any) -> None:
        database_threads.set(self._crew)
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _ensure(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="dbos-loop", daemon=True)
                self._thread.start()
            return self._loop

    def stop(self, timeout: float, interrupt: Callable[[], None]) -> bool:
        """Wait for the tasks for at most ``timeout`` seconds, cancel what is left, end the loop.

        Now and then they are told to end: ``interrupt()``.
        """
        if self._loop is None or self._thread is None or self._loop.is_closed():
            return True
        closing = asyncio.run_coroutine_threadsafe(self._finish(timeout), self._loop)
        while not wait([closing], _NUDGE).done:
            interrupt()  # also what has begun since the last time
        in_time: bool = closing.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        return in_time

    async def _finish(self, timeout: float) -> bool:
        pending = set(self._tasks)
        if pending:
            _, pending = await asyncio.wait(pending, timeout=timeout)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=_CANCELLED)
        return not pending


class GuestLoops:
    """The loops of the program: what was started on one runs there, and so do the children of what runs there."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, coroutine: Coroutine[Any, Any, None], parent_id: str | None) -> bool:
        """Run a coroutine as a task of the loop it belongs to; False: it belongs to none, or that is closed."""
        loop = home_loop.get() or context.loop_of(parent_id)
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(self._create_task, coroutine, context=Context())
        except RuntimeError:  # it has been closed
            return False
        return True

    def _create_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        database_threads.set(self._crew)
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self, timeout: float, interrupt: Callable[[], None]) -> bool:
        """Wait for the tasks for at most ``timeout`` seconds, and cancel what is left; whether nothing was."""
        deadline, nobody = monotonic() + timeout, threading.Event()
        for delay in backoff(0.005, 2, _NUDGE):
            interrupt()
            running = [task for task in tuple(self._tasks) if task.get_loop().is_running()]
            if not running or monotonic() >= deadline:
                break
            nobody.wait(delay)
        for task in running:
            task.get_loop().call_soon_threadsafe(task.cancel)
        return not running
