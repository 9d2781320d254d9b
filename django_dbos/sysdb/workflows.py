"""Workflows as rows: submit one, attach to one, find how one ended."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from ..clock import monotonic
from ..exceptions import ConflictingWorkflow, NonExistentWorkflow
from ..hub import WORK, hub
from ..models import Workflow
from ..states import ACTIVE, FINISHED, WorkflowStatus
from . import vendor
from .journal import Checkpoint, Ending, Lease, Recorded, explain, insert_checkpoint
from .vendor import Dialect, dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A workflow to be. With an executor it is PENDING and that executor's at once; without, it is enqueued."""

    id: str
    name: str
    inputs: str
    serializer: str
    executor_id: str = ""
    queue_name: str = ""
    priority: int = 0
    parent_id: str | None = None
    schedule_name: str = ""
    application_version: str = ""
    application_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A workflow that this process owns and is about to run."""

    id: str
    name: str
    inputs: str
    serializer: str
    executor_id: str
    epoch: int
    attempts: int
    queue_name: str = ""
    parent_id: str | None = None
    #: Only a row that ran before, or was forked, can have recorded steps.
    may_have_steps: bool = False


class Burst:
    """Spares the wake-ups of a burst: each costs the server a global lock at its commit.

    A wake-up is left out if this process sent one less than ``LENGTH`` seconds ago; whoever was woken looks again
    after that long. Inside a transaction none is left out: nobody knows when it will commit, and the server sends
    the equal ones of a transaction once.
    """

    LENGTH = 0.02

    def __init__(self) -> None:
        self._woke_at = 0.0

    def needs_wake_up(self, in_transaction: bool) -> bool:
        """Whether a row that is inserted now has to wake somebody."""
        return in_transaction or monotonic() - self._woke_at >= self.LENGTH

    def woke(self) -> None:
        """A wake-up was sent."""
        self._woke_at = monotonic()

    def forget(self) -> None:
        """The next row wakes somebody whatever came before."""
        self._woke_at = 0.0


#: The enqueues of this process.
burst = Burst()


@cache
def _submit_sql(dialect: Dialect, *, claimed: bool, wakes: bool) -> str:
    started = f"{dialect.now}, 1, 1" if claimed else "NULL, 0, 0"
    returning = f"id, pg_notify('{vendor.CHANNEL}', '{WORK}')" if wakes else "id"
    return f"""
        INSERT INTO dbos_workflow (id, name, status, inputs, serializer, executor_id, queue_name, priority, parent_id,
                                   schedule_name, application_version, application_name, started_at, epoch, attempts)
        VALUES (%s, %s, '{"PENDING" if claimed else "ENQUEUED"}', %s, %s, %s, %s, %s, %s, %s, %s, %s, {started})
        ON CONFLICT DO NOTHING
        RETURNING {returning}
    """  # noqa: S608


def submit(submission: Submission) -> bool:
    """Insert a workflow in one statement, in the caller's transaction if there is one.

    False: the id is taken; see :func:`attach`.
    """
    words = dialect()
    claimed = bool(submission.executor_id)
    wakes = not claimed and words.notifies and burst.needs_wake_up(vendor.connection().in_atomic_block)
    sql = _submit_sql(words, claimed=claimed, wakes=wakes)
    parameters = (
        submission.id,
        submission.name,
        submission.inputs,
        submission.serializer,
        submission.executor_id,
        submission.queue_name,
        submission.priority,
        submission.parent_id,
        submission.schedule_name,
        submission.application_version,
        submission.application_name,
    )
    is_new = bool(vendor.fetch(sql, parameters))
    if is_new and wakes:
        burst.woke()
    if is_new and not claimed:
        vendor.connection().on_commit(lambda: hub.wake(WORK))
    return is_new


def attach(workflow_id: str, name: str) -> None:
    """Make sure that an existing workflow is a run of ``name``; inputs are not compared, the first caller won."""
    existing = Workflow.objects.filter(pk=workflow_id).values_list("name", flat=True).first()
    if existing is not None and existing != name:
        raise ConflictingWorkflow(
            f"The workflow id {workflow_id!r} belongs to {existing!r}, so it cannot start {name!r}: choose another id."
        )


def submit_child(lease: Lease, checkpoint: Checkpoint, submission: Submission) -> Recorded | None:
    """Insert a child and its parent's step in one commit; what was recorded at that number, if that came first."""
    while True:
        key = lease.key
        with vendor.transaction():
            if insert_checkpoint(lease.workflow_id, key, checkpoint):
                if not submit(submission):
                    attach(submission.id, submission.name)
                return None
        earlier = explain(lease, checkpoint.number)
        if earlier is not None:
            return earlier


def claimed_by_submission(submission: Submission) -> Claimed:
    """The claim that lies in submitting with an executor."""
    return Claimed(
        id=submission.id,
        name=submission.name,
        inputs=submission.inputs,
        serializer=submission.serializer,
        executor_id=submission.executor_id,
        epoch=1,
        attempts=1,
        parent_id=submission.parent_id,
    )


def find_outcome(workflow_id: str) -> Ending | None:
    """How a workflow ended; None while it has not. An unknown id raises NonExistentWorkflow."""
    rows = vendor.fetch("SELECT status, output, error, serializer FROM dbos_workflow WHERE id = %s", (workflow_id,))
    if not rows:
        raise NonExistentWorkflow(f"There is no workflow with the id {workflow_id!r}.")
    status, output, error, serializer = rows[0]
    if status not in FINISHED:
        return None
    return Ending(status=WorkflowStatus(status), output=output, error=error, serializer=serializer)


@cache
def _ask_sql() -> str:
    active = ", ".join(f"'{status}'" for status in sorted(ACTIVE))
    return f"UPDATE dbos_workflow SET is_awaited = TRUE WHERE id = %s AND NOT is_awaited AND status IN ({active})"  # noqa: S608


def ask_to_be_told(workflow_id: str) -> None:
    """Let whoever writes news of a workflow tell all processes.

    Zero rows: somebody asked before, or it has finished or does not exist. So look again after having asked.
    """
    if dialect().notifies:
        vendor.execute(_ask_sql(), (workflow_id,))


def finished_among(workflow_ids: Collection[str]) -> list[str]:
    """Those of these workflows that have finished."""
    return list(Workflow.objects.finished().filter(pk__in=list(workflow_ids)).order_by().values_list("pk", flat=True))


def load(workflow_id: str) -> Workflow:
    """The row of a workflow. An unknown id raises NonExistentWorkflow."""
    row: Workflow | None = Workflow.objects.filter(pk=workflow_id).first()
    if row is None:
        raise NonExistentWorkflow(f"There is no workflow with the id {workflow_id!r}.")
    return row
