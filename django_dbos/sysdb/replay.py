"""What is recorded of a workflow, and connections that can only be read from."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from django.db import connections

from ..exceptions import NonExistentWorkflow
from ..models import Workflow
from .steps import History, load_history
from .workflows import Claimed, Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A workflow's row, as it is and as a claim of it, and its steps."""

    row: Workflow
    claimed: Claimed
    history: History


def recording(workflow_id: str) -> Recording:
    """What is recorded of a workflow. An unknown id raises NonExistentWorkflow."""
    row = Workflow.objects.filter(pk=workflow_id).first()
    if row is None:
        raise NonExistentWorkflow(f"There is no workflow with the id {workflow_id!r}.")
    # The names of a claim are those of the columns.
    columns = {field.name: getattr(row, field.name) for field in fields(Claimed) if hasattr(row, field.name)}
    asked_by = Identity(
        user=row.authenticated_user, roles=tuple(row.authenticated_roles), assumed_role=row.assumed_role
    )
    claimed = replace(Claimed(**columns), attempts=1, may_have_steps=True, identity=asked_by)
    return Recording(row=row, claimed=claimed, history=load_history([workflow_id])[workflow_id])


def recorded_ids(*, name: str | None, since: datetime | None, limit: int | None) -> list[str]:
    """The workflows that have begun, the newest first."""
    begun = Workflow.objects.exclude(epoch=0).order_by("-created_at", "-id")
    begun = begun if name is None else begun.filter(name=name)
    begun = begun if since is None else begun.filter(created_at__gte=since)
    return list(begun.values_list("pk", flat=True)[:limit])


class WriteRefused(BaseException):
    """A statement was refused because it may write; no workflow's body is to swallow that."""


_READS = re.compile(
    r"[\s(]*(SELECT|VALUES|TABLE|WITH|EXPLAIN|SHOW|PRAGMA|SET|DECLARE|FETCH|CLOSE|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b",
    re.IGNORECASE,
)
# What a statement that begins like a read may still do.
_WRITES = re.compile(
    r"^\s*(WITH|EXPLAIN)\b.*\b(INSERT|UPDATE|DELETE|MERGE)\b|\b(pg_notify|dbos_enqueue_workflow|dbos_send_message)\b",
    re.IGNORECASE | re.DOTALL,
)


def _guard(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
    text = sql if isinstance(sql, str) else sql.as_string(None)
    if not _READS.match(text) or _WRITES.search(text):
        raise WriteRefused(" ".join(text.split())[:100])
    return execute(sql, *rest)


@contextmanager
def reading_only() -> Iterator[None]:
    """Let this thread's connections, to whichever database, do nothing but read."""
    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(_guard))
        yield
