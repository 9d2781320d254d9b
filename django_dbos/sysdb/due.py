"""What the database's clock decides: delays that are over, deadlines that have passed."""

from dataclasses import dataclass
from functools import cache
from typing import Final

from ..hub import OUTCOME, hub, interruption_of, outcome_of
from ..states import ACTIVE
from . import vendor
from .executors import wake_workers
from .vendor import Dialect, dialect

#: How many workflows one statement changes.
BATCH: Final = 1000

_STATES: Final = ", ".join(repr(state.value) for state in sorted(ACTIVE))
# As the partial indexes have it. What is chosen by one of them is changed by its key: `status || ''` forbids the rest.
_ACTIVE: Final = f"status IN ({_STATES}) AND deadline IS NOT NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """In how many seconds the next delay is over and the next deadline passes; None: there is none."""

    delay: float | None
    deadline: float | None


@cache
def _next_sql(dialect: Dialect) -> str:
    delay = "(SELECT MIN(delay_until) FROM dbos_workflow WHERE status = 'DELAYED')"
    deadline = f"(SELECT MIN(deadline) FROM dbos_workflow WHERE {_ACTIVE})"  # noqa: S608
    return f"SELECT {dialect.age.format(delay)}, {dialect.age.format(deadline)}"


def next_due() -> Due:
    """When something is due next: two looks at the edge of an index, in one statement."""
    ((since_delay, since_deadline),) = vendor.fetch(_next_sql(dialect()), ())
    return Due(
        delay=None if since_delay is None else -float(since_delay),
        deadline=None if since_deadline is None else -float(since_deadline),
    )


@cache
def _ripen_sql(dialect: Dialect) -> str:
    ripe = f"""
        SELECT id FROM dbos_workflow WHERE status = 'DELAYED' AND delay_until <= {dialect.now}
        ORDER BY delay_until LIMIT {BATCH} {dialect.skip_locked}"""  # noqa: S608
    return f"""
        UPDATE dbos_workflow SET status = 'ENQUEUED', updated_at = {dialect.now}
        WHERE id {dialect.among.format(ripe)} AND status || '' = 'DELAYED'
    """  # noqa: S608


def ripen() -> int:
    """Let delayed workflows whose time has come be claimed, at most a batch; how many there were.

    Zero: there are none, or another worker is at them.
    """
    ripened = vendor.execute(_ripen_sql(dialect()), ())
    if ripened:
        wake_workers()
    return ripened


@cache
def _cancel_sql(dialect: Dialect) -> str:
    overdue = f"""
        SELECT id FROM dbos_workflow WHERE {_ACTIVE} AND deadline <= {dialect.now}
        ORDER BY deadline LIMIT {BATCH} {dialect.skip_locked}"""  # noqa: S608
    interrupts = f"pg_notify('{vendor.CHANNEL}', '{interruption_of('')}' || id)::text" if dialect.notifies else "NULL"
    return f"""
        UPDATE dbos_workflow
        SET status = 'CANCELLED', deduplication_id = '', completed_at = {dialect.now}, updated_at = {dialect.now}
        WHERE id {dialect.among.format(overdue)} AND status || '' IN ({_STATES}) AND deadline <= {dialect.now}
        RETURNING id, {interrupts}, {vendor.telling(dialect, OUTCOME, "dbos_workflow")}
    """  # noqa: S608


def cancel_overdue() -> int:
    """Cancel workflows that ran out of time, at most a batch, and wake who waits for them; how many there were.

    Zero: there are none, they have just ended, or another worker is at them.
    """
    cancelled = [row[0] for row in vendor.fetch(_cancel_sql(dialect()), ())]
    for workflow_id in cancelled:
        hub.wake(interruption_of(workflow_id))
        hub.wake(outcome_of(workflow_id))
    return len(cancelled)
