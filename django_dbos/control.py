"""What can be done to a workflow from outside: stop it, let it go on, delete it, and change what is said of it.

Called by a workflow's body each is a recorded step; inside a step, and elsewhere, a plain call that joins the
caller's transaction.
"""

import json
from collections.abc import Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from asgiref.sync import markcoroutinefunction

from . import context
from .bridge import Operation, adrive, drive
from .exceptions import InvalidOption
from .handles import WorkflowHandle
from .operations import committed_call, recorded_call
from .options import attributes_text
from .sysdb import control
from .validation import seconds_of, short_text, valid_id, whole_number


def _ids(workflow_ids: Iterable[str]) -> list[str]:
    if isinstance(workflow_ids, str):
        raise InvalidOption(f"This takes several workflow ids; for one put it into a list: [{workflow_ids!r}].")
    return [valid_id(each) for each in dict.fromkeys(workflow_ids)]


# ---- cancel ---------------------------------------------------------------------------------------------------


def cancel_workflow(workflow_id: str, *, cancel_children: bool = False) -> bool:
    """Stop a workflow: it ends at its next durable operation. False: it had finished before.

    ``cancel_children``: also its children, and the children of those, whether or not it had finished itself.
    """
    return drive(_is_any(_cancel("DBOS.cancelWorkflow", [valid_id(workflow_id)], cancel_children)))


@markcoroutinefunction
def acancel_workflow(workflow_id: str, *, cancel_children: bool = False) -> Coroutine[Any, Any, bool]:
    """See cancel_workflow()."""
    return adrive(_is_any(_cancel("DBOS.cancelWorkflow", [valid_id(workflow_id)], cancel_children)))


def cancel_workflows(workflow_ids: Iterable[str], *, cancel_children: bool = False) -> int:
    """Stop several workflows; how many were stopped. The others had finished before. See cancel_workflow()."""
    return drive(_cancel("DBOS.cancelWorkflows", _ids(workflow_ids), cancel_children))


@markcoroutinefunction
def acancel_workflows(workflow_ids: Iterable[str], *, cancel_children: bool = False) -> Coroutine[Any, Any, int]:
    """See cancel_workflows()."""
    return adrive(_cancel("DBOS.cancelWorkflows", _ids(workflow_ids), cancel_children))


def _cancel(name: str, workflow_ids: list[str], cancel_children: bool) -> Operation[int]:
    if cancel_children:  # in several commits; done again, it finds what is left
        return recorded_call(name, partial(control.cancel_trees, workflow_ids))
    if context.workflow_id() in workflow_ids:  # once that is committed, no step can be recorded with it
        return recorded_call(name, partial(control.cancel_all, workflow_ids))
    return committed_call(name, partial(control.cancel_all, workflow_ids))


def _is_any(operation: Operation[int]) -> Operation[bool]:
    return (yield from operation) > 0


# ---- resume ---------------------------------------------------------------------------------------------------


def resume_workflow(workflow_id: str, *, queue_name: str | None = None) -> WorkflowHandle[Any]:
    """Let an unfinished, cancelled or dead-lettered workflow go on from its last finished step.

    It goes to its own queue, or to ``queue_name``. One that has a result or an error already is left as it is.
    """
    return drive(_only(_resume("DBOS.resumeWorkflow", [valid_id(workflow_id)], queue_name)))


@markcoroutinefunction
def aresume_workflow(workflow_id: str, *, queue_name: str | None = None) -> Coroutine[Any, Any, WorkflowHandle[Any]]:
    """See resume_workflow()."""
    return adrive(_only(_resume("DBOS.resumeWorkflow", [valid_id(workflow_id)], queue_name)))


def resume_workflows(workflow_ids: Iterable[str], *, queue_name: str | None = None) -> list[WorkflowHandle[Any]]:
    """Let several workflows go on, in one commit. See resume_workflow()."""
    return drive(_resume("DBOS.resumeWorkflows", _ids(workflow_ids), queue_name))


@markcoroutinefunction
def aresume_workflows(
    workflow_ids: Iterable[str], *, queue_name: str | None = None
) -> Coroutine[Any, Any, list[WorkflowHandle[Any]]]:
    """See resume_workflows()."""
    return adrive(_resume("DBOS.resumeWorkflows", _ids(workflow_ids), queue_name))


def _resume(name: str, workflow_ids: list[str], queue_name: str | None) -> Operation[list[WorkflowHandle[Any]]]:
    if context.workflow_id() in workflow_ids:  # it would be handed back, run, resume itself, and never end
        raise InvalidOption("A workflow that runs cannot resume itself: it needs no resuming.")
    if queue_name is not None:
        short_text("A queue's name", queue_name)
    return _handles(workflow_ids, committed_call(name, partial(control.resume_all, workflow_ids, queue_name)))


def _handles(workflow_ids: list[str], operation: Operation[Any]) -> Operation[list[WorkflowHandle[Any]]]:
    yield from operation
    return [WorkflowHandle(each) for each in workflow_ids]


def _only(operation: Operation[list[WorkflowHandle[Any]]]) -> Operation[WorkflowHandle[Any]]:
    return (yield from operation)[0]


# ---- delete ---------------------------------------------------------------------------------------------------


def delete_workflow(workflow_id: str, *, delete_children: bool = False) -> int:
    """Delete a finished workflow and everything that belongs to it; how many workflows that were.

    ``delete_children``: also its children, and the children of those. An active one raises UnfinishedWorkflow, and
    nothing is deleted.
    """
    return drive(_delete("DBOS.deleteWorkflow", [valid_id(workflow_id)], delete_children))


@markcoroutinefunction
def adelete_workflow(workflow_id: str, *, delete_children: bool = False) -> Coroutine[Any, Any, int]:
    """See delete_workflow()."""
    return adrive(_delete("DBOS.deleteWorkflow", [valid_id(workflow_id)], delete_children))


def delete_workflows(workflow_ids: Iterable[str], *, delete_children: bool = False) -> int:
    """Delete several workflows in one commit. See delete_workflow()."""
    return drive(_delete("DBOS.deleteWorkflows", _ids(workflow_ids), delete_children))


@markcoroutinefunction
def adelete_workflows(workflow_ids: Iterable[str], *, delete_children: bool = False) -> Coroutine[Any, Any, int]:
    """See delete_workflows()."""
    return adrive(_delete("DBOS.deleteWorkflows", _ids(workflow_ids), delete_children))


def _delete(name: str, workflow_ids: list[str], delete_children: bool) -> Operation[int]:
    return committed_call(name, partial(control.delete_all, workflow_ids, delete_children=delete_children))


# ---- what waits -----------------------------------------------------------------------------------------------


def set_workflow_delay(
    workflow_id: str, *, delay_seconds: float | timedelta | None = None, delay_until: datetime | None = None
) -> bool:
    """Let a workflow that waits wait until then, or for so long from now. False: it does not wait any more.

    Of ``delay_seconds`` and ``delay_until`` give one; what lies in the past means now.
    """
    return drive(_delay(workflow_id, delay_seconds, delay_until))


@markcoroutinefunction
def aset_workflow_delay(
    workflow_id: str, *, delay_seconds: float | timedelta | None = None, delay_until: datetime | None = None
) -> Coroutine[Any, Any, bool]:
    """See set_workflow_delay()."""
    return adrive(_delay(workflow_id, delay_seconds, delay_until))


def _delay(workflow_id: str, seconds: float | timedelta | None, until: datetime | None) -> Operation[bool]:
    if (seconds is None) == (until is None):
        raise InvalidOption("Give either delay_seconds or delay_until.")
    if seconds is not None:
        write = partial(control.delay, valid_id(workflow_id), seconds=seconds_of("delay_seconds", seconds))
    else:
        if not isinstance(until, datetime) or until.tzinfo is None:
            raise InvalidOption(f"delay_until is a datetime with a time zone, not {until!r:.300}.")
        write = partial(control.delay, valid_id(workflow_id), until=until)
    return committed_call("DBOS.setWorkflowDelay", write)


def set_workflow_priority(workflow_id: str, priority: int) -> bool:
    """Change how urgent a workflow is that waits; 0 comes first. False: it does not wait any more."""
    return drive(_prioritize(workflow_id, priority))


@markcoroutinefunction
def aset_workflow_priority(workflow_id: str, priority: int) -> Coroutine[Any, Any, bool]:
    """See set_workflow_priority()."""
    return adrive(_prioritize(workflow_id, priority))


def _prioritize(workflow_id: str, priority: int) -> Operation[bool]:
    write = partial(control.set_priority, valid_id(workflow_id), whole_number("priority", priority, least=0))
    return committed_call("DBOS.setWorkflowPriority", write)


# ---- attributes -----------------------------------------------------------------------------------------------


def update_workflow_attributes(workflow_id: str, attributes: Mapping[str, Any] | None, *, merge: bool = False) -> None:
    """Replace a workflow's attributes; None: by none. With ``merge`` those that are not named stay."""
    drive(_update_attributes(workflow_id, attributes, merge))


@markcoroutinefunction
def aupdate_workflow_attributes(
    workflow_id: str, attributes: Mapping[str, Any] | None, *, merge: bool = False
) -> Coroutine[Any, Any, None]:
    """See update_workflow_attributes()."""
    return adrive(_update_attributes(workflow_id, attributes, merge))


def _update_attributes(workflow_id: str, attributes: Mapping[str, Any] | None, merge: bool) -> Operation[None]:
    if attributes is None and merge:
        raise InvalidOption("There is nothing to merge: None clears the attributes, without merge=True.")
    document = json.loads(attributes_text({} if attributes is None else attributes))
    write = partial(control.update_attributes, valid_id(workflow_id), document, merge=merge)
    return committed_call("DBOS.updateWorkflowAttributes", write)
