"""Workflows as they are found after a crash."""

from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus


def crashed(workflow_id: str, *, after: int) -> str:
    """Make a workflow one whose process died after so many steps, and which waits for another; its id."""
    Step.objects.filter(workflow_id=workflow_id, number__gt=after).delete()
    Workflow.objects.filter(pk=workflow_id).update(
        status=WorkflowStatus.ENQUEUED, executor_id="", output=None, error=None, completed_at=None
    )
    return workflow_id


def names(workflow_id: str) -> list[str]:
    """The names of the recorded steps, in their order."""
    return list(Step.objects.filter(workflow_id=workflow_id).order_by("number").values_list("name", flat=True))
