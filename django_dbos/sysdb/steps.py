"""Recorded steps, read back."""

from collections import defaultdict
from collections.abc import Collection, Iterable

from django.db import connections
from django.db.models.functions import Now

from ..models import Step
from . import vendor
from .journal import Recorded, from_row

#: The other databases on which transactions of this project leave checkpoints.
elsewhere: set[str] = set()

#: The steps of one workflow, by number.
History = dict[int, Recorded]


def load_history(workflow_ids: Iterable[str]) -> defaultdict[str, History]:
    """Everything recorded for these workflows, in one query."""
    histories: defaultdict[str, History] = defaultdict(dict)
    for step in Step.objects.filter(workflow_id__in=list(workflow_ids)).annotate(read_at=Now()):
        age = (step.read_at - step.completed_at).total_seconds() if step.completed_at else 0.0
        histories[step.workflow_id][step.number] = from_row(step, age)
    return histories


def find_elsewhere(using: str, workflow_id: str, number: int) -> Recorded | None:
    """The checkpoint that a transaction on another database left there, beside the rows it wrote."""
    step = Step.objects.using(using).filter(workflow_id=workflow_id, number=number).first()
    return None if step is None else from_row(step)


def forget_elsewhere(workflow_ids: Collection[str], start_step: int = 1) -> None:
    """Delete what transactions left on other databases, from a step on: under this id they shall run again."""
    for alias in sorted((elsewhere & set(connections)) - {vendor.alias()}):
        Step.objects.using(alias).filter(workflow_id__in=list(workflow_ids), number__gte=start_step).delete()
