"""One group of the grouped journal: checkpoints and outcomes of any workflows, in one statement and one commit."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg

from .. import clock
from ..hub import OUTCOME
from . import vendor
from .journal import IS_PENDING, Checkpoint, Ending, Lease, finish_parameters, finish_sql, record_parameters, record_sql


@dataclass(slots=True, eq=False)
class Entry:
    """One write that waits: a checkpoint or an ending, under the claim that held when it was made."""

    lease: Lease
    key: tuple[str, int]
    checkpoint: Checkpoint | None = None
    ending: Ending | None = None


@cache
def _step_sql(now: str) -> str:
    return f"""
        INSERT INTO dbos_step (workflow_id, number, name, output, error, serializer, child_id, attempts,
                               executor_id, started_at, completed_at)
        SELECT v.id, v.number, v.name, v.output, v.error, v.serializer, v.child_id, v.attempts, w.executor_id,
               {now} - v.started * INTERVAL '1 second', {now} - v.completed * INTERVAL '1 second'
        FROM UNNEST(%s::text[], %s::text[], %s::int[], %s::int[], %s::text[], %s::text[], %s::text[], %s::text[],
                    %s::text[], %s::int[], %s::float8[], %s::float8[])
             AS v (id, executor_id, epoch, number, name, output, error, serializer, child_id, attempts, started,
                   completed)
        JOIN dbos_workflow w ON w.id = v.id AND w.{IS_PENDING} AND w.executor_id = v.executor_id AND w.epoch = v.epoch
        ON CONFLICT (workflow_id, number) DO NOTHING
        RETURNING workflow_id, number
    """  # noqa: S608


@cache
def _ending_sql(now: str, *, after_steps: bool) -> str:
    # An outcome counts only if all that its workflow recorded in this group was accepted.
    steps = "AND v.steps = (SELECT COUNT(*) FROM step WHERE step.workflow_id = v.id)" if after_steps else ""
    return f"""
        UPDATE dbos_workflow w
        SET status = v.status, output = v.output, error = v.error, deduplication_id = '',
            updated_at = {now}, completed_at = {now}
        FROM UNNEST(%s::text[], %s::text[], %s::int[], %s::int[], %s::text[], %s::text[], %s::text[])
             AS v (id, executor_id, epoch, steps, status, output, error)
        WHERE w.id = v.id AND w.{IS_PENDING} AND w.executor_id = v.executor_id AND w.epoch = v.epoch {steps}
        RETURNING w.id, {vendor.telling(vendor.POSTGRESQL, OUTCOME, "w")}
    """  # noqa: S608


@cache
def _group_sql(now: str, *, steps: bool, endings: bool) -> str:
    if not endings:
        return _step_sql(now)
    if not steps:
        return f"WITH ending AS ({_ending_sql(now, after_steps=False)}) SELECT id, NULL::int FROM ending"  # noqa: S608
    return f"""
        WITH step AS ({_step_sql(now)}), ending AS ({_ending_sql(now, after_steps=True)})
        SELECT workflow_id, number FROM step UNION ALL SELECT id, NULL FROM ending
    """  # noqa: S608


def write_group(connection: "psycopg.Connection[Any]", entries: Sequence[Entry]) -> set[tuple[str, int | None]]:
    """Write entries of any number of workflows in one statement and one commit.

    What was accepted: (workflow id, number) of each checkpoint, (workflow id, None) of each ending.
    """
    if len(entries) <= 2:
        step, ending = _alone(entries)
        if step is not None:
            return _write_alone(connection, step, ending)
    steps = [entry for entry in entries if entry.checkpoint is not None]
    endings = [entry for entry in entries if entry.ending is not None]
    sql = _group_sql(vendor.POSTGRESQL.now, steps=bool(steps), endings=bool(endings))
    parameters = _step_columns(steps) if steps else []
    if endings:
        parameters += _ending_columns(endings, Counter(entry.lease.workflow_id for entry in steps))
    return set(connection.execute(sql, parameters).fetchall())


def _step_columns(entries: Sequence[Entry]) -> list[list[Any]]:
    now = clock.monotonic()
    rows = [
        (
            entry.lease.workflow_id,
            *entry.key,
            step.number,
            step.name,
            step.output,
            step.error,
            step.serializer,
            step.child_id,
            step.attempts,
            now - step.started,
            now - step.completed,
        )
        for entry in entries
        if (step := entry.checkpoint) is not None
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _ending_columns(entries: Sequence[Entry], steps: Counter[str]) -> list[list[Any]]:
    rows = [
        (
            entry.lease.workflow_id,
            *entry.key,
            steps[entry.lease.workflow_id],
            ending.status.value,
            ending.output,
            ending.error,
        )
        for entry in entries
        if (ending := entry.ending) is not None
    ]
    return [list(column) for column in zip(*rows, strict=True)]


# ---- the group of a lone workflow: plain values instead of arrays, which cost more than what they carry


def _alone(entries: Sequence[Entry]) -> tuple[Entry | None, Entry | None]:
    """(step, ending) if a group is one step, or one step and then the ending of the same execution."""
    step, ending = entries[0], entries[1] if len(entries) == 2 else None
    is_alone = step.checkpoint is not None and (
        ending is None or (ending.ending is not None and ending.lease is step.lease and ending.key == step.key)
    )
    return (step, ending) if is_alone else (None, None)


def _write_alone(
    connection: "psycopg.Connection[Any]", step: Entry, ending: Entry | None
) -> set[tuple[str, int | None]]:
    workflow_id, checkpoint = step.lease.workflow_id, step.checkpoint
    assert checkpoint is not None  # noqa: S101 - see _alone()
    parameters = record_parameters(workflow_id, step.key, checkpoint)
    if ending is None or ending.ending is None:
        done = connection.execute(record_sql(vendor.POSTGRESQL), parameters)
        return {(workflow_id, checkpoint.number)} if done.rowcount == 1 else set()
    parameters += finish_parameters(workflow_id, ending.key, ending.ending)
    row = connection.execute(_step_and_ending_sql(), parameters).fetchone()
    steps, endings = row or (0, 0)
    accepted: set[tuple[str, int | None]] = {(workflow_id, checkpoint.number)} if steps else set()
    return accepted | {(workflow_id, None)} if endings else accepted


@cache
def _step_and_ending_sql() -> str:
    return f"""
        WITH step AS ({record_sql(vendor.POSTGRESQL)} RETURNING number),
             ending AS ({finish_sql(vendor.POSTGRESQL, condition="AND EXISTS (SELECT 1 FROM step)")})
        SELECT (SELECT COUNT(*) FROM step), (SELECT COUNT(*) FROM ending)
    """  # noqa: S608
