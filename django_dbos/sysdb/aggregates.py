"""Workflows and steps in groups: how many there are, and how long they took."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Avg, Case, CharField, Count, F, IntegerField, Max, QuerySet, Value, When
from django.db.models.expressions import RawSQL

from ..models import Step
from ..states import WorkflowStatus
from . import vendor
from .listing import selected


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """A group of workflows or steps: what they have in common, how many there are, and how long they took.

    ``group``: each word that was asked for, and its value. ``bucket``: when the group's interval begins; None if none
    was asked for. The times are from start to end, of those that have ended; None if none has.
    """

    group: dict[str, str]
    bucket: datetime | None
    count: int
    average_seconds: float | None
    max_seconds: float | None


#: What workflows can be grouped by -> the column.
WORKFLOW_GROUPS: Final = {
    "status": "status",
    "name": "name",
    "queue": "queue_name",
    "version": "application_version",
    "executor": "executor_id",
    "application": "application_name",
    "schedule": "schedule_name",
}
#: What steps can be grouped by -> the column.
STEP_GROUPS: Final = {
    "name": "name",
    "status": "outcome",
    "workflow_name": "workflow__name",
    "queue": "workflow__queue_name",
    "executor": "executor_id",
}


def workflow_aggregates(
    filters: Mapping[str, Any], *, group_by: Sequence[str], bucket_seconds: int | None
) -> list[Aggregate]:
    """Workflows in groups; the interval of each is the one it was created in."""
    columns = {word: WORKFLOW_GROUPS[word] for word in group_by}
    return _aggregates(selected(filters), columns, "dbos_workflow.created_at", bucket_seconds)


def step_aggregates(
    filters: Mapping[str, Any], *, step_name: str | None, group_by: Sequence[str], bucket_seconds: int | None
) -> list[Aggregate]:
    """Steps in groups, of the workflows for which every filter holds; the interval of each is the one it ended in."""
    steps = Step.objects.order_by().annotate(outcome=_OUTCOME)
    if any(value is not None for value in filters.values()):
        steps = steps.filter(workflow_id__in=selected(filters).values("pk"))
    if step_name is not None:
        steps = steps.filter(name=step_name)
    return _aggregates(steps, {word: STEP_GROUPS[word] for word in group_by}, "dbos_step.completed_at", bucket_seconds)


_OUTCOME: Final = Case(
    When(error__isnull=True, then=Value(WorkflowStatus.SUCCESS.value)),
    default=Value(WorkflowStatus.ERROR.value),
    output_field=CharField(),
)


def _aggregates(
    rows: QuerySet[Any], columns: Mapping[str, str], moment: str, bucket_seconds: int | None
) -> list[Aggregate]:
    keys = [*columns.values()]
    if bucket_seconds is not None:
        epoch = vendor.dialect().epoch.format(moment)
        sql = f"{epoch} - {epoch} %% %s"
        rows = rows.annotate(bucket=RawSQL(sql, (bucket_seconds,), output_field=IntegerField()))  # noqa: S611
        keys.append("bucket")
    took = F("completed_at") - F("started_at")
    numbers = {"number": Count("*"), "average": Avg(took), "longest": Max(took)}
    # In no order: the database would sort a group by what it is told to be ordered by.
    groups: Iterable[dict[str, Any]] = rows.values(*keys).annotate(**numbers) if keys else [rows.aggregate(**numbers)]
    found = [_aggregate(row, columns) for row in groups]
    return sorted(found, key=lambda each: (each.bucket or _NEVER, *each.group.values()))


_NEVER: Final = datetime.min.replace(tzinfo=UTC)


def _aggregate(row: Mapping[str, Any], columns: Mapping[str, str]) -> Aggregate:
    begin = row.get("bucket")
    return Aggregate(
        group={word: row[column] for word, column in columns.items()},
        bucket=None if begin is None else datetime.fromtimestamp(begin, UTC),
        count=row["number"],
        average_seconds=_seconds(row["average"]),
        max_seconds=_seconds(row["longest"]),
    )


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
