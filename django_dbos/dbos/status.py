"""What programs get to see of workflows, steps and versions: plain values, times as milliseconds of the epoch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict

from .. import serialization
from ..exceptions import DeserializationError
from ..models import ApplicationVersion, Step, Workflow
from .error import translated


class WorkflowStatusString(StrEnum):
    """Where a workflow stands."""

    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    MAX_RECOVERY_ATTEMPTS_EXCEEDED = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    CANCELLED = "CANCELLED"
    ENQUEUED = "ENQUEUED"
    DELAYED = "DELAYED"


@dataclass(slots=True, kw_only=True)
class WorkflowStatus:
    """One workflow. What does not apply to it is None."""

    workflow_id: str
    status: str
    name: str
    class_name: str | None
    config_name: str | None
    authenticated_user: str | None
    assumed_role: str | None
    authenticated_roles: list[str] | None
    #: ``{"args": (...), "kwargs": {...}}``; the stored text, if it cannot be read.
    input: Any
    output: Any
    error: BaseException | None
    created_at: int | None
    updated_at: int | None
    queue_name: str | None
    executor_id: str | None
    app_version: str | None
    application_name: str | None
    app_id: str | None
    workflow_timeout_ms: int | None
    workflow_deadline_epoch_ms: int | None
    deduplication_id: str | None
    priority: int
    queue_partition_key: str | None
    forked_from: str | None
    was_forked_from: bool
    parent_workflow_id: str | None
    dequeued_at: int | None
    delay_until_epoch_ms: int | None
    completed_at: int | None
    attributes: dict[str, Any] | None
    schedule_name: str | None
    recovery_attempts: int


class StepInfo(TypedDict):
    """One recorded step."""

    function_id: int
    function_name: str
    output: Any
    error: BaseException | None
    child_workflow_id: str | None
    started_at_epoch_ms: int | None
    completed_at_epoch_ms: int | None


class VersionInfo(TypedDict):
    """One version of the application."""

    version_id: str
    version_name: str
    version_timestamp: int | None
    created_at: int | None
    application_name: str | None


@dataclass(frozen=True, slots=True)
class StepStatus:
    """Where a running step stands; attempts count from 0, and are None for a step that is not retried."""

    step_id: int
    current_attempt: int | None
    max_attempts: int | None


def statuses(rows: Iterable[Workflow]) -> list[WorkflowStatus]:
    """What programs see of some rows; asks the database once, for their forks."""
    rows = list(rows)
    ids = [row.pk for row in rows]
    forked = set(Workflow.objects.filter(forked_from_id__in=ids).order_by().values_list("forked_from_id", flat=True))
    return [_status(row, row.pk in forked) for row in rows]


def status(row: Workflow | None) -> WorkflowStatus | None:
    """What programs see of a row."""
    return None if row is None else statuses([row])[0]


def _status(row: Workflow, was_forked_from: bool) -> WorkflowStatus:
    return WorkflowStatus(
        workflow_id=row.pk,
        status=str(row.status),
        name=row.name,
        class_name=row.class_name or None,
        config_name=row.instance_name or None,
        authenticated_user=row.authenticated_user or None,
        assumed_role=row.assumed_role or None,
        authenticated_roles=list(row.authenticated_roles) or None,
        input=_loaded(row, "inputs", _call),
        output=_loaded(row, "output", serialization.loads),
        error=_loaded(row, "error", _error),
        created_at=epoch_ms(row.created_at),
        updated_at=epoch_ms(row.updated_at),
        queue_name=row.queue_name or None,
        executor_id=row.executor_id or None,
        app_version=row.application_version or None,
        application_name=row.application_name or None,
        app_id=None,
        workflow_timeout_ms=None if row.timeout is None else round(row.timeout * 1000),
        workflow_deadline_epoch_ms=epoch_ms(row.deadline),
        deduplication_id=row.deduplication_id or None,
        priority=row.priority,
        queue_partition_key=row.partition_key or None,
        forked_from=row.forked_from_id,
        was_forked_from=was_forked_from,
        parent_workflow_id=row.parent_id,
        dequeued_at=epoch_ms(row.started_at) if row.queue_name else None,
        delay_until_epoch_ms=epoch_ms(row.delay_until),
        completed_at=epoch_ms(row.completed_at),
        attributes=dict(row.attributes) or None,
        schedule_name=row.schedule_name or None,
        recovery_attempts=row.attempts,
    )


def step_infos(rows: Iterable[Step]) -> list[StepInfo]:
    """What programs see of some steps."""
    return [
        StepInfo(
            function_id=row.number,
            function_name=row.name,
            output=_loaded(row, "output", serialization.loads),
            error=_loaded(row, "error", _error),
            child_workflow_id=row.child_id or None,
            started_at_epoch_ms=epoch_ms(row.started_at),
            completed_at_epoch_ms=epoch_ms(row.completed_at),
        )
        for row in rows
    ]


def version_info(row: ApplicationVersion) -> VersionInfo:
    """What programs see of a version."""
    return VersionInfo(
        version_id=row.name,
        version_name=row.name,
        version_timestamp=epoch_ms(row.made_latest_at),
        created_at=epoch_ms(row.first_seen_at),
        application_name=None,
    )


def epoch_ms(moment: datetime | None) -> int | None:
    """Milliseconds since 1970."""
    return None if moment is None else round(moment.timestamp() * 1000)


def _loaded(row: Workflow | Step, column: str, load: Callable[[str, str], Any]) -> Any:
    """A stored value; the text itself, if it cannot be read; None, if there is none or it was not to be loaded."""
    text = None if column in row.get_deferred_fields() else getattr(row, column)
    if not text:
        return None
    try:
        return load(text, row.serializer)
    except DeserializationError:
        return text


def _call(text: str, serializer: str) -> dict[str, Any]:
    args, kwargs = serialization.load_call(text, serializer)
    return {"args": args, "kwargs": kwargs}


def _error(text: str, serializer: str) -> BaseException:
    return translated(serialization.load_error(text, serializer))
