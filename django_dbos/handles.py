"""Handles: what one holds of a workflow that runs somewhere."""

from functools import partial
from typing import Any, Generic, TypeVar

from . import context, serialization
from .bridge import Database, Operation, adrive, drive
from .clock import monotonic
from .context import Execution, Result, replayed
from .exceptions import AwaitedWorkflowCancelled, MaxRecoveryAttemptsExceeded, ResultTimeout
from .hub import OUTCOME, Watch
from .models import Workflow
from .states import WorkflowStatus
from .sysdb import workflows
from .sysdb.journal import Ending
from .waiting import known, wait_for

R = TypeVar("R")

#: The name under which waiting for a workflow's result is recorded.
GET_RESULT = "DBOS.getResult"


class WorkflowHandle(Generic[R]):
    """A workflow, by its id: its result, now or when it is there, and its status."""

    __slots__ = ("workflow_id",)

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.workflow_id}>"

    def get_result(self, timeout: float | None = None) -> R:
        """The workflow's result, or its error raised, once it has finished.

        ``timeout``: seconds after which ResultTimeout is raised. Called by a workflow's body it is a recorded step.
        """
        result: R = drive(result_operation(self.workflow_id, timeout))
        return result

    async def aget_result(self, timeout: float | None = None) -> R:
        """See get_result()."""
        result: R = await adrive(result_operation(self.workflow_id, timeout))
        return result

    def get_status(self) -> Workflow:
        """The workflow's row as it is now."""
        return workflows.load(self.workflow_id)

    async def aget_status(self) -> Workflow:
        """See get_status()."""
        row: Workflow = await Database(self.get_status).aperform()
        return row


def result_operation(workflow_id: str, timeout: float | None) -> Operation[Any]:
    """Wait for a workflow; inside another one that is a step of its own."""
    execution = context.current()
    if execution is None:
        return _unrecorded(workflow_id, timeout)
    return recorded_result(execution, execution.next_number(), workflow_id, timeout)


def _unrecorded(workflow_id: str, timeout: float | None) -> Operation[Any]:
    result: Result = yield from await_result(workflow_id, timeout, None)
    return result.unwrap()


def recorded_result(execution: Execution, number: int, workflow_id: str, timeout: float | None) -> Operation[Any]:
    """Operation ``number`` of a workflow: wait for another one, and record what came of it."""
    recorded = execution.recall(number, GET_RESULT)
    if recorded is not None:
        return (yield from replayed(recorded))
    execution.look_up()
    yield from execution.settle()
    started = monotonic()
    result = yield from await_result(workflow_id, timeout, execution)
    return (yield from record_result(execution, number, workflow_id, result, started))


def record_result(
    execution: Execution, number: int, workflow_id: str, result: Result, started: float
) -> Operation[Any]:
    """Record what came of another workflow as operation ``number``, and give it."""
    result = yield from execution.keep(result, number=number, name=GET_RESULT, started=started, child_id=workflow_id)
    return result.unwrap()


def await_result(workflow_id: str, timeout: float | None, execution: Execution | None) -> Operation[Result]:
    """Wait until a workflow has finished; what came of it, or a ResultTimeout."""
    deadline = None if timeout is None else monotonic() + timeout
    outcome = yield from wait_for(
        Watch(OUTCOME, workflow_id),
        partial(workflows.find_outcome, workflow_id),
        execution=execution,
        until=partial(known, deadline),
    )
    if outcome is None:
        return Result(error=_timed_out(workflow_id, timeout))
    result: Result = yield Database(partial(unwrapped, workflow_id, outcome))
    return result


def _timed_out(workflow_id: str, timeout: float | None) -> ResultTimeout:
    return ResultTimeout(f"Workflow {workflow_id} did not finish within {timeout:g} s; it goes on.")


def unwrapped(workflow_id: str, outcome: Ending) -> Result:
    """What a waiter gets of a finished workflow."""
    match outcome.status:
        case WorkflowStatus.SUCCESS:
            return Result(value=serialization.loads(outcome.output, outcome.serializer))
        case WorkflowStatus.CANCELLED:
            return Result(error=AwaitedWorkflowCancelled(f"Workflow {workflow_id} has been cancelled."))
        case WorkflowStatus.MAX_RECOVERY_ATTEMPTS_EXCEEDED:
            return Result(error=MaxRecoveryAttemptsExceeded(f"Workflow {workflow_id} was recovered too often."))
        case _:
            return Result(error=serialization.load_error(outcome.error or "", outcome.serializer))


def retrieve_workflow(workflow_id: str) -> WorkflowHandle[Any]:
    """A handle to an existing workflow; raises NonExistentWorkflow."""
    workflows.load(workflow_id)
    return WorkflowHandle(workflow_id)


async def aretrieve_workflow(workflow_id: str) -> WorkflowHandle[Any]:
    """See retrieve_workflow()."""
    handle: WorkflowHandle[Any] = await Database(partial(retrieve_workflow, workflow_id)).aperform()
    return handle
