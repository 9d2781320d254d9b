"""Events as rows: the last value that a workflow set for a key, and all that came before."""

from collections.abc import Iterable
from functools import cache

from ..hub import EVENT, Watch
from ..models import Event
from . import vendor
from .journal import IS_PENDING, Lease, explain
from .vendor import Dialect, dialect


@cache
def _event_sql(dialect: Dialect) -> str:
    # Under (executor, epoch) as every write of an execution is: a zombie's step sets nothing.
    return f"""
        INSERT INTO dbos_event (workflow_id, key, value, serializer, updated_at)
        SELECT id, %s, %s, %s, {dialect.now} FROM dbos_workflow
        WHERE id = %s AND {IS_PENDING} AND executor_id = %s AND epoch = %s
        ON CONFLICT (workflow_id, key)
        DO UPDATE SET value = excluded.value, serializer = excluded.serializer, updated_at = excluded.updated_at
        RETURNING (SELECT {vendor.telling(dialect, EVENT, "w")} FROM dbos_workflow w WHERE w.id = workflow_id)
    """  # noqa: S608


_HISTORY_SQL = """
    INSERT INTO dbos_eventhistory (workflow_id, key, step, value, serializer) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (workflow_id, key, step) DO UPDATE SET value = excluded.value, serializer = excluded.serializer
"""


def set_event(lease: Lease, step: int, key: str, value: str, serializer: str) -> None:
    """Set a key, and keep the value in its history under the step that set it; in the caller's transaction.

    Raises WorkflowCancelled or OwnershipLost if the workflow is no longer ours.
    """
    while not vendor.fetch(_event_sql(dialect()), (key, value, serializer, lease.workflow_id, *lease.key)):
        explain(lease)
    vendor.execute(_HISTORY_SQL, (lease.workflow_id, key, step, value, serializer))
    channel = Watch(EVENT, lease.workflow_id).channel
    vendor.wake_on_commit(channel)


def find_event(workflow_id: str, key: str) -> tuple[str, str] | None:
    """(value, its serializer) of a key; None if it was never set."""
    row: tuple[str, str] | None = (
        Event.objects.filter(workflow_id=workflow_id, key=key).values_list("value", "serializer").first()
    )
    return row


def all_events(workflow_id: str) -> dict[str, tuple[str, str]]:
    """(value, its serializer) of every key that a workflow has set."""
    rows = Event.objects.filter(workflow_id=workflow_id).values_list("key", "value", "serializer")
    return {key: (value, serializer) for key, value, serializer in rows}


@cache
def _set_sql(dialect: Dialect) -> str:
    return f"SELECT workflow_id, key FROM dbos_event WHERE workflow_id {dialect.listed}"  # noqa: S608


def set_among(watches: Iterable[Watch]) -> list[Watch]:
    """Those of ``watches`` whose key has been set."""
    wanted = list(watches)
    workflow_ids = vendor.listed({watch.workflow_id for watch in wanted})
    found = set(vendor.fetch(_set_sql(dialect()), [workflow_ids]))
    return [watch for watch in wanted if (watch.workflow_id, watch.key) in found]
