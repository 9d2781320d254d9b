"""The inbox of a pool: jobs that wait for a thread, and threads that wait for a job."""

import threading
from collections import deque
from typing import Generic, TypeVar

from ..clock import monotonic

T = TypeVar("T")


class Inbox(Generic[T]):
    """First in, first out. Jobs and waiting threads are counted under one lock, so that neither is missed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[T] = deque()
        self._waiting = 0
        self._is_closed = False

    def put(self, job: T) -> bool:
        """Put a job; whether a thread is there that will take it. If not, the caller sees to one."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
            return self._waiting >= len(self._jobs)

    def take(self, timeout: float) -> T | None:
        """The next job; None if there is none within ``timeout`` seconds, or no more will come."""
        deadline = monotonic() + timeout
        with self._changed:
            while not self._jobs:
                remaining = deadline - monotonic()
                if self._is_closed or remaining <= 0:
                    return None
                self._waiting += 1
                self._changed.wait(remaining)
                self._waiting -= 1
            return self._jobs.popleft()

    @property
    def waiting(self) -> int:
        """How many threads wait for a job."""
        return self._waiting

    def close(self) -> None:
        """Nobody waits any more; what is there can still be taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
