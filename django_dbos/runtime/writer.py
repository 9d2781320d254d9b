"""The writer: commits what the grouped journal holds and nobody comes to wait for."""

import threading

from ..sysdb.grouped import GroupedJournal
from .connections import connect
from .service import Service

#: Seconds that a checkpoint waits for company, or for its own workflow to come and write it.
_LINGER = 0.001
#: Seconds after which it looks without having been woken; a journal that has written nothing since holds no connection.
_IDLE = 3.0


class Writer(Service):
    """Owns the grouped journal of a runtime and its connection."""

    name = "writer"

    def __init__(self) -> None:
        super().__init__()
        self.journal = GroupedJournal(connect=lambda: connect(None, "journal"), wake=self._wake)
        self._groups = 0

    def _wake(self) -> None:
        self._signal.set()

    def tick(self) -> float:
        """See Service.tick()."""
        if not self.journal.is_empty:
            self._stopping.wait(_LINGER)
            self.journal.write()
        elif self.journal.groups == self._groups:
            self.journal.rest()
        self._groups = self.journal.groups
        return _LINGER if not self.journal.is_empty else _IDLE

    def finish(self, timeout: float) -> None:
        """Write what still waits, for at most ``timeout`` seconds if the database is away, and end."""
        giving_up = threading.Timer(timeout, self.journal.give_up)
        giving_up.name = "dbos-giving-up"
        giving_up.start()
        try:
            self.stop()
            self.join()
            self.journal.write()
        except InterruptedError:
            pass  # what was not written is left to recovery
        finally:
            giving_up.cancel()
            giving_up.join()
            self.journal.close()
