"""Going back to a step of a workflow: in a copy, for many that failed, or in place."""

from collections.abc import Coroutine, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from asgiref.sync import markcoroutinefunction

from .bridge import Operation, adrive, drive
from .exceptions import InvalidOption
from .filters import WorkflowFilters, checked_filters
from .handles import WorkflowHandle
from .ids import uuid7
from .operations import committed_call
from .options import take_next_id
from .sysdb import forks, listing
from .sysdb.forks import Course, Fork
from .validation import seconds_of, short_text, valid_id, whole_number


def fork_workflow(
    workflow_id: str,
    start_step: int = 1,
    *,
    application_version: str | None = None,
    queue_name: str | None = None,
    partition_key: str | None = None,
    replacement_children: Mapping[str, str] | None = None,
    timeout_seconds: float | timedelta | None = None,
) -> WorkflowHandle[Any]:
    """Start a copy of a workflow that takes over what lies below ``start_step`` (1: nothing of it).

    SetWorkflowID names the copy. It is on no queue, or on ``queue_name``. Without ``application_version`` it may run
    anywhere if the original might, else on the latest version. ``replacement_children``: the id of a child of the
    original -> the id of the workflow that the copy takes for it.
    """
    course = _course(application_version, queue_name, partition_key, timeout_seconds)
    return drive(_fork(workflow_id, start_step, course, replacement_children))


@markcoroutinefunction
def afork_workflow(
    workflow_id: str,
    start_step: int = 1,
    *,
    application_version: str | None = None,
    queue_name: str | None = None,
    partition_key: str | None = None,
    replacement_children: Mapping[str, str] | None = None,
    timeout_seconds: float | timedelta | None = None,
) -> Coroutine[Any, Any, WorkflowHandle[Any]]:
    """See fork_workflow()."""
    course = _course(application_version, queue_name, partition_key, timeout_seconds)
    return adrive(_fork(workflow_id, start_step, course, replacement_children))


def _fork(
    workflow_id: str, start_step: int, course: Course, replacements: Mapping[str, str] | None
) -> Operation[WorkflowHandle[Any]]:
    whole_number("start_step", start_step, least=1)
    named = {valid_id(old): valid_id(new) for old, new in (replacements or {}).items()}
    original_id, chosen_id = valid_id(workflow_id), take_next_id()

    def write() -> str:
        new_id = chosen_id or uuid7()
        forks.fork(original_id, new_id, start_step, course, named)
        return new_id

    return _handle(committed_call("DBOS.forkWorkflow", write))


def fork_from_failure(
    workflow_ids: Iterable[str] | None = None,
    *,
    filters: WorkflowFilters | None = None,
    limit: int | None = None,
    application_version: str | None = None,
    queue_name: str | None = None,
    timeout_seconds: float | timedelta | None = None,
) -> list[WorkflowHandle[Any]]:
    """Start a copy of each workflow that failed, from the step that failed, all in one commit; the oldest first.

    Which: those among ``workflow_ids``, or those that list_workflows() finds with ``filters`` (at most ``limit``).
    Failed is what ended with an error or was recovered too often; what did not is left out.
    """
    course = _course(application_version, queue_name, None, timeout_seconds)
    return drive(_fork_from_failure(workflow_ids, filters, limit, course))


@markcoroutinefunction
def afork_from_failure(
    workflow_ids: Iterable[str] | None = None,
    *,
    filters: WorkflowFilters | None = None,
    limit: int | None = None,
    application_version: str | None = None,
    queue_name: str | None = None,
    timeout_seconds: float | timedelta | None = None,
) -> Coroutine[Any, Any, list[WorkflowHandle[Any]]]:
    """See fork_from_failure()."""
    course = _course(application_version, queue_name, None, timeout_seconds)
    return adrive(_fork_from_failure(workflow_ids, filters, limit, course))


def _fork_from_failure(
    workflow_ids: Iterable[str] | None, filters: WorkflowFilters | None, limit: int | None, course: Course
) -> Operation[list[WorkflowHandle[Any]]]:
    if (workflow_ids is None) == (filters is None) or isinstance(workflow_ids, str):
        raise InvalidOption("Give either a list of workflow ids, or filters as list_workflows() takes them.")
    page = listing.Page(limit=None if limit is None else whole_number("limit", limit, least=0))
    chosen = None if workflow_ids is None else [valid_id(each) for each in workflow_ids][: page.limit]
    found = {"status": forks.FAILED, **checked_filters(filters or {})}

    def write() -> list[str]:
        failed = forks.failed_among(listing.ids_of(found, page) if chosen is None else chosen)
        numbers = forks.failed_steps(failed)
        copies = [Fork(original_id=each, new_id=uuid7(), start_step=numbers[each]) for each in failed]
        forks.fork_all(copies, course)
        return [copy.new_id for copy in copies]

    return _handles(committed_call("DBOS.forkFromFailure", write))


def rewind_workflow(
    workflow_id: str,
    start_step: int = 1,
    *,
    application_version: str | None = None,
    queue_name: str | None = None,
    partition_key: str | None = None,
) -> WorkflowHandle[Any]:
    """Let a finished workflow run again, under its own id, from ``start_step`` on.

    What it recorded, set and wrote from there on is dropped, and the messages that it received there can be received
    again. One that has not finished raises UnfinishedWorkflow.
    """
    return drive(_rewind(workflow_id, start_step, _course(application_version, queue_name, partition_key, None)))


@markcoroutinefunction
def arewind_workflow(
    workflow_id: str,
    start_step: int = 1,
    *,
    application_version: str | None = None,
    queue_name: str | None = None,
    partition_key: str | None = None,
) -> Coroutine[Any, Any, WorkflowHandle[Any]]:
    """See rewind_workflow()."""
    course = _course(application_version, queue_name, partition_key, None)
    return adrive(_rewind(workflow_id, start_step, course))


def _rewind(workflow_id: str, start_step: int, course: Course) -> Operation[WorkflowHandle[Any]]:
    whole_number("start_step", start_step, least=1)
    write = partial(_rewound, valid_id(workflow_id), start_step, course)
    return _handle(committed_call("DBOS.rewindWorkflow", write))


def _rewound(workflow_id: str, start_step: int, course: Course) -> str:
    forks.rewind(workflow_id, start_step, course)
    return workflow_id


# ---- what they share ------------------------------------------------------------------------------------------


def _course(version: str | None, queue: str | None, partition: str | None, timeout: float | timedelta | None) -> Course:
    seconds = None if timeout is None else seconds_of("timeout_seconds", timeout)
    if seconds == 0:
        raise InvalidOption("timeout_seconds is more than 0; without a timeout leave it out.")
    return Course(
        # "" is no version: it may run anywhere.
        application_version=version and short_text("application_version", version),
        queue_name=None if queue is None else short_text("A queue's name", queue),
        partition_key=None if partition is None else short_text("A partition key", partition),
        timeout=seconds,
    )


def _handle(operation: Operation[str]) -> Operation[WorkflowHandle[Any]]:
    return WorkflowHandle((yield from operation))


def _handles(operation: Operation[list[str]]) -> Operation[list[WorkflowHandle[Any]]]:
    return [WorkflowHandle(each) for each in (yield from operation)]
