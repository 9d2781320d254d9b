"""Workflows as rows: submit one, attach to one, load one."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

from ..clock import monotonic
from ..exceptions import ConflictingWorkflow, NonExistentWorkflow, QueueDeduplicated, WorkflowIDInUse
from ..hub import WORK
from ..models import Step, Workflow
from . import vendor
from .journal import Checkpoint, Lease, Recorded, explain, insert_checkpoint
from .vendor import Dialect, dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """On whose behalf a workflow runs."""

    user: str = ""
    roles: tuple[str, ...] = ()
    assumed_role: str = ""


#: Nobody said on whose behalf.
NOBODY: Final = Identity()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A workflow to be. With an executor it is PENDING and that executor's at once; without, it is enqueued.

    What is false here is left to the columns' defaults.
    """

    id: str
    name: str
    inputs: str
    serializer: str
    class_name: str = ""
    instance_name: str = ""
    executor_id: str = ""
    queue_name: str = ""
    priority: int = 0
    deduplication_id: str = ""
    partition_key: str = ""
    #: Seconds, or a moment, before which it does not start; not for one that has an executor.
    delay: float | datetime | None = None
    #: Seconds from its start after which it is cancelled.
    timeout: float | None = None
    #: Whether it takes its parent's deadline over.
    inherits_deadline: bool = False
    parent_id: str | None = None
    schedule_name: str = ""
    application_version: str = ""
    application_name: str = ""
    #: A JSON object.
    attributes: str = ""
    identity: Identity = NOBODY

    #: What is done if the id exists, or its deduplication id is held: refuse, or attach.
    must_be_new: bool = False
    may_join: bool = False


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
    class_name: str = ""
    instance_name: str = ""
    #: Whether this process has just checked what the call may do: its arguments and its roles.
    is_checked: bool = False
    #: Only a row that ran before, or was forked, can have recorded steps.
    may_have_steps: bool = False
    has_deadline: bool = False
    identity: Identity = NOBODY


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


# What is written as it is, if there is anything; the rest takes an expression.
_PLAIN: Final = (
    "id",
    "name",
    "inputs",
    "serializer",
    "class_name",
    "instance_name",
    "executor_id",
    "queue_name",
    "priority",
    "deduplication_id",
    "partition_key",
    "timeout",
    "parent_id",
    "schedule_name",
    "application_version",
    "application_name",
    "attributes",
)


def row_of(submission: Submission) -> tuple[dict[str, str], list[Any]]:
    """The columns to insert, each with its expression, and the parameters of all of them in their order."""
    words = dialect()
    values = {column: value for column in _PLAIN if (value := getattr(submission, column))}
    row, parameters = dict.fromkeys(values, "%s"), list(values.values())

    def add(column: str, expression: str, *its_parameters: Any) -> None:
        row[column] = expression
        parameters.extend(its_parameters)

    if submission.executor_id:
        row |= {"status": "'PENDING'", "started_at": words.now, "epoch": "1", "attempts": "1"}
    elif submission.delay:
        add("status", "'DELAYED'")
        _add_delay(add, words, submission.delay)
    else:
        row["status"] = "'ENQUEUED'"
    if submission.timeout and submission.executor_id:
        add("deadline", words.later.format("%s"), submission.timeout)
    elif submission.inherits_deadline:
        add("deadline", "(SELECT deadline FROM dbos_workflow WHERE id = %s)", submission.parent_id)
    if submission.identity is not NOBODY:
        _add_identity(add, submission.identity)
    return row, parameters


def _add_delay(add: Callable[..., None], words: Dialect, delay: float | datetime) -> None:
    if isinstance(delay, datetime):
        add("delay_until", "%s", vendor.moment(delay))
    else:
        add("delay_until", words.later.format("%s"), delay)


def _add_identity(add: Callable[..., None], identity: Identity) -> None:
    add("authenticated_user", "%s", identity.user)
    add("authenticated_roles", "%s", json.dumps(identity.roles))
    add("assumed_role", "%s", identity.assumed_role)


@cache
def _submit_sql(columns: tuple[str, ...], expressions: tuple[str, ...], returning: str) -> str:
    return f"""
        INSERT INTO dbos_workflow ({", ".join(columns)}) VALUES ({", ".join(expressions)})
        ON CONFLICT DO NOTHING RETURNING {returning}
    """  # noqa: S608


_WAKING: Final = f"id, pg_notify('{vendor.CHANNEL}', '{WORK}')"


def submit(submission: Submission) -> bool:
    """Insert a workflow in one statement, in the caller's transaction if there is one.

    False: the id is taken, or an active workflow of the queue holds the deduplication id; see :func:`place`.
    """
    # Workers are told of deadlines and delays, too: who looks seldom would find them late.
    is_news = not submission.executor_id or submission.timeout is not None
    wakes = is_news and dialect().notifies and burst.needs_wake_up(vendor.connection().in_atomic_block)
    row, parameters = row_of(submission)
    sql = _submit_sql(tuple(row), tuple(row.values()), _WAKING if wakes else "id")
    is_new = bool(vendor.fetch(sql, parameters))
    if is_new and wakes:
        burst.woke()
    if is_new and is_news:
        vendor.wake_on_commit(WORK)
    return is_new


#: What is in a workflow's way may be gone when it is looked for; one that comes and goes so often is none.
ROUNDS: Final = 10


def place(submission: Submission) -> tuple[str, bool]:
    """Submit a workflow, or attach to what is there already: (the workflow's id, whether it is new).

    Raises ConflictingWorkflow, WorkflowIDInUse or QueueDeduplicated.
    """
    for _ in range(ROUNDS):
        if submit(submission):
            return submission.id, True
        existing = _namesake(submission) or _holder(submission)
        if existing is not None:
            return existing, False
    return submission.id, False


def _namesake(submission: Submission) -> str | None:
    """The id, if it exists; inputs are not compared, the first caller won."""
    existing = Workflow.objects.filter(pk=submission.id).values_list(*FUNCTION).first()
    if existing is None:
        return None
    check_function(submission.id, existing, submission)
    if submission.must_be_new:
        raise WorkflowIDInUse(
            f"The workflow id {submission.id!r} is in use, and reuse_policy='reject' asks for a new one."
        )
    return submission.id


#: The columns that say which function a workflow is a run of, and of which class and instance.
FUNCTION: Final = ("name", "class_name", "instance_name")


def check_function(workflow_id: str, existing: tuple[str, ...], submission: Submission) -> None:
    """Raises ConflictingWorkflow unless the workflow is a run of the function that shall be started."""
    wanted = (submission.name, submission.class_name, submission.instance_name)
    if existing != wanted:
        raise ConflictingWorkflow(
            f"The workflow id {workflow_id!r} belongs to {_spelled(*existing)}, so it cannot start "
            f"{_spelled(*wanted)}: choose another id."
        )


def _spelled(name: str, class_name: str, instance_name: str) -> str:
    owner = f" of {class_name}" if class_name else ""
    return f"{name!r}{owner}{f' {instance_name!r}' if instance_name else ''}"


def holders(queue_name: str, deduplication_ids: Collection[str]) -> dict[str, str]:
    """Deduplication id -> the active workflow of this queue that holds it."""
    held = Workflow.objects.filter(queue_name=queue_name, deduplication_id__in=list(deduplication_ids))
    return dict(held.exclude(deduplication_id="").order_by().values_list("deduplication_id", "pk"))


def _holder(submission: Submission) -> str | None:
    if not submission.deduplication_id:
        return None
    holder = holders(submission.queue_name, [submission.deduplication_id]).get(submission.deduplication_id)
    if holder is not None and not submission.may_join:
        raise QueueDeduplicated(
            f"On the queue {submission.queue_name!r} the workflow {holder!r} holds the deduplication id "
            f"{submission.deduplication_id!r} until it ends. duplication_policy='return-existing' gives its handle.",
            workflow_id=holder,
            queue_name=submission.queue_name,
            deduplication_id=submission.deduplication_id,
        )
    return holder


def place_child(lease: Lease, checkpoint: Checkpoint, submission: Submission) -> tuple[str, bool] | Recorded:
    """Submit a child and its parent's step in one commit, see place(); what was recorded there, if that came first."""
    while True:
        key = lease.key
        with vendor.transaction():
            if insert_checkpoint(lease.workflow_id, key, checkpoint):
                child_id, is_new = place(submission)
                if child_id != checkpoint.child_id:
                    Step.objects.filter(workflow_id=lease.workflow_id, number=checkpoint.number).update(
                        child_id=child_id
                    )
                return child_id, is_new
        earlier = explain(lease, checkpoint.number)
        if earlier is not None:
            return earlier


def write_assumed_role(lease: Lease, role: str) -> None:
    """Write down in which role a workflow runs. Zero rows: it is no longer ours, as the next write will find out."""
    executor_id, epoch = lease.key
    Workflow.objects.filter(pk=lease.workflow_id, executor_id=executor_id, epoch=epoch).update(assumed_role=role)


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
        has_deadline=bool(submission.timeout) or submission.inherits_deadline,
        identity=submission.identity,
        class_name=submission.class_name,
        instance_name=submission.instance_name,
        is_checked=True,
    )


def load(workflow_id: str) -> Workflow:
    """The row of a workflow. An unknown id raises NonExistentWorkflow."""
    row: Workflow | None = Workflow.objects.filter(pk=workflow_id).first()
    if row is None:
        raise NonExistentWorkflow(f"There is no workflow with the id {workflow_id!r}.")
    return row
