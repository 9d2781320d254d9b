"""Everything that runs by itself: the agents of a worker, and :class:`Runtime`, which builds them and hands each
what it needs.

    Dispatcher   claims what waits and hands it to the Pool
    Pool         threads and one event loop on which workflows run
    Scheduler    fires the ticks of schedules
    Writer       commits what executions record, many at a time
    Listener     carries the wake-ups of other processes into this one
    Recovery     says that we are alive, and takes over from those who are not
    Supervisor   several workers under one parent process
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from .. import hub
from ..clock import monotonic
from ..conf import conf
from ..queues import declared_queues
from ..states import ExecutorState
from ..sysdb import executors, journal, queues, vendor
from ..sysdb.executors import Registration
from ..sysdb.vendor import patiently
from ..sysdb.workflows import Claimed
from ..validation import whole_number
from ..versions import fix_application_version, register_application_version
from .dispatcher import Dispatcher
from .listener import Listener
from .pool import Pool
from .recovery import Recovery
from .scheduler import Scheduler
from .service import Service
from .writer import Writer

logger = logging.getLogger("django_dbos")

#: Seconds that running steps are given to end when a runtime stops.
SHUTDOWN_TIMEOUT = 30.0
# Seconds that the last writes of a runtime may wait for the database at least.
_PATIENCE = 1.0


class Runtime:
    """A worker inside this process, for the length of a ``with`` block; ``manage.py dbos_worker`` is one too.

    ``queues``: the queues to serve (None: all that are declared). ``concurrency``: how many workflows run at a time.
    ``scheduler``: whether schedules fire here. ``shutdown_timeout``: seconds that running steps get to end.
    ``is_embedded``: for a program that is its own worker. What it starts itself runs at once, however much runs
    already, and async workflows on the event loop that started them, as long as that runs.
    """

    def __init__(
        self,
        *,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
        scheduler: bool = True,
        shutdown_timeout: float = SHUTDOWN_TIMEOUT,
        is_embedded: bool = False,
    ) -> None:
        limit = whole_number("concurrency", conf.CONCURRENCY if concurrency is None else concurrency, least=1)
        self.executor_id = executors.new_id()
        self._shutdown_timeout = shutdown_timeout
        self._writer = Writer() if conf.GROUPED_JOURNAL and vendor.dialect().groups else None
        self._pool = Pool(
            executor_id=self.executor_id,
            concurrency=limit,
            journal=self._writer.journal if self._writer else journal.inline,
            is_embedded=is_embedded,
        )
        self._dispatcher = Dispatcher(executor_id=self.executor_id, pool=self._pool, only_queues=queues)
        self._registration = Registration(
            id=self.executor_id,
            queues=tuple(self._dispatcher.queue_names()),
            application_version=fix_application_version(),
        )
        self._recovery = Recovery(self._registration)
        self._others: list[Service] = [Scheduler()] if scheduler else []
        if Listener.is_possible():
            self._others.append(Listener())

    def __enter__(self) -> "Runtime":
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self, pause: Callable[[float], None] = time.sleep) -> None:
        """Register this executor and start its agents.

        While the database is away it waits for it: ``pause(seconds)``, which may raise to give up.
        """
        limits = {name: queue.limits for name, queue in declared_queues().items()}
        patiently(lambda: executors.register(self._registration), pause=pause)
        patiently(lambda: queues.declare(limits), pause=pause)
        patiently(lambda: register_application_version(self._registration.application_version), pause=pause)
        for service in self._services():
            service.start()
        hub.open_door(self)

    def drain(self) -> None:
        """Take nothing new, and tell what runs to end at its next durable operation; returns at once."""
        hub.close_door(self)
        self._recovery.state = ExecutorState.DRAINING
        for service in (self._dispatcher, *self._others):
            service.stop()
        self._pool.stop()

    def stop(self, timeout: float | None = None) -> bool:
        """Let running steps end and hand back what is unfinished; whether all ended within the time."""
        deadline = monotonic() + (self._shutdown_timeout if timeout is None else timeout)
        self.drain()
        self._dispatcher.join()
        ended = self._pool.join(max(deadline - monotonic(), 0))
        if self._writer is not None:
            self._writer.finish(max(deadline - monotonic(), _PATIENCE))
        for service in (*self._others, self._recovery):
            service.stop()
            service.join()
        try:
            self._leave(ended, max(deadline, monotonic() + _PATIENCE))
        except TimeoutError:
            logger.warning("The database is still away: what was not finished here is left to recovery")
        return ended

    def _leave(self, ended: bool, deadline: float) -> None:
        def pause(seconds: float) -> None:
            if monotonic() + seconds > deadline:
                raise TimeoutError
            time.sleep(seconds)

        # What still runs has lost its workflow with this: its next write is refused.
        released = patiently(lambda: executors.release(self.executor_id), pause=pause)
        if not ended:
            logger.warning("%d workflows were handed back while a step of theirs still runs", released)
        patiently(lambda: executors.beat(self.executor_id, ExecutorState.STOPPED), pause=pause)
        executors.local.discard(self.executor_id)

    def _services(self) -> list[Service]:
        writer = [self._writer] if self._writer else []
        return [self._recovery, *writer, self._dispatcher, *self._others]

    # ---- what the floors below know of us: hub.LocalRunner

    def reserve(self) -> str | None:
        """See LocalRunner.reserve()."""
        return self.executor_id if self._pool.slots.take_one() else None

    def unreserve(self) -> None:
        """See LocalRunner.unreserve()."""
        self._pool.slots.untake(1)

    def run(self, claimed: Any) -> None:
        """See LocalRunner.run()."""
        assert isinstance(claimed, Claimed)  # noqa: S101 - the hub, on the ground floor, cannot name the type
        self._pool.submit(claimed, {})
