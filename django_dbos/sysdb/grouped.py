"""The grouped form of the journal: many checkpoints and outcomes, one statement, one commit.

What executions record is put into one list and they go on (write behind). Whoever has to wait - at a barrier,
or the writer of the runtime - takes all that is there and commits it; while that goes on the next group
gathers. A lone workflow therefore writes its own checkpoints on its own thread, at its next barrier, and a
busy process commits hundreds at a time.
"""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import DatabaseError, InterfaceError

from .. import clock, serialization
from ..exceptions import ExecutorStopping, OwnershipLost, WorkflowInterrupted
from ..hub import hub, on_event_loop, outcome_of
from ..states import WorkflowStatus
from . import executors, vendor
from .group import Entry, write_group
from .journal import Checkpoint, Ending, Lease, Recorded, explain, has_ended_as

#: At most so many rows are written at a time.
GROUP = 1000


class GroupedJournal:
    """See Journal. ``wake`` tells the writer that something waits which nobody may come to wait for."""

    is_write_behind = True

    def __init__(self, connect: Callable[[], "psycopg.Connection[Any]"], wake: Callable[[], None]) -> None:
        self._connect = connect
        self._wake = wake
        self._connection: psycopg.Connection[Any] | None = None
        self._changed = threading.Condition()
        self._waiting: list[Entry] = []
        self._is_writing = False
        #: How many groups were written.
        self.groups = 0
        self._closing = threading.Event()

    # ---- what executions call

    def record(self, lease: Lease, checkpoint: Checkpoint) -> Recorded | None:
        """See Journal.record(). What a predecessor recorded first surfaces at the next barrier, as a loss."""
        self._add(Entry(lease, lease.key, checkpoint=checkpoint))
        self._wake()
        return None

    def finish(self, lease: Lease, ending: Ending) -> None:
        """See Journal.finish(); returns before the outcome is durable."""
        if lease.refusal is not None:
            raise lease.refusal
        self._add(Entry(lease, lease.key, ending=ending))
        if on_event_loop():
            self._wake()  # here nothing may block
        else:
            self._lead()  # if somebody else is writing, the writer is woken for what came meanwhile

    def is_settled(self, lease: Lease) -> bool:
        """See Journal.is_settled()."""
        return not lease.unsettled and lease.refusal is None

    def barrier(self, lease: Lease) -> None:
        """See Journal.barrier(). The thread that waits writes what waits, unless another one is at it."""
        try:
            while lease.unsettled:
                if not self._lead():
                    with self._changed:
                        self._changed.wait_for(lambda: not lease.unsettled or not self._is_writing, timeout=1.0)
        except InterruptedError as interruption:
            raise ExecutorStopping(lease.workflow_id) from interruption
        if lease.refusal is not None:
            raise lease.refusal

    def check(self, lease: Lease) -> None:
        """See Journal.check()."""
        self.barrier(lease)
        vendor.patiently(lambda: explain(lease), pause=lease.pause)

    # ---- what the writer calls

    def write(self) -> None:
        """Write until nothing waits any more."""
        while self._waiting and self._lead():
            pass

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits or is being written."""
        return not self._waiting and not self._is_writing

    def rest(self) -> None:
        """Hold no connection until there is something to write again."""
        with self._changed:
            if self._is_writing or self._waiting:
                return
            self._is_writing = True
        try:
            self._disconnect()
        finally:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()

    def give_up(self) -> None:
        """Wait for the database no more: what is not written is left to recovery."""
        self._closing.set()

    def close(self) -> None:
        """Close the journal for good; whoever still has something to write is told that its executor stops."""
        self.give_up()
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # ---- one group

    def _add(self, entry: Entry) -> None:
        with self._changed:
            entry.lease.unsettled += 1
            self._waiting.append(entry)

    def _lead(self) -> bool:
        """Write one group of what waits. False: somebody else is writing."""
        with self._changed:
            if self._is_writing:
                return False
            self._is_writing = True
            self.groups += 1
            group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
        again: list[Entry] = []
        settled: list[Entry] = []
        try:
            settled, again = self._commit(group)
        except BaseException:
            again = group
            raise
        finally:
            with self._changed:
                self._is_writing = False
                self._waiting[:0] = again
                for entry in settled:
                    entry.lease.unsettled -= 1
                self._changed.notify_all()
        if self._waiting:
            self._wake()
        for entry in settled:
            if entry.ending is not None:
                news = entry.ending if entry.lease.refusal is None else None
                hub.wake(outcome_of(entry.lease.workflow_id), news)
        return True

    def _commit(self, group: list[Entry]) -> tuple[list[Entry], list[Entry]]:
        """Write a group: what is settled, one way or the other, and what has to be written again."""
        # What follows a refused write of the same execution is void.
        settled = [entry for entry in group if entry.lease.refusal is not None]
        group = [entry for entry in group if entry.lease.refusal is None]
        try:
            accepted = self._write(group) if group else set()
        except psycopg.Error as error:
            done, again = self._commit_apart(group, error)
            return settled + done, again
        again = []
        for entry in group:
            number = entry.checkpoint.number if entry.checkpoint is not None else None
            is_done = (entry.lease.workflow_id, number) in accepted or self._is_refused(entry)
            (settled if is_done else again).append(entry)
        return settled, again

    def _write(self, group: list[Entry]) -> set[tuple[str, int | None]]:
        """Write a group, and again until the database can do it; a row that a broken connection left is ours."""
        for delay in clock.backoff(0.01, 2, 5.0):
            try:
                if self._connection is None:
                    self._connection = self._reconnect()
                accepted = write_group(self._connection, group)
            except psycopg.Error as error:
                if not _will_pass(error):
                    raise
                vendor.outage_seen(error)
                self._disconnect()
                if self._closing.wait(delay):
                    raise InterruptedError("the journal closes") from error
            else:
                vendor.outage_over()
                return accepted
        raise AssertionError("a back-off never ends")

    def _reconnect(self) -> "psycopg.Connection[Any]":
        if self._closing.is_set():  # it would stay open for ever
            raise InterruptedError("the journal is closed")
        return self._connect()

    def _commit_apart(self, group: list[Entry], error: psycopg.Error) -> tuple[list[Entry], list[Entry]]:
        """Split a group that the database does not take until the bad row is alone, and its workflow with it."""
        if len(group) == 1:
            return self._give_up(group[0], error)
        # A workflow's entries stay in their order: the halves are written one after the other.
        middle = len(group) // 2
        first, first_again = self._commit(group[:middle])
        second, second_again = self._commit(group[middle:])
        return first + second, first_again + second_again

    def _give_up(self, entry: Entry, error: psycopg.Error) -> tuple[list[Entry], list[Entry]]:
        refusal = DatabaseError(str(error))
        if entry.ending is None or entry.ending.status != WorkflowStatus.SUCCESS:
            entry.lease.refusal = refusal
            return [entry], []
        text, _ = serialization.dump_error(refusal)
        entry.ending = Ending(status=WorkflowStatus.ERROR, error=text)
        return [], [entry]

    def _is_refused(self, entry: Entry) -> bool:
        """Find out why an entry was not accepted; False: it has to be written again, under the lease as it is now."""
        lease = entry.lease
        if lease.refusal is not None:
            return True
        number = entry.checkpoint.number if entry.checkpoint is not None else None
        try:
            if entry.ending is not None and has_ended_as(lease, entry.key, entry.ending):
                return True
            earlier = vendor.patiently(lambda: explain(lease, number), pause=lease.pause)
        except (WorkflowInterrupted, DatabaseError, InterfaceError) as refusal:
            lease.refusal = refusal
        else:
            if earlier is None:
                entry.key = lease.key
                return False
            if not _is_same(earlier, entry.checkpoint):
                # A predecessor's record counts: let the workflow run again from what is recorded.
                lease.refusal = OwnershipLost(lease.workflow_id)
                executors.release(lease.key[0], workflow_id=lease.workflow_id, epoch=lease.key[1])
        return True


def _is_same(recorded: Recorded, checkpoint: Checkpoint | None) -> bool:
    """Whether a record is our own, committed on a connection that broke before it could say so."""
    return checkpoint is not None and (recorded.name, recorded.output, recorded.error) == (
        checkpoint.name,
        checkpoint.output,
        checkpoint.error,
    )


def _will_pass(error: psycopg.Error) -> bool:
    wrapped = vendor.wrapped(error)
    return vendor.is_outage(wrapped) or vendor.is_conflict(wrapped)
