"""Queues as rows, and the claim: the one background door into PENDING."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ..models import Queue, Workflow
from . import vendor
from .vendor import Dialect, dialect
from .workflows import NOBODY, Claimed, Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who claims: an executor, the functions it knows and the version it serves."""

    executor_id: str
    names: Sequence[str]
    #: The classes, with an empty instance, and the instances that it knows.
    receivers: Sequence[tuple[str, str]] = ()
    application_version: str
    #: For so many seconds it leaves rows without a version to the workers of the latest one.
    patience: float = 0.0


def declare(queues: Mapping[str, Mapping[str, Any]]) -> None:
    """Write down the limits that the code declares; what an operator overrode stays."""
    rows = [Queue(name=name, declared=dict(limits)) for name, limits in queues.items()]
    if rows:
        Queue.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["name"], update_fields=["declared", "updated_at"]
        )


def limits() -> dict[str, dict[str, Any]]:
    """The limits in force for every queue that was ever declared; a paused one has ``paused: True``."""
    return {
        queue.name: {**queue.limits, "paused": queue.is_paused}
        for queue in Queue.objects.only("name", "declared", "overrides", "is_paused")
    }


# Which rows may be claimed at all. A function, class or instance that nobody here knows, or a version nobody here
# serves, stays ENQUEUED for a worker that does.
_CLAIMABLE = "w.status = 'ENQUEUED' AND w.name IN ({names}) AND {receiver} AND {version}"
_OF_NO_CLASS = "w.class_name = ''"
_OF_A_KNOWN_ONE = "(w.class_name = '' OR (w.class_name, w.instance_name) IN (VALUES {receivers}))"
_MINE = "w.application_version IN ('', %s)"
_MINE_OR_LEFT_OVER = "(w.application_version = %s OR w.application_version = '' AND w.created_at <= {long_ago})"
_ORDER = "w.priority, w.created_at, w.id"


@cache
def _claimable_sql(dialect: Dialect, names: int, receivers: int, is_patient: bool) -> str:
    """What a row has to be for a claimant that knows so many names, and classes and instances."""
    known = ", ".join(["(%s, %s)"] * receivers)
    return _CLAIMABLE.format(
        names=", ".join(["%s"] * names),
        receiver=_OF_A_KNOWN_ONE.format(receivers=known) if receivers else _OF_NO_CLASS,
        version=_MINE_OR_LEFT_OVER.format(long_ago=dialect.ago) if is_patient else _MINE,
    )


def _claimable_parameters(claimant: Claimant) -> list[Any]:
    receivers = [value for pair in claimant.receivers for value in pair]
    patience = [claimant.patience] if claimant.patience > 0 else []
    return [*claimant.names, *receivers, claimant.application_version, *patience]


@cache
def _waiting_sql(dialect: Dialect, queues: int, claimable: str) -> str:
    """The rows to claim: per queue by priority and age up to its quota, the queues taking turns."""
    columns = "w.id, w.priority, w.created_at"
    if dialect.lateral:
        listed = ", ".join(["(%s, %s)"] * queues)
        source = f"""
            (VALUES {listed}) AS q (name, quota) CROSS JOIN LATERAL (
                SELECT {columns} FROM dbos_workflow w
                WHERE w.queue_name = q.name AND {claimable}
                ORDER BY {_ORDER} LIMIT q.quota {dialect.skip_locked}
            ) w"""  # noqa: S608
        turn = "ROW_NUMBER() OVER (PARTITION BY q.name ORDER BY w.priority, w.created_at, w.id)"
        return f"SELECT w.id, {turn} AS turn, w.priority, w.created_at FROM {source}"  # noqa: S608
    one = f"""
        SELECT {columns}, ROW_NUMBER() OVER (ORDER BY {_ORDER}) AS turn FROM (
            SELECT * FROM dbos_workflow w WHERE w.queue_name = %s AND {claimable} ORDER BY {_ORDER} LIMIT %s
        ) w"""  # noqa: S608
    return " UNION ALL ".join([f"SELECT * FROM ({one})"] * queues)  # noqa: S608


@cache
def _claim_sql(dialect: Dialect, queues: int, claimable: str) -> str:
    chosen = f"""
        SELECT id FROM ({_waiting_sql(dialect, queues, claimable)}) chosen
        ORDER BY turn, priority, created_at, id LIMIT %s"""  # noqa: S608
    # The chosen rows are to be found by their ids, whatever the planner believes of the index of what waits.
    return f"""
        UPDATE dbos_workflow
        SET status = 'PENDING', executor_id = %s, epoch = epoch + 1, attempts = attempts + 1,
            application_version = COALESCE(NULLIF(application_version, ''), %s),
            started_at = {dialect.now}, updated_at = {dialect.now},
            deadline = CASE WHEN deadline IS NULL AND timeout IS NOT NULL THEN {dialect.later.format("timeout")}
                       ELSE deadline END
        WHERE id {dialect.among.format(chosen)} AND status || '' = 'ENQUEUED'
        RETURNING id, name, inputs, serializer, executor_id, epoch, attempts, queue_name, parent_id, forked_from_id,
                  priority, created_at, deadline, authenticated_user, authenticated_roles, assumed_role,
                  class_name, instance_name
    """  # noqa: S608


def claim(claimant: Claimant, quotas: Mapping[str, int], free: int) -> list[Claimed]:
    """Take at most ``free`` waiting workflows, in one statement, at most ``quotas[name]`` of each queue.

    Rows that another worker is claiming at this moment are passed over. The most urgent come first. What has no
    version gets the claimant's: what has begun under one goes on under the same.
    """
    quotas = {name: min(quota, free) for name, quota in quotas.items() if quota > 0}
    if free < 1 or not quotas or not claimant.names:
        return []
    words = dialect()
    claimable = _claimable_sql(words, len(claimant.names), len(claimant.receivers), claimant.patience > 0)
    sql = _claim_sql(words, len(quotas), claimable)
    owner = (claimant.executor_id, claimant.application_version)
    rows = vendor.fetch(sql, [*owner, *_waiting_parameters(words, claimant, quotas), free])
    rows.sort(key=lambda row: (row[10], row[11], row[0]))
    return [_claimed(row) for row in rows]


def _waiting_parameters(words: Dialect, claimant: Claimant, quotas: Mapping[str, int]) -> Iterable[Any]:
    claimable = _claimable_parameters(claimant)
    if words.lateral:
        return (*(value for pair in quotas.items() for value in pair), *claimable)
    return (value for name, quota in quotas.items() for value in (name, *claimable, quota))


def _claimed(row: tuple[Any, ...]) -> Claimed:
    workflow_id, name, inputs, serializer, executor_id, epoch, attempts, queue_name, parent_id, forked_from = row[:10]
    return Claimed(
        id=workflow_id,
        name=name,
        inputs=inputs,
        serializer=serializer,
        executor_id=executor_id,
        epoch=epoch,
        attempts=attempts,
        queue_name=queue_name,
        parent_id=parent_id,
        may_have_steps=epoch > 1 or forked_from is not None,
        # Not asked in the statement: SQLite 3.40 says of every column that a partial index wants NOT NULL that it is.
        has_deadline=row[12] is not None,
        identity=_identity(*row[13:16]),
        class_name=row[16],
        instance_name=row[17],
    )


def _identity(user: str, roles: str, assumed_role: str) -> Identity:
    if not user and roles == "[]":
        return NOBODY
    return Identity(user=user, roles=tuple(json.loads(roles)), assumed_role=assumed_role)


def exists(name: str) -> bool:
    """Whether some process has declared this queue."""
    return Queue.objects.filter(pk=name).exists()


def with_waiting_work(queues: Sequence[str]) -> list[str]:
    """Those of ``queues`` on which something waits: one probe of an index each, all in one statement."""
    if not queues:
        return []
    listed = ", ".join(["(%s)"] * len(queues))
    # Said in a way that leaves no plan but the probe: OFFSET forbids a join, and the order is the index's.
    sql = f"""
        SELECT q.column1 FROM (VALUES {listed}) AS q
        WHERE EXISTS (SELECT 1 FROM dbos_workflow WHERE status = 'ENQUEUED' AND queue_name = q.column1
                      ORDER BY priority, created_at, id LIMIT 1 OFFSET 0)
    """  # noqa: S608
    return [name for (name,) in vendor.fetch(sql, list(queues))]


@cache
def _lock_sql(dialect: Dialect) -> str:
    # A worker that is stopped while it holds the lock must not keep the queue from all others.
    return f"SELECT {dialect.bounds_idling} FROM dbos_queue WHERE name = %s AND NOT is_paused {dialect.skip_locked}"  # noqa: S608


def claim_limited(claimant: Claimant, queue: str, *, global_concurrency: int, quota: int) -> list[Claimed]:
    """Claim from a queue whose limit is shared by the fleet, under that queue's own row lock.

    Empty as well if another worker holds the lock: it is claiming from this queue right now.
    """
    # The transaction of a test ends much later than this claim, and may stand still meanwhile.
    words = replace(dialect(), bounds_idling="NULL") if vendor.in_test_transaction() else dialect()
    with vendor.transaction():
        if not vendor.fetch(_lock_sql(words), (queue,)):
            return []
        running = Workflow.objects.pending().in_queue(queue).count()
        room = min(quota, global_concurrency - running)
        return claim(claimant, {queue: room}, room)
