"""The heart of a process that runs workflows in its callers' threads: it beats while there are any.

A web process that only enqueues never has one. It starts with the first direct call and ends when none has run
for a while; the next one starts it again.
"""

from django.db import connections

from .. import context
from ..conf import conf
from ..sysdb import executors
from ..sysdb.executors import Registration
from .recovery import Recovery

#: Seconds without a direct call after which the heart stops.
LINGER = 30.0


class Heart(Recovery):
    """Beats for this process's own executor; recovering others is the workers' business."""

    name = "heart"

    def tick(self) -> float:
        """See Service.tick()."""
        try:
            return self._tick()
        finally:
            connections.close_all()  # between two beats a web process is to hold no connection for our sake

    def _tick(self) -> float:
        if not context.running_of(self._registration.id) and executors.own.rest(LINGER):
            self.stop()
            return 0
        self._beat()
        self._release_strays()
        return float(conf.HEARTBEAT_INTERVAL)


_beating: list[Heart] = []


def start_heart(registration: Registration) -> None:
    """Start beating for this process's own executor, whose row has just been written."""
    heart = Heart(registration)
    _beating[:] = [heart]
    heart.start()


def stop_heart() -> None:
    """Stop beating now; the next direct call starts again. For processes that end their own use, such as tests."""
    while _beating:
        heart = _beating.pop()
        heart.stop()
        heart.join()
    executors.own.rest(0)
