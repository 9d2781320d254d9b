"""The one way in which checkpoints and outcomes are written.

Every write carries (executor, epoch) and changes something only while the workflow is PENDING under exactly
these. Zero rows therefore mean one of three things, and :func:`explain` finds out which: the workflow was
cancelled, it belongs to somebody else now, or this number was recorded before (by a predecessor whose write
slipped in between our claim and ours - the primary key decides, and its row counts).
"""

import threading
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from .. import clock
from ..exceptions import ExecutorStopping, OwnershipLost, WorkflowCancelled
from ..hub import OUTCOME, hub, outcome_of
from ..models import Step, Workflow
from ..states import WorkflowStatus
from . import executors, vendor
from .vendor import Dialect, dialect, patiently

#: Claims (workflow id, epoch) that a running body found in its row before the pool was told of them.
foreseen: set[tuple[str, int]] = set()


class Lease:
    """The right to write for one execution: it holds as long as the row says the same (executor, epoch)."""

    def __init__(self, workflow_id: str, executor_id: str, epoch: int) -> None:
        self.workflow_id = workflow_id
        self.key = (executor_id, epoch)
        #: How many writes of a write-behind journal are still on their way.
        self.unsettled = 0
        #: Why one of them was refused; the execution meets it at its next durable operation.
        self.refusal: BaseException | None = None
        self._stopping = threading.Event()

    def renew(self, executor_id: str, epoch: int) -> None:
        """Take over a newer claim of the same workflow, made while its body still runs here."""
        self.key = (executor_id, epoch)

    def covers(self, executor_id: str, epoch: int) -> bool:
        """Whether a row that says (executor, epoch) is ours: claimed by us before, or in this process just now.

        In the second case the claim is on its way to the pool, which must not start another body for it.
        """
        if (executor_id, epoch) != self.key and executor_id in executors.local:
            foreseen.add((self.workflow_id, epoch))
            self.renew(executor_id, epoch)
        return (executor_id, epoch) == self.key

    def stop(self) -> None:
        """From the next durable operation on, the execution is over: its executor is shutting down."""
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        """Whether stop() has been called."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> None:
        """Wait while the database is away; raises ExecutorStopping if the executor gives up meanwhile."""
        if self._stopping.wait(seconds):
            raise ExecutorStopping(self.workflow_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What one finished operation left behind. Times are this process's monotonic seconds."""

    number: int
    name: str
    output: str | None = None
    error: str | None = None
    serializer: str = "json"
    child_id: str = ""
    attempts: int = 1
    started: float
    completed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A checkpoint as it was read back."""

    number: int
    name: str
    output: str | None
    error: str | None
    serializer: str
    child_id: str
    #: When it was over, or will be, in this process's monotonic seconds; of a step that was read with its history.
    completed: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a workflow ended: SUCCESS with an output, ERROR or dead letter with an error; or that it was cancelled."""

    status: WorkflowStatus
    output: str | None = None
    error: str | None = None
    serializer: str = "json"


class Journal(Protocol):
    """How an execution writes. A write-behind form may return from record() before the checkpoint is durable;
    what was refused then surfaces at the next barrier()."""

    #: Whether record() and finish() return before what they write is durable, and never block.
    is_write_behind: bool

    def record(self, lease: Lease, checkpoint: Checkpoint) -> Recorded | None:
        """Write a checkpoint; what a predecessor recorded at this number, if that came first.

        Raises WorkflowCancelled or OwnershipLost if the workflow is no longer ours.
        """

    def check(self, lease: Lease) -> None:
        """Raises WorkflowCancelled or OwnershipLost if the workflow is no longer ours."""

    def is_settled(self, lease: Lease) -> bool:
        """Whether barrier() has nothing to wait for and nothing to raise."""

    def barrier(self, lease: Lease) -> None:
        """Return when every checkpoint that this execution recorded is durable."""

    def finish(self, lease: Lease, ending: Ending) -> None:
        """Write the outcome. Raises WorkflowCancelled or OwnershipLost if the workflow is no longer ours."""


# Said so that no planner takes the index of what is pending for it: the row is to be found by its id, and that
# index is full of what was pending a moment ago.
IS_PENDING = "status || '' = 'PENDING'"


@cache
def record_sql(dialect: Dialect) -> str:
    """Writes one checkpoint, if the workflow is ours; see record_parameters()."""
    # Not executed for values: every value is a parameter, only the vendor's words are put in.
    return f"""
        INSERT INTO dbos_step (workflow_id, number, name, output, error, serializer, child_id, attempts,
                               executor_id, started_at, completed_at)
        SELECT id, %s, %s, %s, %s, %s, %s, %s, executor_id, {dialect.ago}, {dialect.ago}
        FROM dbos_workflow
        WHERE id = %s AND {IS_PENDING} AND executor_id = %s AND epoch = %s
        ON CONFLICT (workflow_id, number) DO NOTHING
    """  # noqa: S608


@cache
def finish_sql(dialect: Dialect, condition: str = "") -> str:
    """Writes one outcome, if the workflow is ours; see finish_parameters()."""
    return f"""
        UPDATE dbos_workflow
        SET status = %s, output = %s, error = %s, deduplication_id = '',
            updated_at = {dialect.now}, completed_at = {dialect.now}
        WHERE id = %s AND {IS_PENDING} AND executor_id = %s AND epoch = %s {condition}
        RETURNING {vendor.telling(dialect, OUTCOME, "dbos_workflow")}
    """  # noqa: S608


def insert_checkpoint(workflow_id: str, key: tuple[str, int], checkpoint: Checkpoint) -> bool:
    """Write one checkpoint on this thread's connection, inside whatever transaction is open there.

    False: refused, nothing was written.
    """
    return vendor.execute(record_sql(dialect()), record_parameters(workflow_id, key, checkpoint)) == 1


def record_parameters(workflow_id: str, key: tuple[str, int], checkpoint: Checkpoint) -> list[Any]:
    """What record_sql() takes."""
    now = clock.monotonic()
    return [
        checkpoint.number,
        checkpoint.name,
        checkpoint.output,
        checkpoint.error,
        checkpoint.serializer,
        checkpoint.child_id,
        checkpoint.attempts,
        now - checkpoint.started,
        now - checkpoint.completed,
        workflow_id,
        *key,
    ]


def finish_parameters(workflow_id: str, key: tuple[str, int], ending: Ending) -> list[Any]:
    """What finish_sql() takes."""
    return [ending.status.value, ending.output, ending.error, workflow_id, *key]


def insert_checkpoint_elsewhere(using: str, workflow_id: str, checkpoint: Checkpoint) -> bool:
    """Write a checkpoint beside the rows of a transaction on another database. False: it is there already.

    There is no workflow there to check against; that a number commits only once is up to the primary key.
    """
    sql = f"""
        INSERT INTO dbos_step (workflow_id, number, name, output, serializer, attempts, completed_at)
        VALUES (%s, %s, %s, %s, %s, %s, {dialect(using).now}) ON CONFLICT (workflow_id, number) DO NOTHING
    """  # noqa: S608
    row = (checkpoint.number, checkpoint.name, checkpoint.output, checkpoint.serializer, checkpoint.attempts)
    return vendor.execute(sql, (workflow_id, *row), using=using) == 1


def recorded(workflow_id: str, number: int) -> Recorded | None:
    """What is recorded at ``number``, if anything is."""
    step = Step.objects.filter(workflow_id=workflow_id, number=number).first()
    return None if step is None else from_row(step)


def from_row(step: Step, age: float = 0.0) -> Recorded:
    """The checkpoint in a row; ``age`` is how many seconds ago it was over, by the database's clock."""
    return Recorded(
        number=step.number,
        name=step.name,
        output=step.output,
        error=step.error,
        serializer=step.serializer,
        child_id=step.child_id,
        completed=clock.monotonic() - age,
    )


def _row(workflow_id: str) -> Any:
    return Workflow.objects.filter(pk=workflow_id).values("status", "executor_id", "epoch", "output", "error").first()


def explain(lease: Lease, number: int | None = None) -> Recorded | None:
    """Why a write changed nothing: raises, or returns the checkpoint that was there first.

    None: the lease was renewed meanwhile, or the row is ours after all; the write may be tried again.
    """
    row = _row(lease.workflow_id)
    if row is not None and row["status"] == WorkflowStatus.CANCELLED:
        raise WorkflowCancelled(lease.workflow_id)
    if row is None or row["status"] != WorkflowStatus.PENDING or not lease.covers(row["executor_id"], row["epoch"]):
        raise OwnershipLost(lease.workflow_id)
    return None if number is None else recorded(lease.workflow_id, number)


def has_ended_as(lease: Lease, key: tuple[str, int], ending: Ending) -> bool:
    """Whether an outcome that was refused is there already: committed just before its connection broke."""
    row = _row(lease.workflow_id)
    return row is not None and (row["status"], row["executor_id"], row["epoch"]) == (ending.status, *key)


class InlineJournal:
    """One guarded autocommit statement per write, on the caller's own connection."""

    is_write_behind = False

    def record(self, lease: Lease, checkpoint: Checkpoint) -> Recorded | None:
        """See Journal.record()."""
        return patiently(lambda: self._record(lease, checkpoint), pause=lease.pause)

    def check(self, lease: Lease) -> None:
        """See Journal.check()."""
        patiently(lambda: explain(lease), pause=lease.pause)

    def is_settled(self, lease: Lease) -> bool:
        """See Journal.is_settled()."""
        return True

    def barrier(self, lease: Lease) -> None:
        """Nothing to wait for: what was recorded is durable already."""

    def finish(self, lease: Lease, ending: Ending) -> None:
        """See Journal.finish()."""
        patiently(lambda: self._finish(lease, ending), pause=lease.pause)
        hub.wake(outcome_of(lease.workflow_id), ending)

    def _record(self, lease: Lease, checkpoint: Checkpoint) -> Recorded | None:
        while True:
            key = lease.key
            if insert_checkpoint(lease.workflow_id, key, checkpoint):
                return None
            earlier = explain(lease, checkpoint.number)
            if earlier is not None:
                return earlier

    def _finish(self, lease: Lease, ending: Ending) -> None:
        while True:
            key = lease.key
            if vendor.fetch(finish_sql(dialect()), finish_parameters(lease.workflow_id, key, ending)):
                return
            if has_ended_as(lease, key, ending):
                return
            explain(lease)


#: The form for web processes, SQLite and tests.
inline = InlineJournal()
