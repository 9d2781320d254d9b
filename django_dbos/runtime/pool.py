"""The pool: threads for sync workflows, one event loop for async ones, and the slots that bound both."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import connections

from .. import context
from ..bridge import GRACE, adrive, database_threads, drive
from ..clock import monotonic
from ..execution import execute
from ..hub import WORK, hub, interruption_of
from ..registry import workflow_registry
from ..sysdb import executors
from ..sysdb.journal import Journal
from ..sysdb.steps import History
from ..sysdb.workflows import Claimed
from .connections import Handover, close_unusable_connections
from .crew import Crew
from .inbox import Inbox
from .loops import GuestLoops, Loop
from .slots import Seat, Slots

logger = logging.getLogger("django_dbos")

#: Seconds that a thread without work is kept.
_IDLE = 5.0
#: How often what still runs is told to end, in seconds.
_NUDGE = 0.1


@dataclass(frozen=True, slots=True)
class _Job:
    claimed: Claimed
    history: History


class _ThreadParking:
    """A waiting sync workflow gives its slot away, and its thread's connections with it."""

    def __init__(self, seat: Seat, handover: Handover) -> None:
        self._seat = seat
        self._handover = handover

    @contextmanager
    def released(self) -> Iterator[Callable[[], None]]:
        """See Parking.released()."""
        self._handover.put_down()
        self._seat.give()
        try:
            yield self._handover.close_idle
        finally:
            self._seat.take()
            self._handover.take_up()


class _LoopParking:
    """A waiting async workflow gives its slot away; of connections it has one only if its body used the ORM."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        #: Under which asgiref keeps the body's own thread.
        self.own_thread: ThreadSensitiveContext | None = None

    @contextmanager
    def released(self) -> Iterator[Callable[[], Awaitable[None]] | None]:
        """See Parking.released()."""
        self._seat.give()
        try:
            yield self.close_connections if self._has_own_thread() else None
        finally:
            self._seat.take_at_once()

    async def close_connections(self) -> None:
        """Close those of the body's own thread, if there is one."""
        if self._has_own_thread():
            await sync_to_async(connections.close_all)()

    def _has_own_thread(self) -> bool:
        return self.own_thread in SyncToAsync.context_to_thread_executor


class Pool:
    """Runs claimed workflows, each on a slot that was taken for it before."""

    def __init__(self, *, executor_id: str, concurrency: int, journal: Journal, is_embedded: bool = False) -> None:
        self.executor_id = executor_id
        self.slots = Slots(concurrency, on_release=lambda: hub.wake(WORK), bounds_claims=is_embedded)
        self._journal = journal
        self._inbox: Inbox[_Job] = Inbox()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._running: Counter[str] = Counter()
        self._count = 0
        self._is_stopping = False
        self._handover = Handover()
        self._crew = Crew()
        self._loop = Loop(self._crew)
        self._guest_loops = GuestLoops(self._crew) if is_embedded else None

    def running_in(self, queue_name: str) -> int:
        """How many workflows of a queue this process runs, those that wait included."""
        with self._lock:
            return self._running[queue_name]

    def submit(self, claimed: Claimed, history: History) -> None:
        """Run a claimed workflow on a slot taken for it. A body that already runs here adopts the new claim."""
        if self._is_stopping:
            executors.release(claimed.executor_id, workflow_id=claimed.id, epoch=claimed.epoch)
            self.slots.release()
            return
        if context.adopt(claimed):
            logger.warning("Workflow %s was recovered while it still runs here; it goes on", claimed.id)
            self.slots.release()
            return
        context.arrive(claimed.id)
        with self._lock:
            self._running[claimed.queue_name] += 1
        definition = workflow_registry.find(claimed.name)
        if definition is not None and definition.is_async:
            self._run_async(_Job(claimed, history))
        else:
            self._put(_Job(claimed, history))

    def _run_async(self, job: _Job) -> None:
        coroutine = self._arun(job)
        if self._guest_loops is None or not self._guest_loops.run(coroutine, job.claimed.parent_id):
            self._loop.run(coroutine)

    def _put(self, job: _Job) -> None:
        """Put a job where a thread will take it: an idle one, or a new one."""
        if self._inbox.put(job):
            return
        with self._lock:
            self._count += 1
            thread = threading.Thread(target=self._work, name=f"dbos-worker-{self._count}", daemon=True)
            self._threads.add(thread)
        thread.start()

    def _work(self) -> None:
        try:
            while (job := self._next_job()) is not None:
                copy_context().run(self._run, job)  # what a body sets in its context is not the next one's
        finally:
            connections.close_all()
            self._handover.close_idle(0)
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _next_job(self) -> _Job | None:
        job = self._inbox.take(GRACE)
        if job is None:
            self._handover.close_idle()  # while there is nothing to do no connection is held
            job = self._inbox.take(_IDLE)
        return job

    def _run(self, job: _Job) -> None:
        seat = Seat(self.slots)
        try:
            if self._is_stopping:
                return  # it was claimed too late to begin; the runtime hands back all that it owns
            self._handover.take_up()
            close_unusable_connections()
            database_threads.set(self._crew)
            drive(self._execution(job, _ThreadParking(seat, self._handover)))
        except BaseException:
            logger.exception("Workflow %s was interrupted", job.claimed.id)
        finally:
            self._handover.put_down()
            self._done(job, seat)

    async def _arun(self, job: _Job) -> None:
        seat = Seat(self.slots)
        parking = _LoopParking(seat)
        try:
            async with ThreadSensitiveContext() as parking.own_thread:
                try:
                    await adrive(self._execution(job, parking))
                finally:
                    await parking.close_connections()
        except asyncio.CancelledError:
            logger.info("Workflow %s was interrupted", job.claimed.id)
        except BaseException:
            logger.exception("Workflow %s was interrupted", job.claimed.id)
        finally:
            self._done(job, seat)

    def _execution(self, job: _Job, parking: context.Parking) -> Any:
        return execute(job.claimed, journal=self._journal, parking=parking, history=job.history)

    def _done(self, job: _Job, seat: Seat) -> None:
        context.leave(job.claimed.id)
        with self._lock:
            self._running[job.claimed.queue_name] -= 1
            if not self._running[job.claimed.queue_name]:
                del self._running[job.claimed.queue_name]
        seat.leave()

    def stop(self) -> None:
        """Tell every execution to end at its next durable operation."""
        self.slots.close()
        with self._lock:
            self._is_stopping = True
        self._inbox.close()
        self.interrupt()

    def interrupt(self) -> None:
        """Make every execution look up; those that wait do so at once."""
        for execution in context.running_of(self.executor_id):
            execution.lease.stop()
            hub.wake(interruption_of(execution.workflow_id))

    def join(self, timeout: float) -> bool:
        """Wait for at most ``timeout`` seconds until nothing runs any more; whether that is so."""
        deadline = monotonic() + timeout
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            while thread.is_alive() and monotonic() < deadline:
                thread.join(_NUDGE)
                self.interrupt()  # also what has begun since the last time
        ended = self._guest_loops is None or self._guest_loops.stop(max(deadline - monotonic(), 0), self.interrupt)
        ended = self._loop.stop(max(deadline - monotonic(), 0), self.interrupt) and ended
        self._crew.shutdown(wait=ended)
        return ended and not any(thread.is_alive() for thread in threads)
