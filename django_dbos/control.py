"""What can be done to a workflow from outside: cancel, resume, fork."""

from functools import partial
from typing import Any

from .bridge import Database
from .handles import WorkflowHandle
from .ids import uuid7
from .options import take_next_id
from .sysdb import control
from .validation import whole_number


def cancel_workflow(workflow_id: str) -> bool:
    """Stop a workflow: it ends at its next durable operation. False: it had finished before."""
    return control.cancel(workflow_id)


async def acancel_workflow(workflow_id: str) -> bool:
    """See cancel_workflow()."""
    return bool(await Database(partial(cancel_workflow, workflow_id)).aperform())


def resume_workflow(workflow_id: str) -> WorkflowHandle[Any]:
    """Let an unfinished, cancelled or dead-lettered workflow go on from its last finished step.

    One that has a result or an error already is left as it is.
    """
    control.resume(workflow_id)
    return WorkflowHandle(workflow_id)


async def aresume_workflow(workflow_id: str) -> WorkflowHandle[Any]:
    """See resume_workflow()."""
    handle: WorkflowHandle[Any] = await Database(partial(resume_workflow, workflow_id)).aperform()
    return handle


def fork_workflow(workflow_id: str, start_step: int = 1) -> WorkflowHandle[Any]:
    """Start a copy of a workflow that takes over its recorded steps below ``start_step`` (1: none of them).

    SetWorkflowID names the copy.
    """
    whole_number("start_step", start_step, least=1)
    new_id = take_next_id() or uuid7()
    control.fork(workflow_id, new_id, start_step)
    return WorkflowHandle(new_id)


async def afork_workflow(workflow_id: str, start_step: int = 1) -> WorkflowHandle[Any]:
    """See fork_workflow()."""
    handle: WorkflowHandle[Any] = await Database(partial(fork_workflow, workflow_id, start_step)).aperform()
    return handle
