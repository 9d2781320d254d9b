"""Looking at workflows and steps: what is asked for, page by page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from django.db.models import BooleanField, Exists, OuterRef, Q, QuerySet
from django.db.models.expressions import Combinable, RawSQL
from django.db.models.functions import Left
from django.db.models.lookups import Exact

from ..exceptions import NonExistentWorkflow
from ..models import Step, Workflow
from ..models.workflows import WorkflowQuerySet
from . import vendor

#: Filters that take one value or several -> the column.
ONE_OF: Final = {
    "workflow_ids": "pk",
    "status": "status",
    "name": "name",
    "application_version": "application_version",
    "application_name": "application_name",
    "executor_id": "executor_id",
    "queue_name": "queue_name",
    "user": "authenticated_user",
    "schedule_name": "schedule_name",
    "forked_from": "forked_from_id",
    "parent_workflow_id": "parent_id",
}
#: Filters on time -> the lookup. Both ends belong to it.
TIMES: Final = {
    "start_time": "created_at__gte",
    "end_time": "created_at__lte",
    "completed_after": "completed_at__gte",
    "completed_before": "completed_at__lte",
    "dequeued_after": "started_at__gte",
    "dequeued_before": "started_at__lte",
}


def _has_forks(wanted: bool) -> Combinable | Q:
    forks = Exists(Workflow.objects.filter(forked_from_id=OuterRef("pk")))
    return forks if wanted else ~forks


def _begins_with(prefix: str) -> Q:
    # LIKE finds the rows by the index, where it can; the other says it exactly, where LIKE ignores case.
    return Q(pk__startswith=prefix) & Q(Exact(Left("pk", len(prefix)), prefix)) if prefix else Q()


#: Filters of other kinds -> the condition.
_CONDITIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "workflow_id_prefix": _begins_with,
    "queues_only": lambda wanted: ~Q(queue_name="") if wanted else Q(),
    "was_forked_from": _has_forks,
    "is_fork": lambda wanted: Q(forked_from__isnull=not wanted),
    "has_parent": lambda wanted: Q(parent__isnull=not wanted),
    "attributes": partial(vendor.contains, "attributes"),
}
FILTERS: Final = (*ONE_OF, *TIMES, *_CONDITIONS)


def selected(filters: Mapping[str, Any]) -> WorkflowQuerySet:
    """The workflows for which every filter holds; one that is None does not count."""
    rows: WorkflowQuerySet = Workflow.objects.order_by()
    for name, value in filters.items():
        if value is None:
            continue
        if name in ONE_OF:
            values = [value] if isinstance(value, str) else list(value)
            rows = rows.filter(**({ONE_OF[name]: values[0]} if len(values) == 1 else {f"{ONE_OF[name]}__in": values}))
        else:
            rows = rows.filter(**{TIMES[name]: value}) if name in TIMES else rows.filter(_CONDITIONS[name](value))
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which of the workflows that were found are wanted, in which order, and with which of their payloads."""

    after: str | Workflow | None = None
    limit: int | None = None
    offset: int = 0
    newest_first: bool = False
    with_input: bool = True
    with_output: bool = True


def listed(filters: Mapping[str, Any], page: Page) -> list[Workflow]:
    """A page of the workflows for which every filter holds, the oldest first unless told otherwise."""
    return list(_page(selected(filters), page))


def ids_of(filters: Mapping[str, Any], page: Page) -> list[str]:
    """The ids of what listed() would give."""
    return list(_page(selected(filters), page).values_list("pk", flat=True))


def _page(rows: WorkflowQuerySet, page: Page) -> QuerySet[Workflow]:
    rows = rows.order_by("-created_at", "-pk") if page.newest_first else rows.order_by("created_at", "pk")
    if page.after is not None:
        rows = rows.filter(_behind(page.after, newest_first=page.newest_first))
    left_out = [*([] if page.with_input else ["inputs"]), *([] if page.with_output else ["output", "error"])]
    rows = rows.defer(*left_out) if left_out else rows
    return rows[page.offset : None if page.limit is None else page.offset + page.limit]


def _behind(after: str | Workflow, *, newest_first: bool) -> RawSQL:
    """Those that come after this one in the order of the list.

    The row says itself when it was created: on SQLite a time is a text, and equal times have several. If it has been
    deleted meanwhile, what the caller knows of it has to do.
    """
    workflow_id = after.pk if isinstance(after, Workflow) else after
    known = after.created_at if isinstance(after, Workflow) else None
    if known is None and not Workflow.objects.filter(pk=workflow_id).exists():
        raise NonExistentWorkflow(f"There is no workflow with the id {workflow_id!r} to go on after.")
    created = "COALESCE((SELECT a.created_at FROM dbos_workflow a WHERE a.id = %s), %s)"
    sql = f"(dbos_workflow.created_at, dbos_workflow.id) {'<' if newest_first else '>'} ({created}, %s)"
    return RawSQL(sql, (workflow_id, vendor.as_stored(known), workflow_id), output_field=BooleanField())  # noqa: S611


def find(workflow_id: str) -> Workflow | None:
    """The row of a workflow; None if there is none."""
    row: Workflow | None = Workflow.objects.filter(pk=workflow_id).first()
    return row


def steps_of(workflow_id: str, *, with_output: bool = True, limit: int | None = None, offset: int = 0) -> list[Step]:
    """The recorded steps of a workflow by number; none if there is no such workflow."""
    steps = Step.objects.filter(workflow_id=workflow_id).order_by("number")
    steps = steps if with_output else steps.defer("output", "error")
    return list(steps[offset : None if limit is None else offset + limit])


def count(filters: Mapping[str, Any]) -> int:
    """For how many workflows every filter holds."""
    return selected(filters).count()
