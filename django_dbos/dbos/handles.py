"""Handles as programs know them: sync ones, and ones whose methods are awaited."""

from typing import Any, TypeVar

from .. import context, handles
from ..bridge import adrive, drive
from ..exceptions import ResultTimeout
from ..handles import result_operation
from .edges import acrossing, crossing
from .error import DBOSException
from .lifecycle import life

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


class WorkflowHandleAsync(handles.WorkflowHandle[R]):
    """A workflow, by its id, for code that awaits."""

    __slots__ = ()

    def get_workflow_id(self) -> str:
        """The workflow's id."""
        return self.workflow_id

    def get_result(self, timeout: float | None = None, *, polling_interval_sec: float | None = None) -> Any:
        """The workflow's result, or its error raised, once it has finished; to be awaited."""
        return _aget_result(self.workflow_id, timeout)


def _patient(workflow_id: str, timeout: float | None) -> Any:
    """An operation that waits for a workflow, unless the life ends in which it was asked for."""
    if context.current() is not None or timeout is not None:
        return result_operation(workflow_id, timeout)
    return _while_alive(workflow_id, life.ended)


def _while_alive(workflow_id: str, lives: int) -> Any:
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


def handle(ours: handles.WorkflowHandle[Any]) -> WorkflowHandle[Any]:
    """A handle for sync code."""
    return WorkflowHandle(ours.workflow_id)


def async_handle(ours: handles.WorkflowHandle[Any]) -> WorkflowHandleAsync[Any]:
    """A handle for code that awaits."""
    return WorkflowHandleAsync(ours.workflow_id)
