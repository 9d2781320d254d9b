"""Looking at workflows: lists with filters, page by page; one of them; its steps.

Called by a workflow's body each is a recorded step: a replay sees what was there the first time. So rows are
recorded by their values, and the instances that come back are made of those.
"""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar, Unpack

from asgiref.sync import markcoroutinefunction
from django.db.models import DEFERRED, Model

from .bridge import Operation, adrive, drive
from .exceptions import InvalidOption
from .filters import WorkflowFilters, checked_filters
from .handles import WorkflowHandle
from .models import Step, Workflow
from .operations import recorded_call
from .states import ACTIVE
from .sysdb import listing, vendor
from .sysdb.listing import Page
from .validation import valid_id, whole_number

M = TypeVar("M", bound=Model)


# ---- workflows ------------------------------------------------------------------------------------------------


def list_workflows(
    *,
    after: "Workflow | WorkflowHandle[Any] | str | None" = None,
    limit: int | None = None,
    offset: int = 0,
    sort_desc: bool = False,
    load_input: bool = True,
    load_output: bool = True,
    **filters: Unpack[WorkflowFilters],
) -> list[Workflow]:
    """The workflows for which every filter holds (see WorkflowFilters), the oldest first.

    ``sort_desc``: the newest first. ``after``: those that follow this one in that order, which costs the same however
    far it is, while ``offset`` passes over rows. Payloads that are not loaded are read when they are asked for.
    """
    page = _page(after, limit, offset, sort_desc, load_input, load_output)
    return drive(_list("DBOS.listWorkflows", filters, page))


@markcoroutinefunction
def alist_workflows(
    *,
    after: "Workflow | WorkflowHandle[Any] | str | None" = None,
    limit: int | None = None,
    offset: int = 0,
    sort_desc: bool = False,
    load_input: bool = True,
    load_output: bool = True,
    **filters: Unpack[WorkflowFilters],
) -> Coroutine[Any, Any, list[Workflow]]:
    """See list_workflows()."""
    page = _page(after, limit, offset, sort_desc, load_input, load_output)
    return adrive(_list("DBOS.listWorkflows", filters, page))


def list_queued_workflows(
    *,
    after: "Workflow | WorkflowHandle[Any] | str | None" = None,
    limit: int | None = None,
    offset: int = 0,
    sort_desc: bool = False,
    load_input: bool = True,
    **filters: Unpack[WorkflowFilters],
) -> list[Workflow]:
    """As list_workflows(), but only what is on a queue, and unless a status is given only what has not finished."""
    page = _page(after, limit, offset, sort_desc, load_input, True)
    return drive(_list("DBOS.listQueuedWorkflows", _queued(filters), page))


@markcoroutinefunction
def alist_queued_workflows(
    *,
    after: "Workflow | WorkflowHandle[Any] | str | None" = None,
    limit: int | None = None,
    offset: int = 0,
    sort_desc: bool = False,
    load_input: bool = True,
    **filters: Unpack[WorkflowFilters],
) -> Coroutine[Any, Any, list[Workflow]]:
    """See list_queued_workflows()."""
    page = _page(after, limit, offset, sort_desc, load_input, True)
    return adrive(_list("DBOS.listQueuedWorkflows", _queued(filters), page))


def _queued(filters: WorkflowFilters) -> WorkflowFilters:
    status = filters.get("status")
    return {**filters, "queues_only": True, "status": sorted(ACTIVE) if status is None else status}


def _list(name: str, filters: WorkflowFilters, page: Page) -> Operation[list[Workflow]]:
    return _snapshots(Workflow, name, partial(listing.listed, checked_filters(filters), page))


def get_workflow_status(workflow_id: str) -> Workflow | None:
    """The row of a workflow as it is now; None if there is none."""
    return drive(_status(workflow_id))


@markcoroutinefunction
def aget_workflow_status(workflow_id: str) -> Coroutine[Any, Any, Workflow | None]:
    """See get_workflow_status()."""
    return adrive(_status(workflow_id))


def _status(workflow_id: str) -> Operation[Workflow | None]:
    workflow_id = valid_id(workflow_id)

    def found() -> list[Workflow]:
        row = listing.find(workflow_id)
        return [] if row is None else [row]

    return _first(_snapshots(Workflow, "DBOS.getStatus", found))


def _first(operation: Operation[list[M]]) -> Operation[M | None]:
    rows = yield from operation
    return rows[0] if rows else None


def count_workflows(**filters: Unpack[WorkflowFilters]) -> int:
    """For how many workflows every filter holds."""
    return drive(_count(filters))


@markcoroutinefunction
def acount_workflows(**filters: Unpack[WorkflowFilters]) -> Coroutine[Any, Any, int]:
    """See count_workflows()."""
    return adrive(_count(filters))


def _count(filters: WorkflowFilters) -> Operation[int]:
    return recorded_call("DBOS.countWorkflows", partial(listing.count, checked_filters(filters)))


# ---- steps ----------------------------------------------------------------------------------------------------


def list_workflow_steps(
    workflow_id: str, *, load_output: bool = True, limit: int | None = None, offset: int = 0
) -> list[Step]:
    """The recorded steps of a workflow by their numbers; none if there is no such workflow."""
    return drive(_steps(workflow_id, load_output, limit, offset))


@markcoroutinefunction
def alist_workflow_steps(
    workflow_id: str, *, load_output: bool = True, limit: int | None = None, offset: int = 0
) -> Coroutine[Any, Any, list[Step]]:
    """See list_workflow_steps()."""
    return adrive(_steps(workflow_id, load_output, limit, offset))


def _steps(workflow_id: str, load_output: bool, limit: int | None, offset: int) -> Operation[list[Step]]:
    query = partial(
        listing.steps_of,
        valid_id(workflow_id),
        with_output=load_output,
        limit=None if limit is None else whole_number("limit", limit, least=0),
        offset=whole_number("offset", offset, least=0),
    )
    return _snapshots(Step, "DBOS.listWorkflowSteps", query)


# ---- rows as they were ----------------------------------------------------------------------------------------


def _snapshots(model: type[M], name: str, query: Callable[[], Sequence[M]]) -> Operation[list[M]]:
    # A model instance would be recorded as a reference, and be another one by the time of a replay.
    return _rebuilt(model, recorded_call(name, lambda: [_values(row) for row in query()]))


def _values(row: Model) -> dict[str, Any]:
    left_out = row.get_deferred_fields()
    names = (field.attname for field in row._meta.concrete_fields)
    return {name: getattr(row, name) for name in names if name not in left_out}


def _rebuilt(model: type[M], operation: Operation[list[dict[str, Any]]]) -> Operation[list[M]]:
    found = yield from operation
    columns = [field.attname for field in model._meta.concrete_fields]
    return [model.from_db(vendor.alias(), columns, [row.get(name, DEFERRED) for name in columns]) for row in found]


def _page(
    after: "Workflow | WorkflowHandle[Any] | str | None",
    limit: int | None,
    offset: int,
    sort_desc: bool,
    load_input: bool,
    load_output: bool,
) -> Page:
    if not isinstance(after, Workflow | WorkflowHandle | str | None):
        raise InvalidOption(f"after is a workflow that was listed, a handle or an id, not {after!r:.300}.")
    return Page(
        after=after.workflow_id if isinstance(after, WorkflowHandle) else after,
        limit=None if limit is None else whole_number("limit", limit, least=0),
        offset=whole_number("offset", offset, least=0),
        newest_first=sort_desc,
        with_input=load_input,
        with_output=load_output,
    )
