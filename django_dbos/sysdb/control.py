"""What an operator does to workflows: cancel, resume, fork. Each is one guarded change; zero rows change nothing."""

from django.db.models.functions import Now

from ..exceptions import NonExistentWorkflow, WorkflowIDInUse
from ..hub import hub, interruption_of, outcome_of
from ..models import Step, Workflow
from ..states import WorkflowStatus, expected
from . import vendor
from .executors import wake_workers


def _exists_or_raise(workflow_id: str) -> None:
    if not Workflow.objects.filter(pk=workflow_id).exists():
        raise NonExistentWorkflow(f"There is no workflow with the id {workflow_id!r}.")


def cancel(workflow_id: str) -> bool:
    """Stop a workflow at its next durable operation. False: it had finished before."""
    changed = Workflow.objects.filter(pk=workflow_id, status__in=expected("cancel")).update(
        status=WorkflowStatus.CANCELLED, deduplication_id="", completed_at=Now(), updated_at=Now()
    )
    if not changed:
        _exists_or_raise(workflow_id)
        return False
    for channel in (interruption_of(workflow_id), outcome_of(workflow_id)):
        vendor.notify(channel)
        vendor.connection().on_commit(lambda channel=channel: hub.wake(channel))  # type: ignore[misc]
    return True


def resume(workflow_id: str) -> bool:
    """Put an unfinished, cancelled or dead-lettered workflow back on its queue. False: it has a result or an error.

    An execution that still runs somewhere loses its ownership with the next claim.
    """
    changed = Workflow.objects.filter(pk=workflow_id, status__in=expected("resume")).update(
        status=WorkflowStatus.ENQUEUED,
        executor_id="",
        attempts=0,
        deduplication_id="",
        deadline=None,
        delay_until=None,
        output=None,
        error=None,
        completed_at=None,
        updated_at=Now(),
    )
    if not changed:
        _exists_or_raise(workflow_id)
        return False
    wake_workers()
    return True


# What a fork takes over from its original; the rest starts afresh.
_INHERITED = (
    "name",
    "class_name",
    "instance_name",
    "inputs",
    "serializer",
    "application_version",
    "application_name",
    "authenticated_user",
    "authenticated_roles",
    "assumed_role",
    "attributes",
)


def fork(workflow_id: str, new_id: str, start_step: int) -> None:
    """Start a copy that has the original's inputs and its steps below ``start_step``, in one commit."""
    with vendor.transaction():
        original = Workflow.objects.filter(pk=workflow_id).values(*_INHERITED).first()
        if original is None:
            raise NonExistentWorkflow(f"There is no workflow with the id {workflow_id!r}.")
        if Workflow.objects.filter(pk=new_id).exists():
            raise WorkflowIDInUse(f"The workflow id {new_id!r} is in use: a fork needs a new one.")
        Workflow.objects.create(id=new_id, status=WorkflowStatus.ENQUEUED, forked_from_id=workflow_id, **original)
        steps = Step.objects.filter(workflow_id=workflow_id, number__lt=start_step)
        Step.objects.bulk_create([_copy(step, new_id) for step in steps])
        wake_workers()


def _copy(step: Step, workflow_id: str) -> Step:
    step.pk = (workflow_id, step.number)
    step._state.adding = True
    return step
