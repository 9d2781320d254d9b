"""Every call that programs may make of ``DBOS``: those of the table, and the few with a shape of their own."""

from collections.abc import Callable, Sequence
from typing import Any

import django_dbos

from .. import awaitables
from ..context import authenticated_roles, step_status
from ..options import SetAuthentication
from ..sysdb import executors
from . import handles, names, streams
from .edges import acrossing, crossing
from .handles import WorkflowHandle, WorkflowHandleAsync
from .lifecycle import life, off_the_loop
from .status import StepStatus

#: What a program may call before launch.
_AT_ANY_TIME = frozenset({"run_step", "run_step_async"})


def _guard(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    return call if name in _AT_ANY_TIME else life.only_when_launched(f"DBOS.{name}", call)


#: Every call, by its name.
CALLS: dict[str, Callable[..., Any]] = {**names.functions(_guard), **streams.reading()}


def _call(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function a call of ``DBOS``."""
    CALLS[function.__name__] = function
    return function


_retrieve, _aretrieve = CALLS["retrieve_workflow"], CALLS["retrieve_workflow_async"]


@_call
def retrieve_workflow(workflow_id: str, existing_workflow: bool = True, **ignored: Any) -> WorkflowHandle[Any]:
    """A handle to a workflow by its id; unless ``existing_workflow`` is False it has to be there."""
    found: WorkflowHandle[Any] = _retrieve(workflow_id) if existing_workflow else WorkflowHandle(workflow_id)
    return found


@_call
async def retrieve_workflow_async(
    workflow_id: str, existing_workflow: bool = True, **ignored: Any
) -> WorkflowHandleAsync[Any]:
    """See retrieve_workflow()."""
    return (await _aretrieve(workflow_id)) if existing_workflow else WorkflowHandleAsync(workflow_id)


@_call
def set_authentication(authenticated_user: str | None, authenticated_roles: Sequence[str] | None) -> None:
    """Say on whose behalf what follows in this task or thread runs."""
    SetAuthentication(authenticated_user, authenticated_roles).__enter__()


@_call
def _recover_pending_workflows(executor_ids: Sequence[str] = ("local",)) -> list[WorkflowHandle[Any]]:
    """Let what some executors own go on, be they alive or not; what still runs in this process just goes on.

    ``local``: the executors of this process. Any other word is an executor's id, or what the ids of a machine's
    executors begin with.
    """
    ids = off_the_loop(lambda: executors.surrender(executor_ids, own_word="local"))
    return [WorkflowHandle(each) for each in ids]


class StepReservation:
    """A step's number, drawn before it is known what will run there."""

    def __init__(self) -> None:
        self._ours = django_dbos.reserve_step()
        self.step_id = self._ours.step_id
        self.run = crossing(self._ours.run)
        self.run_async = acrossing(self._ours.arun)


_call(handles.get_result)
_call(handles.get_result_async)
CALLS["asyncio_wait"] = acrossing(awaitables.asyncio_wait)
CALLS["reserve_step"] = crossing(StepReservation)


def current_step() -> StepStatus | None:
    """Where the step that calls stands."""
    ours = step_status()
    if ours is None:
        return None
    is_retried = ours.max_attempts > 1
    return StepStatus(
        step_id=ours.step_id,
        current_attempt=ours.current_attempt - 1 if is_retried else None,
        max_attempts=ours.max_attempts if is_retried else None,
    )


def current_roles() -> list[str] | None:
    """The roles of the authenticated user; None if there are none."""
    return authenticated_roles() or None
