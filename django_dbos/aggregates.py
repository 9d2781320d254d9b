"""Numbers of workflows and steps: how many there are in each group, and how long they took."""

from collections.abc import Coroutine
from functools import partial
from typing import Any, Unpack

from asgiref.sync import markcoroutinefunction

from .bridge import Operation, adrive, drive
from .filters import Text, WorkflowFilters, checked_filters, words
from .operations import recorded_call
from .sysdb import aggregates
from .sysdb.aggregates import STEP_GROUPS, WORKFLOW_GROUPS, Aggregate
from .validation import whole_number

__all__ = ["Aggregate", "astep_aggregates", "aworkflow_aggregates", "step_aggregates", "workflow_aggregates"]


def workflow_aggregates(
    group_by: Text = ("status",), *, bucket_seconds: int | None = None, **filters: Unpack[WorkflowFilters]
) -> list[Aggregate]:
    """How many workflows there are in each group, and how long they took.

    Groups: status, name, queue, version, executor, application, schedule, or several of them; with ``bucket_seconds``
    also the interval of so many seconds in which they were created.
    """
    return drive(_workflow_aggregates(group_by, bucket_seconds, filters))


@markcoroutinefunction
def aworkflow_aggregates(
    group_by: Text = ("status",), *, bucket_seconds: int | None = None, **filters: Unpack[WorkflowFilters]
) -> Coroutine[Any, Any, list[Aggregate]]:
    """See workflow_aggregates()."""
    return adrive(_workflow_aggregates(group_by, bucket_seconds, filters))


def _workflow_aggregates(group_by: Text, bucket: int | None, filters: WorkflowFilters) -> Operation[list[Aggregate]]:
    query = partial(
        aggregates.workflow_aggregates,
        checked_filters(filters),
        group_by=words("group_by", group_by, WORKFLOW_GROUPS),
        bucket_seconds=_bucket(bucket),
    )
    return recorded_call("DBOS.workflowAggregates", query)


def step_aggregates(
    group_by: Text = ("name",),
    *,
    step_name: str | None = None,
    bucket_seconds: int | None = None,
    **filters: Unpack[WorkflowFilters],
) -> list[Aggregate]:
    """How many recorded steps there are in each group, and how long they took.

    Groups: name, status (SUCCESS or ERROR), workflow_name, queue, executor, or several of them; with
    ``bucket_seconds`` also the interval of so many seconds in which they ended. The filters are for their workflows.
    """
    return drive(_step_aggregates(group_by, step_name, bucket_seconds, filters))


@markcoroutinefunction
def astep_aggregates(
    group_by: Text = ("name",),
    *,
    step_name: str | None = None,
    bucket_seconds: int | None = None,
    **filters: Unpack[WorkflowFilters],
) -> Coroutine[Any, Any, list[Aggregate]]:
    """See step_aggregates()."""
    return adrive(_step_aggregates(group_by, step_name, bucket_seconds, filters))


def _step_aggregates(
    group_by: Text, step_name: str | None, bucket: int | None, filters: WorkflowFilters
) -> Operation[list[Aggregate]]:
    query = partial(
        aggregates.step_aggregates,
        checked_filters(filters),
        step_name=step_name,
        group_by=words("group_by", group_by, STEP_GROUPS),
        bucket_seconds=_bucket(bucket),
    )
    return recorded_call("DBOS.stepAggregates", query)


def _bucket(seconds: int | None) -> int | None:
    return None if seconds is None else whole_number("bucket_seconds", seconds, least=1)
