"""Recovery: says that this executor is alive, and takes over from those that have gone silent."""

import logging

from .. import clock, context
from ..conf import conf
from ..states import ExecutorState
from ..sysdb import executors, vendor
from ..sysdb.executors import Registration
from .service import Service

logger = logging.getLogger("django_dbos")

#: How often executors that ended long ago are deleted, in seconds.
_PRUNE_INTERVAL = 3600.0
#: From this many intervals on a heartbeat is overdue.
_LATE = 1.2


class Recovery(Service):
    """One heartbeat and one sweep per interval."""

    name = "recovery"

    def __init__(self, registration: Registration) -> None:
        super().__init__()
        self._registration = registration
        self._beat_at = clock.monotonic()
        self._trust_from = 0.0
        self._prune_at = clock.monotonic() + clock.jittered(_PRUNE_INTERVAL)
        self.state = ExecutorState.RUNNING

    def tick(self) -> float:
        """See Service.tick()."""
        late = self._beat()
        until_expiry = self._sweep(late) if clock.monotonic() >= self._trust_from else conf.HEARTBEAT_INTERVAL
        self._release_strays()
        self._prune()
        return min(conf.HEARTBEAT_INTERVAL, until_expiry)

    def recover_from(self, error: Exception) -> None:
        """See Service.recover_from()."""
        super().recover_from(error)
        self._distrust()

    def _beat(self) -> list[tuple[str, float]]:
        """Say that we are alive; the others who are late to say so, and for how long they have been silent."""
        quiet = conf.HEARTBEAT_INTERVAL * _LATE
        is_known, late = executors.beat_and_look(self._registration.id, self.state, quiet)
        if not is_known:
            executors.register(self._registration)
        vendor.outage_over()
        if clock.monotonic() - self._beat_at > conf.HEARTBEAT_TIMEOUT:
            self._distrust()
        self._beat_at = clock.monotonic()
        return late

    def _distrust(self) -> None:
        """After an outage, or a sleep of our own, everybody's heartbeat is old: first let the others speak up."""
        self._trust_from = clock.monotonic() + conf.HEARTBEAT_TIMEOUT

    def _sweep(self, late: list[tuple[str, float]]) -> float:
        """Take over from whoever has been silent for too long; in how many seconds the next one will have been."""
        until_expiry = float(conf.HEARTBEAT_INTERVAL)
        for executor_id, silent_for in late:
            if silent_for < conf.HEARTBEAT_TIMEOUT:
                until_expiry = min(until_expiry, conf.HEARTBEAT_TIMEOUT - silent_for)
            else:
                self._recover(executor_id)
        return until_expiry

    def _recover(self, executor_id: str) -> None:
        try:
            moved = executors.recover(executor_id, conf.HEARTBEAT_TIMEOUT)
        except Exception as error:  # one bad executor stops neither this sweep nor, by distrust, the next one
            super().recover_from(error)
            return
        if moved:
            logger.warning("Executor %s has gone silent: %d of its workflows go on elsewhere", executor_id, moved)

    def _release_strays(self) -> None:
        if self._registration.id not in executors.suspects:
            return
        executors.suspects.discard(self._registration.id)
        try:
            moved = executors.release_strays(self._registration.id, context.running_ids(), conf.HEARTBEAT_TIMEOUT)
            recent = executors.owns_more_than(self._registration.id, context.running_ids())
        except BaseException:
            executors.suspects.add(self._registration.id)
            raise
        if moved:
            logger.warning("%d workflows that were claimed without our knowing are handed back", moved)
        if recent:  # too young to tell a stray from one that is just starting: look again
            executors.suspects.add(self._registration.id)

    def _prune(self) -> None:
        if clock.monotonic() >= self._prune_at:
            self._prune_at = clock.monotonic() + clock.jittered(_PRUNE_INTERVAL)
            executors.prune(conf.EXECUTOR_RETENTION)
