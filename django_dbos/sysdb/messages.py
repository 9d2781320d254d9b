"""Messages as rows: put them into a workflow's mailbox, take the oldest out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from ..exceptions import NonExistentWorkflow
from ..hub import MESSAGE, Watch
from ..ids import uuid7
from ..models import Workflow
from . import vendor
from .journal import Checkpoint, Lease, Recorded, explain, insert_checkpoint
from .vendor import Dialect, dialect

#: How many messages one statement inserts.
BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message on its way."""

    destination: str
    topic: str
    payload: str
    serializer: str
    idempotency_key: str = ""


@cache
def _send_sql(dialect: Dialect, count: int) -> str:
    rows = ", ".join(["(%s, %s, %s, %s, %s, %s)"] * count)
    columns = "id, destination_id, topic, payload, serializer, idempotency_key"
    picked = "v.column1, v.column2, v.column3, v.column4, v.column5, v.column6"
    # Who has not begun yet waits for nothing: it looks when it begins.
    told = f"""
        CASE WHEN (SELECT w.status FROM dbos_workflow w WHERE w.id = destination_id) = 'PENDING'
             THEN pg_notify('{vendor.CHANNEL}', '{MESSAGE}:' || destination_id)::text END
    """  # noqa: S608
    return f"""
        INSERT INTO dbos_message ({columns})
        SELECT {picked} FROM (VALUES {rows}) AS v JOIN dbos_workflow w ON w.id = v.column2
        WHERE TRUE ON CONFLICT DO NOTHING
        RETURNING destination_id, idempotency_key, {told if dialect.notifies else "NULL"}
    """  # noqa: S608


def send(letters: Sequence[Letter]) -> None:
    """Put messages into mailboxes, in the caller's transaction; the order of ``letters`` is kept.

    One whose idempotency key its destination has seen is left out. An unknown destination raises
    NonExistentWorkflow; the caller's transaction undoes what was written.
    """
    for start in range(0, len(letters), BATCH):
        _send(letters[start : start + BATCH])


def _send(letters: Sequence[Letter]) -> None:
    parameters = [
        value
        for letter in letters
        for value in (
            uuid7(),
            letter.destination,
            letter.topic,
            letter.payload,
            letter.serializer,
            letter.idempotency_key,
        )
    ]
    sent = {(row[0], row[1]) for row in vendor.fetch(_send_sql(dialect(), len(letters)), parameters)}
    _check_destinations(
        {letter.destination for letter in letters if (letter.destination, letter.idempotency_key) not in sent}
    )
    vendor.wake_on_commit(*{Watch(MESSAGE, destination).channel for destination, _ in sent})


def _check_destinations(destinations: set[str]) -> None:
    """Make sure that letters which were not inserted had been sent before."""
    if not destinations:
        return
    known = set(Workflow.objects.filter(pk__in=destinations).values_list("pk", flat=True))
    unknown = sorted(destinations - known)
    if unknown:
        raise NonExistentWorkflow(f"There is no workflow with the id {unknown[0]!r}, so nothing can be sent to it.")


@cache
def _forks_sql() -> str:
    return """
        WITH RECURSIVE forks (id) AS (
            SELECT id FROM dbos_workflow WHERE id = %s
            UNION SELECT w.id FROM dbos_workflow w JOIN forks ON w.forked_from_id = forks.id
        )
        SELECT id FROM forks WHERE id <> %s
    """


def forks_of(workflow_id: str) -> list[str]:
    """The ids of all forks of a workflow, and of their forks."""
    return [row[0] for row in vendor.fetch(_forks_sql(), (workflow_id, workflow_id))]


@cache
def _take_sql(dialect: Dialect) -> str:
    return f"""
        UPDATE dbos_message SET consumed_by_step = %s
        WHERE id = (
            SELECT id FROM dbos_message
            WHERE destination_id = %s AND topic = %s AND consumed_by_step IS NULL
            ORDER BY created_at, id LIMIT 1 {dialect.skip_locked}
        )
        RETURNING payload, serializer
    """  # noqa: S608


class _Refused(Exception):
    """Rolls a transaction back because its checkpoint was refused."""


def consume(lease: Lease, number: int, name: str, topic: str, started: float, now: float) -> Recorded | None:
    """Take the oldest message of a topic and record it as operation ``number``, in one commit.

    None: there is none. What a predecessor recorded at this number counts, if that came first; raises
    WorkflowCancelled or OwnershipLost if the workflow is no longer ours.
    """
    if not waiting(Watch(MESSAGE, lease.workflow_id, topic)):
        return None
    while True:
        try:
            with vendor.transaction():
                return _take(lease, number, name, topic, started, now)
        except _Refused:
            earlier = explain(lease, number)
        if earlier is not None:
            return earlier


def _take(lease: Lease, number: int, name: str, topic: str, started: float, now: float) -> Recorded | None:
    taken = vendor.fetch(_take_sql(dialect()), (number, lease.workflow_id, topic))
    if not taken:
        return None
    payload, serializer = taken[0]
    checkpoint = Checkpoint(
        number=number, name=name, output=payload, serializer=serializer, started=started, completed=now
    )
    if not insert_checkpoint(lease.workflow_id, lease.key, checkpoint):
        raise _Refused
    return Recorded(number=number, name=name, output=payload, error=None, serializer=serializer, child_id="")


@cache
def _waiting_sql(dialect: Dialect) -> str:
    return f"""
        SELECT DISTINCT destination_id, topic FROM dbos_message
        WHERE destination_id {dialect.listed} AND consumed_by_step IS NULL
    """  # noqa: S608


def waiting(watch: Watch) -> bool:
    """Whether a message waits to be received."""
    return bool(waiting_among([watch]))


def waiting_among(watches: Iterable[Watch]) -> list[Watch]:
    """Those of ``watches`` for which a message waits."""
    wanted = list(watches)
    destinations = vendor.listed({watch.workflow_id for watch in wanted})
    found = set(vendor.fetch(_waiting_sql(dialect()), [destinations]))
    return [watch for watch in wanted if (watch.workflow_id, watch.key) in found]
