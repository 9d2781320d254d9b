"""``manage.py dbos_worker``: runs workflows, fires schedules, recovers what others left. A thin wrapper of Runtime."""

import logging
import os
import signal
import sys
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections
from django.utils import autoreload

from ... import checks
from ...clock import monotonic
from ...conf import conf
from ...runtime import SHUTDOWN_TIMEOUT, Runtime
from ...runtime.supervisor import Supervisor
from ...sysdb.vendor import patiently

#: Exit codes.
STOPPED, FAILED, NOT_MIGRATED = 0, 1, 3
# A service manager signals every process of a service, and the supervisor passes its signal on: so many seconds apart.
_ECHO = 1.0


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


class Command(BaseCommand):
    """Run durable workflows."""

    help = "Runs durable workflows: executor, queues, schedules and recovery in one process."

    def add_arguments(self, parser: CommandParser) -> None:
        """See BaseCommand.add_arguments()."""
        parser.add_argument("--queue", action="append", metavar="NAME", help="Serve only this queue (may be repeated).")
        parser.add_argument("--concurrency", type=_positive, metavar="N", help="Workflows that run at a time.")
        parser.add_argument("--processes", type=_positive, default=1, metavar="N", help="Worker processes.")
        parser.add_argument("--no-scheduler", action="store_true", help="Fire no schedules.")
        parser.add_argument("--autoreload", action="store_true", help="Start again when code changes.")
        parser.add_argument(
            "--shutdown-timeout",
            type=_seconds,
            default=SHUTDOWN_TIMEOUT,
            metavar="SECONDS",
            help="How long running steps may take to end after SIGTERM (default: %(default)g).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """See BaseCommand.handle()."""
        if options["processes"] > 1:
            if not self._is_migrated(time.sleep):
                sys.exit(NOT_MIGRATED)
            sys.exit(Supervisor(options["processes"], lambda: self._work(options, echo=_ECHO)).run())
        if options["autoreload"]:
            autoreload.run_with_reloader(lambda: self._work(options))
        else:
            sys.exit(self._work(options))

    def _work(self, options: dict[str, Any], echo: float = 0) -> int:
        """Run a worker until a signal ends it; the exit code."""
        request = _Request(echo)
        if threading.current_thread() is threading.main_thread():
            request.listen()
        runtime = Runtime(
            queues=options["queue"],
            concurrency=options["concurrency"],
            scheduler=not options["no_scheduler"],
            shutdown_timeout=options["shutdown_timeout"],
        )
        try:
            if not self._is_migrated(request.pause):
                return NOT_MIGRATED
            runtime.start(pause=request.pause)
        except _Asked:
            return STOPPED
        connections.close_all()  # this thread only waits from now on
        self.stdout.write(f"dbos_worker {runtime.executor_id} ready")
        self.stdout.flush()
        request.wait()
        runtime.drain()
        self.stdout.write("dbos_worker stopping")
        self.stdout.flush()
        if not runtime.stop():
            # A step's own thread still runs, and Python would wait for it before it ends.
            logging.shutdown()
            os._exit(STOPPED)
        return STOPPED

    def _is_migrated(self, pause: Callable[[float], None]) -> bool:
        """Say what is missing of the system tables; while the database is away wait for it."""
        missing = patiently(lambda: checks.missing_tables(conf.DATABASE), pause=pause)
        if missing:
            self.stderr.write(missing)
        return not missing


class _Asked(Exception):
    """Somebody asked the worker to stop before the database was there."""


class _Request:
    """The request to stop, which is the first SIGTERM or SIGINT; a second one ends the process now.

    What comes within ``echo`` seconds of the first one is the same request by another way.
    """

    def __init__(self, echo: float) -> None:
        self._echo = echo
        # Not an Event: a handler that interrupts its wait() may find the Event's lock held, by its own thread.
        self._signals: SimpleQueue[int] = SimpleQueue()
        self._made_at: float | None = None

    def listen(self) -> None:
        """Take the signals from now on."""
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for at most so many seconds; whether the request was made."""
        try:
            self._signals.get(timeout=seconds)
        except Empty:
            return False
        return True

    def pause(self, seconds: float) -> None:
        """Wait; raises _Asked as soon as the request is made."""
        if self.wait(seconds):
            raise _Asked

    def _receive(self, number: int, frame: object) -> None:
        if self._made_at is None:
            self._made_at = monotonic()
            self._signals.put(number)
        elif monotonic() - self._made_at >= self._echo:
            os._exit(128 + number)
