"""The crew: a few threads that keep their connections, and make short calls to the database for all workflows.

An event loop must not block, and a sync workflow that waits holds no connection: opening one for a single statement
would take many times as long as the statement.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

from django.db import connections

from .connections import close_unusable_connections
from .inbox import Inbox

P = ParamSpec("P")
T = TypeVar("T")

#: How many threads there are at most.
SIZE = 4
#: Seconds after which a thread without work ends, and its connection with it.
_IDLE = 3.0


class Crew(Executor):
    """An executor whose threads come when there is work and go when there has been none for a while."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._inbox: Inbox[Callable[[], None]] = Inbox()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """See Executor.submit()."""
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        if not self._inbox.put(work):
            self._hire()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See Executor.shutdown(); what was submitted is still done."""
        self._inbox.close()
        with self._lock:
            threads = list(self._threads)
        for thread in threads if wait else ():
            thread.join()

    def _hire(self) -> None:
        with self._lock:
            if len(self._threads) >= self._size:
                return  # one of them comes to it
            thread = threading.Thread(target=self._work, name="dbos-crew", daemon=True)
            self._threads.add(thread)
        thread.start()

    def _work(self) -> None:
        try:
            while (work := self._next()) is not None:
                close_unusable_connections()
                work()
        finally:
            connections.close_all()

    def _next(self) -> Callable[[], None] | None:
        work = self._inbox.take(_IDLE)
        if work is None:
            with self._lock:
                # What was put since, when no thread was hired for it because this one was still there.
                work = self._inbox.take(0)
                if work is None:
                    self._threads.discard(threading.current_thread())
        return work
