"""Streams as rows: what a workflow wrote under a key, numbered from 0 without gaps, until its end."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from ..exceptions import NonExistentWorkflow
from ..hub import STREAM, Watch
from ..states import FINISHED
from . import vendor
from .journal import IS_PENDING, Lease, explain
from .vendor import Dialect, dialect

#: How many entries one query reads.
PAGE = 100
# How many watches one query looks for.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Page:
    """Entries that follow each other, as (value, its serializer)."""

    entries: list[tuple[str, str]]
    #: Whether nothing will come after them.
    is_last: bool


@cache
def _append_sql(dialect: Dialect) -> str:
    # Under (executor, epoch) as every write of an execution is: a zombie's step writes nothing. The primary key
    # decides between two that write at the same time.
    last = 'SELECT MAX("offset") FROM dbos_streamentry WHERE workflow_id = %s AND key = %s'
    return f"""
        INSERT INTO dbos_streamentry (workflow_id, key, "offset", value, serializer, step, is_end, created_at)
        SELECT id, %s, COALESCE(({last}) + 1, 0), %s, %s, %s, %s, {dialect.now}
        FROM dbos_workflow
        WHERE id = %s AND {IS_PENDING} AND executor_id = %s AND epoch = %s
        ON CONFLICT DO NOTHING
        RETURNING (SELECT {vendor.telling(dialect, STREAM, "w")} FROM dbos_workflow w WHERE w.id = workflow_id)
    """  # noqa: S608


def append(lease: Lease, step: int, key: str, value: str, serializer: str, *, is_end: bool = False) -> None:
    """Write the next entry of a stream, in the caller's transaction if there is one.

    Raises WorkflowCancelled or OwnershipLost if the workflow is no longer ours.
    """
    workflow_id = lease.workflow_id
    entry = (key, workflow_id, key, value, serializer, step, is_end)
    # Zero rows: the lease does not hold any more, or another writer took this offset, and the next one is free.
    while not vendor.fetch(_append_sql(dialect()), (*entry, workflow_id, *lease.key)):
        explain(lease)
    channel = Watch(STREAM, workflow_id).channel
    vendor.wake_on_commit(channel)


# One statement sees one moment: if the workflow has finished in it, all that it wrote is there too.
_READ_SQL = """
    SELECT w.status, e.value, e.serializer, e.is_end
    FROM dbos_workflow w
    LEFT JOIN dbos_streamentry e ON e.workflow_id = w.id AND e.key = %s AND e."offset" >= %s
    WHERE w.id = %s
    ORDER BY e."offset" LIMIT %s
"""
_LAST_SQL = """
    SELECT is_end FROM dbos_streamentry WHERE workflow_id = %s AND key = %s ORDER BY "offset" DESC LIMIT 1
"""


def read(workflow_id: str, key: str, offset: int, limit: int = PAGE) -> Page | None:
    """At most ``limit`` entries from ``offset`` on; None if there is none yet, and one may come.

    An unknown workflow raises NonExistentWorkflow.
    """
    rows = vendor.fetch(_READ_SQL, (key, offset, workflow_id, limit))
    if not rows:
        raise NonExistentWorkflow(f"There is no workflow with the id {workflow_id!r}, so it has no streams.")
    entries: list[tuple[str, str]] = []
    for _, value, serializer, is_end in rows:
        if is_end:
            return Page(entries, is_last=True)
        if value is not None:
            entries.append((value, serializer))
    is_last = len(entries) < limit and rows[0][0] in FINISHED
    if entries or is_last:
        return Page(entries, is_last)
    return Page([], is_last=True) if offset and _is_closed(workflow_id, key) else None


def _is_closed(workflow_id: str, key: str) -> bool:
    """Whether a stream was closed, for a reader who asks for what is behind its end."""
    return any(bool(is_end) for (is_end,) in vendor.fetch(_LAST_SQL, (workflow_id, key)))


@cache
def _written_sql(count: int) -> str:
    rows = ", ".join(["(%s, %s, %s)"] * count)
    # A subquery for each, which no planner makes a join of: that might read the whole index.
    return f"""
        SELECT v.column1, v.column2, v.column3 FROM (VALUES {rows}) AS v
        WHERE (SELECT e.step FROM dbos_streamentry e
               WHERE e.workflow_id = v.column1 AND e.key = v.column2 AND e."offset" = v.column3) IS NOT NULL
    """  # noqa: S608


def written_among(watches: Iterable[Watch]) -> list[Watch]:
    """Those of ``watches`` whose entry has been written."""
    wanted = list(watches)
    return [watch for start in range(0, len(wanted), _BATCH) for watch in _written(wanted[start : start + _BATCH])]


def _written(watches: list[Watch]) -> Iterator[Watch]:
    parameters = [value for watch in watches for value in (watch.workflow_id, watch.key, watch.offset)]
    for workflow_id, key, offset in vendor.fetch(_written_sql(len(watches)), parameters):
        yield Watch(STREAM, workflow_id, key, offset)
