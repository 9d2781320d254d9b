"""Taking a workflow from one database to another: everything that is recorded of it, as a document."""

from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any

from asgiref.sync import markcoroutinefunction

from .bridge import Operation, adrive, drive
from .handles import WorkflowHandle
from .operations import committed_call, recorded_call
from .sysdb import transfer
from .validation import valid_id


def export_workflow(workflow_id: str, *, export_children: bool = True) -> dict[str, Any]:
    """A workflow with all that belongs to it - steps, messages, events, streams, children - as JSON can hold it.

    Payloads are in it as they are stored; the workflow stays as it is.
    """
    return drive(_export(workflow_id, export_children))


@markcoroutinefunction
def aexport_workflow(workflow_id: str, *, export_children: bool = True) -> Coroutine[Any, Any, dict[str, Any]]:
    """See export_workflow()."""
    return adrive(_export(workflow_id, export_children))


def _export(workflow_id: str, export_children: bool) -> Operation[dict[str, Any]]:
    query = partial(transfer.export, valid_id(workflow_id), export_children=export_children)
    return recorded_call("DBOS.exportWorkflow", query)


def import_workflow(document: Mapping[str, Any]) -> WorkflowHandle[Any]:
    """Write down what export_workflow() returned, in one commit. An id that is in use raises WorkflowIDInUse.

    What had not finished goes on here, behind its last recorded step.
    """
    return drive(_import(document))


@markcoroutinefunction
def aimport_workflow(document: Mapping[str, Any]) -> Coroutine[Any, Any, WorkflowHandle[Any]]:
    """See import_workflow()."""
    return adrive(_import(document))


def _import(document: Mapping[str, Any]) -> Operation[WorkflowHandle[Any]]:
    return _handle(committed_call("DBOS.importWorkflow", partial(transfer.restore, document)))


def _handle(operation: Operation[str]) -> Operation[WorkflowHandle[Any]]:
    return WorkflowHandle((yield from operation))
