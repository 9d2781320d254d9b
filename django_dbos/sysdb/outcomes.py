"""How workflows ended: of one, of the first of several, of many; and asking to be told when they do."""

from collections.abc import Collection, Container, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache

from ..exceptions import NonExistentWorkflow
from ..models import Workflow
from ..states import ACTIVE, FINISHED, WorkflowStatus
from . import vendor
from .journal import Ending
from .vendor import Dialect, dialect

#: How many workflows one query looks for, where somebody waits for many.
BATCH = 500
_ENDING = ("status", "output", "error", "serializer")
_NEVER = datetime.max.replace(tzinfo=UTC)


def find_outcome(workflow_id: str) -> Ending | None:
    """How a workflow ended; None while it has not. An unknown id raises NonExistentWorkflow."""
    rows = vendor.fetch("SELECT status, output, error, serializer FROM dbos_workflow WHERE id = %s", (workflow_id,))
    if not rows:
        raise NonExistentWorkflow(f"There is no workflow with the id {workflow_id!r}.")
    return _ending(*rows[0]) if rows[0][0] in FINISHED else None


def _ending(status: str, output: str | None, error: str | None, serializer: str) -> Ending:
    return Ending(status=WorkflowStatus(status), output=output, error=error, serializer=serializer)


@cache
def _ask_sql(dialect: Dialect, *, is_one: bool) -> str:
    active = ", ".join(f"'{status.value}'" for status in sorted(ACTIVE))
    # Of many those are left out that others hold: who waited for one while holding others might wait for ever.
    rows = f"""
        SELECT id FROM dbos_workflow WHERE id {dialect.listed}
        AND NOT is_awaited AND status IN ({active}) {"" if is_one else dialect.skip_locked}
    """  # noqa: S608
    return f"UPDATE dbos_workflow SET is_awaited = TRUE WHERE id {dialect.among.format(rows)}"  # noqa: S608


def ask_to_be_told(workflow_ids: Sequence[str]) -> None:
    """Let whoever writes news of these workflows tell all processes.

    Rows left out: somebody asked before, or it has finished or does not exist, or (of several) somebody is writing
    it. So look again after having asked. Inside the caller's transaction nobody is asked: the rows would be locked
    until it ends, and whoever writes the news would wait for the one who waits for them.
    """
    if not dialect().notifies or vendor.in_transaction():
        return
    vendor.execute(_ask_sql(dialect(), is_one=len(workflow_ids) == 1), [vendor.listed(workflow_ids)])


def find_outcomes(workflow_ids: Sequence[str]) -> dict[str, Ending]:
    """How those of these workflows ended that have finished, by id. An unknown id raises NonExistentWorkflow."""
    found: dict[str, Ending] = {}
    for start in range(0, len(workflow_ids), BATCH):
        some = workflow_ids[start : start + BATCH]
        known = Workflow.objects.filter(pk__in=some).order_by().values_list("id", *_ENDING)
        rows = {key: ending for key, *ending in known}
        _refuse_unknown(some, rows)
        found.update({key: _ending(*ending) for key, ending in rows.items() if ending[0] in FINISHED})
    return found


def first_finished(workflow_ids: Sequence[str]) -> str | None:
    """The one of these workflows that finished first; None while none has. See find_outcomes()."""
    ended: list[tuple[datetime, int, str]] = []
    for start in range(0, len(workflow_ids), BATCH):
        some = workflow_ids[start : start + BATCH]
        known = Workflow.objects.filter(pk__in=some).order_by().values_list("id", "status", "completed_at")
        rows = {key: (status, completed_at) for key, status, completed_at in known}
        _refuse_unknown(some, rows)
        ended += [
            (completed_at or _NEVER, start + place, key)
            for place, key in enumerate(some)
            for status, completed_at in [rows[key]]
            if status in FINISHED
        ]
    return min(ended)[2] if ended else None


def _refuse_unknown(workflow_ids: Iterable[str], known: Container[str]) -> None:
    unknown = [workflow_id for workflow_id in workflow_ids if workflow_id not in known]
    if unknown:
        raise NonExistentWorkflow(f"There is no workflow with the id {unknown[0]!r}.")


@cache
def _finished_sql(dialect: Dialect) -> str:
    finished = ", ".join(f"'{status.value}'" for status in sorted(FINISHED))
    return f"SELECT id FROM dbos_workflow WHERE id {dialect.listed} AND status IN ({finished})"  # noqa: S608


def finished_among(workflow_ids: Collection[str]) -> list[str]:
    """Those of these workflows that have finished."""
    return [row[0] for row in vendor.fetch(_finished_sql(dialect()), [vendor.listed(workflow_ids)])]
