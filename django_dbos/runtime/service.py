"""What every agent of the runtime is: a thread that ticks, waits to be woken but not for too long, and ticks again."""

import logging
import threading
from typing import ClassVar

from django.db import DatabaseError, InterfaceError, connections

from .. import clock
from ..hub import Signal, hub
from ..sysdb import vendor

logger = logging.getLogger("django_dbos")


class Service:
    """A named thread around :meth:`tick`. An error never ends it: it backs off and ticks again."""

    name: ClassVar[str]
    #: The hub channels that make it tick at once.
    channels: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._signal = Signal()
        self._thread: threading.Thread | None = None
        #: Whether a wake-up, rather than the end of its wait, led to the tick that is running.
        self.was_woken = False

    def tick(self) -> float:
        """Do what there is to do; for how many seconds nothing more is expected."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to tick."""
        self._thread = threading.Thread(target=self._run, name=f"dbos-{self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end after the tick it is in."""
        self._stopping.set()
        self._signal.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended."""
        if self._thread is not None:
            self._thread.join(timeout)

    def pause(self, seconds: float) -> None:
        """Wait while the database is away; raises InterruptedError if the service is to stop meanwhile."""
        if self._stopping.wait(seconds):
            raise InterruptedError(f"the {self.name} stops")

    @property
    def is_stopping(self) -> bool:
        """Whether stop() has been called."""
        return self._stopping.is_set()

    def _run(self) -> None:
        try:
            with hub.listen(*self.channels) as signal:
                self._signal = signal
                self._loop(signal)
        finally:
            connections.close_all()

    def _loop(self, signal: Signal) -> None:
        delays = clock.backoff(0.05, 2, 5.0)
        while not self.is_stopping:
            try:
                seconds = self.tick()
            except Exception as error:
                self.recover_from(error)
                seconds = next(delays)
            else:
                delays = clock.backoff(0.05, 2, 5.0)
            if not self.is_stopping:
                self.was_woken = signal.wait(seconds)

    def recover_from(self, error: Exception) -> None:
        """Be ready to tick again after ``error``."""
        if isinstance(error, DatabaseError | InterfaceError) and vendor.is_outage(error):
            vendor.outage_seen(error)
        elif not vendor.is_conflict(error) and not self.is_stopping:
            logger.exception("The %s failed, and tries again", self.name, exc_info=error)
        vendor.discard_connection()
