"""The listener: carries the wake-ups of other processes into this one, where the database has LISTEN."""

import select
import socket
from contextlib import suppress
from typing import Any, ClassVar

import psycopg

from ..conf import conf
from ..hub import hub
from ..ids import uuid7
from ..sysdb import vendor
from .connections import connect
from .service import Service, logger


class Listener(Service):
    """Waits on the database's channel and wakes the hub. Without it, everything is found at the next poll."""

    name = "listener"
    #: Seconds after which it looks up although nothing was said (None: never).
    patience: ClassVar[float | None] = None

    def __init__(self) -> None:
        super().__init__()
        self._connection: psycopg.Connection[Any] | None = None
        self._is_deaf = False
        self._echo = ""

    def start(self) -> None:
        """See Service.start()."""
        self._end, self._ending = socket.socketpair()
        super().start()

    @staticmethod
    def is_possible() -> bool:
        """Whether there is something to listen to."""
        return vendor.dialect().notifies

    def tick(self) -> float:
        """See Service.tick()."""
        if self._connection is None:
            self._connection = self._connect()
            self._call()
            hub.wake_everyone()  # what was said while nobody listened
            if self._is_deaf:
                logger.warning("Listening again")
            self._is_deaf = False
        # Asleep until the server says something or stop() does; no polling in between.
        server = self._connection.fileno()
        ready, _, _ = select.select([server, self._ending.fileno()], [], [], self.patience)
        if server in ready:
            for notification in self._connection.notifies(timeout=0):
                self._hear(notification.payload)
        return 0

    def _call(self) -> None:
        """Say something as others do; only if it comes back do we hear them (a pooler may swallow LISTEN)."""
        self._echo = f"echo:{uuid7()}"
        try:
            vendor.notify(self._echo)
        finally:
            vendor.discard_connection()

    def _hear(self, payload: str) -> None:
        if payload == self._echo:
            hub.is_hearing = True
            hub.wake_everyone()  # who waits may look less often from now on
        elif not payload.startswith("echo:"):
            hub.wake(payload)

    def stop(self) -> None:
        """See Service.stop()."""
        super().stop()
        with suppress(OSError):  # it has been joined before
            self._end.send(b"!")

    def recover_from(self, error: Exception) -> None:
        """See Service.recover_from()."""
        self._disconnect()
        if not self._is_deaf and not self.is_stopping:
            logger.warning("Cannot listen, so that everything is found a poll later: %s", str(error).strip())
        self._is_deaf = True

    def join(self, timeout: float | None = None) -> None:
        """See Service.join()."""
        super().join(timeout)
        self._close()

    def _close(self) -> None:
        self._disconnect()
        self._end.close()
        self._ending.close()

    def _connect(self) -> "psycopg.Connection[Any]":
        connection = connect(conf.LISTEN_DSN, "listener")
        try:
            connection.execute(f"LISTEN {vendor.CHANNEL}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        hub.is_hearing = False
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()
