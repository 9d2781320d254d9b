"""Handles as programs know them: sync ones, and ones whose methods are awaited."""

from typing import Any, TypeVar

from .. import context, handles
from ..bridge import Operation, adrive, drive
from ..exceptions import NonExistentWorkflow, ResultTimeout
from ..handles import result_operation
from ..listing import aget_workflow_status, get_workflow_status
from ..models import Workflow
from .edges import acrossing, crossing
from .error import DBOSException
from .lifecycle import life
from .raised import as_raised
from .status import WorkflowStatus, status

R = TypeVar("R")

# How often who waits outside a workflow looks whether this process's life has ended, in seconds.
_LOOK = 1.0


class WorkflowHandle(handles.WorkflowHandle[R]):
    """A workflow, by its id."""

    __slots__ = ()

    def get_workflow_id(self) -> str:
        """The workflow's id."""
        return self.workflow_id

    def get_result(self, timeout: float | None = None, *, polling_interval_sec: float | None = None) -> R:
        """The workflow's result, or its error raised, once it has finished."""
        result: R = _get_result(self.workflow_id, timeout)
        return result

    def get_status(self) -> WorkflowStatus:  # type: ignore[override]
        """The workflow as it is now; from a workflow's body a recorded step."""
        found: WorkflowStatus = _get_status(self.workflow_id)
        return found


class WorkflowHandleAsync(handles.WorkflowHandle[R]):
    """A workflow, by its id, for code that awaits."""

    __slots__ = ()

    def get_workflow_id(self) -> str:
        """The workflow's id."""
        return self.workflow_id

    def get_result(self, timeout: float | None = None, *, polling_interval_sec: float | None = None) -> Any:
        """The workflow's result, or its error raised, once it has finished; to be awaited."""
        return _aget_result(self.workflow_id, timeout)

    def get_status(self) -> Any:
        """The workflow as it is now; from a workflow's body a recorded step; to be awaited."""
        return _aget_status(self.workflow_id)


def _patient(workflow_id: str, timeout: float | None) -> Operation[Any]:
    """An operation that waits for a workflow, unless the life ends in which it was asked for."""
    is_bounded = context.current() is not None or timeout is not None
    waiting = result_operation(workflow_id, timeout) if is_bounded else _while_alive(workflow_id, life.ended)
    return _as_raised(workflow_id, waiting)


def _as_raised(workflow_id: str, waiting: Operation[Any]) -> Operation[Any]:
    try:
        return (yield from waiting)
    except Exception as error:
        known = as_raised(workflow_id, error)
    raise known  # not in the block above: the error that the body raised keeps its own context


def _while_alive(workflow_id: str, lives: int) -> Operation[Any]:
    while True:
        try:
            return (yield from result_operation(workflow_id, _LOOK))
        except ResultTimeout:
            if life.ended != lives:
                raise DBOSException(
                    f"DBOS.destroy() was called while the result of workflow {workflow_id} was awaited; "
                    "it goes on after the next launch."
                ) from None


_get_result = crossing(lambda workflow_id, timeout: drive(_patient(workflow_id, timeout)))
_aget_result = acrossing(lambda workflow_id, timeout: adrive(_patient(workflow_id, timeout)))


def get_result(workflow_id: str, **ignored: Any) -> Any:
    """The result of a workflow by its id, or its error raised, once it has finished."""
    return _get_result(workflow_id, None)


def get_result_async(workflow_id: str, **ignored: Any) -> Any:
    """See get_result()."""
    return _aget_result(workflow_id, None)


def _status_of(row: Workflow | None) -> WorkflowStatus:
    found = status(row)
    if found is None:
        raise NonExistentWorkflow()
    return found


_get_status = crossing(get_workflow_status, _status_of)
_aget_status = acrossing(aget_workflow_status, _status_of, asks_database=True)


def handle(ours: handles.WorkflowHandle[Any]) -> WorkflowHandle[Any]:
    """A handle for sync code."""
    return WorkflowHandle(ours.workflow_id)


def async_handle(ours: handles.WorkflowHandle[Any]) -> WorkflowHandleAsync[Any]:
    """A handle for code that awaits."""
    return WorkflowHandleAsync(ours.workflow_id)
