"""The stage: runs every workflow that can run, one at a time, until nothing can go on.

It claims like a worker, but on the test's own connections. A sync body has a lane; async bodies share an event loop,
and what they want from the database gets a lane. Where a body would wait it gives its turn back, and looks again when
it has its next one. A round gives everybody a turn; when a whole round changed nothing all is over or waits. Then what
waits is abandoned where it is: it is still PENDING, and goes on from its last finished step the next time.
"""

import asyncio
import os
from collections import Counter
from contextvars import Context
from functools import cache, partial
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async

from .. import conducting, context
from ..bridge import adrive, drive
from ..context import NoParking
from ..exceptions import BlockingCall, DirectCallInTransaction, ExecutionAbandoned
from ..execution import execute
from ..hub import Signal, on_event_loop
from ..registry import workflow_registry
from ..runtime.dispatcher import Dispatcher
from ..runtime.pool import Pool
from ..sysdb import executors, journal, vendor
from ..sysdb.steps import History
from ..sysdb.workflows import Claimed
from .connections import Connections, lent
from .crashes import bury
from .lanes import Lane, this_lane
from .loop import Loop, body

#: How many workflows one claim may take.
_MANY = 100_000


@cache
def _executor_id(pid: int) -> str:
    return f"test-{executors.new_id()}"


def executor_id() -> str:
    """The executor that a test process is for what its tests run."""
    return _executor_id(os.getpid())


class _Claims(Pool):
    """What the dispatcher hands claimed workflows to."""

    def __init__(self, stage: "Stage") -> None:
        super().__init__(executor_id=executor_id(), concurrency=_MANY, journal=journal.inline)
        self._stage = stage
        self.queues: Counter[str] = Counter()

    def running_in(self, queue_name: str) -> int:
        """See Pool.running_in()."""
        return self.queues[queue_name]

    def submit(self, claimed: Claimed, history: History) -> None:
        """See Pool.submit()."""
        self.slots.untake(1)  # here nothing is short of slots
        if not context.adopt(claimed):
            self.queues[claimed.queue_name] += 1
            self._stage.begin(claimed, history)


class Stage:
    """One run of everything that can run; the conductor of the bodies on it."""

    def __init__(self, *, is_inline: bool) -> None:
        self._is_inline = is_inline
        self._claims = _Claims(self)
        self._dispatcher = Dispatcher(executor_id=executor_id(), pool=self._claims, only_queues=None)
        self._connections: Connections = {}
        self._lanes: list[Lane] = []
        self._loop: Loop | None = None
        self._parked: list[asyncio.Future[None]] = []
        #: What made way for something it started: the last one goes on first.
        self._making_way: list[Lane | asyncio.Future[None]] = []
        self._seen: set[Signal] = set()
        self._has_moved = False
        self._is_closing = False
        self._ended = 0

    def run(self) -> int:
        """Claim and run until nothing goes on; how many workflows ended."""
        if isinstance(conducting.conductor.get(), Stage):
            raise DirectCallInTransaction("Workflows are being run already: ask for it from the test itself.")
        if on_event_loop():
            raise BlockingCall()
        if vendor.in_transaction():
            raise DirectCallInTransaction("Workflows cannot run inside atomic(): leave the block first.")
        with lent() as self._connections:
            executors.release(executor_id())
            try:
                while self._round():
                    pass
            finally:
                self._close()
        return self._ended

    def _round(self) -> bool:
        self._has_moved = False
        self._dispatcher.tick()
        for lane in [lane for lane in self._lanes if not lane.makes_way]:
            self._give_turn(lane)
        self._give_loop_its_turn()
        return self._has_moved or self._let_pass()

    def _give_turn(self, lane: Lane) -> None:
        lane.take_turn()
        if lane.is_over:
            self._lanes.remove(lane)
            self._has_moved = True

    def _give_loop_its_turn(self) -> None:
        if self._loop is None:
            return
        for future in self._parked:
            self._loop.wake(future)
        self._parked = []
        while jobs := self._loop.settle():
            for job in jobs:
                lane = Lane(job, self._connections)
                lane.take_turn()
                if not lane.is_over:
                    self._lanes.append(lane)
        self._loop.raise_errors()

    def _let_pass(self) -> bool:
        """Let the last of those go on that made way for what they started; whether there was one."""
        if not self._making_way:
            return False
        last = self._making_way.pop()
        if isinstance(last, Lane):
            last.makes_way = False
        else:
            self._parked.append(last)
        return True

    def _close(self) -> None:
        """Abandon what waits."""
        self._is_closing = True
        for execution in context.running_of(executor_id()):
            execution.abandon()
        for lane in [lane for lane in self._lanes if not lane.is_over]:
            lane.take_turn()
        if self._loop is not None:
            self._parked += [future for future in self._making_way if isinstance(future, asyncio.Future)]
            self._give_loop_its_turn()
            for task in tuple(self._loop.tasks):  # they wait for something of their own
                self._loop.call_soon_threadsafe(task.cancel)
            self._give_loop_its_turn()
            self._loop.end()

    # ---- bodies

    def begin(self, claimed: Claimed, history: History) -> None:
        """Put a claimed workflow on the stage; its body begins at its first turn."""
        self._has_moved = True
        ours = Context()
        ours.run(conducting.conductor.set, self)
        ours.run(conducting.probe.set, conducting.probe.get())
        definition = workflow_registry.find(claimed.name)
        if definition is None or not definition.is_async:
            self._lanes.append(Lane(partial(ours.run, self._perform, claimed, history), self._connections))
            return
        self._loop = self._loop or Loop()
        self._loop.begin(self._aperform(claimed, history), ours)

    def _perform(self, claimed: Claimed, history: History) -> None:
        if self._is_closing:
            return
        try:
            self._over(claimed, drive(_execution(claimed, history)))
        except ExecutionAbandoned as abandoned:
            self._bury(abandoned)

    async def _aperform(self, claimed: Claimed, history: History) -> None:
        body.set(claimed.id)
        async with ThreadSensitiveContext() as own_thread:
            assert self._loop is not None  # noqa: S101 - it is what runs this
            SyncToAsync.context_to_thread_executor[own_thread] = self._loop.jobs
            try:
                self._over(claimed, await adrive(_execution(claimed, history)))
            except ExecutionAbandoned as abandoned:
                await sync_to_async(self._bury)(abandoned)
            SyncToAsync.context_to_thread_executor.pop(own_thread)

    def _over(self, claimed: Claimed, result: context.Result | None) -> None:
        self._claims.queues[claimed.queue_name] -= 1
        self._has_moved = True
        self._ended += result is not None

    def _bury(self, abandoned: ExecutionAbandoned) -> None:
        if not self._is_closing:
            bury(abandoned.workflow_ids)

    # ---- what the bodies on it know of it: conducting.Conductor

    def wait(self, signal: Signal) -> None:
        """See Conductor.wait()."""
        self._note(signal)
        self._give_back()

    async def await_(self, signal: Signal) -> None:
        """See Conductor.await_()."""
        self._note(signal)
        await self._agive_back(self._parked)

    def make_way(self) -> None:
        """See Conductor.make_way()."""
        if self._is_inline and not vendor.in_transaction():
            lane = this_lane()
            lane.makes_way = True
            self._making_way.append(lane)
            self._give_back()

    async def amake_way(self) -> None:
        """See Conductor.amake_way()."""
        if self._is_inline:
            await self._agive_back(self._making_way)

    def _note(self, signal: Signal) -> None:
        """A wait that was not there before means that its body has gone on."""
        self._has_moved = self._has_moved or signal not in self._seen
        self._seen.add(signal)

    def _give_back(self) -> None:
        if not self._is_closing:
            this_lane().give_back()
        self._look_up()

    async def _agive_back(self, where: list[Any]) -> None:
        if asyncio.get_running_loop() is not self._loop:  # a sync body runs a loop of its own
            await sync_to_async(self._give_back)()
            return
        if not self._is_closing:
            await self._loop.park(where)
        self._look_up()

    def _look_up(self) -> None:
        if self._is_closing:
            raise ExecutionAbandoned()


def _execution(claimed: Claimed, history: History) -> Any:
    return execute(claimed, journal=journal.inline, parking=NoParking(), history=history)
