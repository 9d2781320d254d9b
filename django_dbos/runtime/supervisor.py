"""The supervisor: several worker processes under one parent that starts, signals and replaces them."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from .. import clock

logger = logging.getLogger("django_dbos")

#: A worker that dies sooner than this after its start is replaced only after a pause, in seconds.
_TOO_SOON = 5.0
#: What the parent passes on.
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Supervisor:
    """Forks ``count`` workers before any thread or connection exists, and waits for them."""

    def __init__(self, count: int, work: Callable[[], int]) -> None:
        self._count = count
        self._work = work
        self._workers: dict[int, float] = {}
        self._is_stopping = False
        self._parent, self._lifeline = os.pipe()

    def run(self) -> int:
        """Run until a signal ends it; the exit code: 0 if every worker stopped in good order."""
        for number in _SIGNALS:
            signal.signal(number, self._forward)
        for _ in range(self._count):
            if not self._is_stopping:
                self._start()
        failures = 0
        while self._workers:
            pid, status = os.wait()
            started = self._workers.pop(pid, None)
            if started is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            if self._is_stopping:
                # One that was told to stop before it had begun to listen has nothing to put in order.
                failures += code not in (0, *(-number for number in _SIGNALS))
            else:
                self._replace(pid, code, started)
        return 1 if failures else 0

    def _start(self) -> None:
        # A signal that came between the fork and the line after it would not be passed on.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid == 0:
            self._be_a_worker()
        self._workers[pid] = clock.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _be_a_worker(self) -> NoReturn:
        """Work in a forked child until it ends, or its parent does."""
        os.setpgid(0, 0)  # Ctrl-C in a terminal is for the parent, which passes it on
        os.close(self._lifeline)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        threading.Thread(target=self._outlive_nobody, name="lifeline", daemon=True).start()
        code = 1
        try:
            code = self._work()
        finally:
            os._exit(code)

    def _outlive_nobody(self) -> None:
        """Stop in good order when the parent is gone: its end of the pipe closes with it, however it died."""
        os.read(self._parent, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _replace(self, pid: int, code: int, started: float) -> None:
        logger.error("Worker process %d ended with %d; another one takes its place", pid, code)
        if clock.monotonic() - started < _TOO_SOON:
            time.sleep(1)
        if not self._is_stopping:
            self._start()

    def _forward(self, number: int, frame: object) -> None:
        self._is_stopping = True
        for pid in list(self._workers):
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, number)
