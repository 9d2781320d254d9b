"""Recorded steps, read back."""

from collections import defaultdict
from collections.abc import Iterable

from ..models import Step
from .journal import Recorded, from_row

#: The steps of one workflow, by number.
History = dict[int, Recorded]


def load_history(workflow_ids: Iterable[str]) -> defaultdict[str, History]:
    """Everything recorded for these workflows, in one query."""
    histories: defaultdict[str, History] = defaultdict(dict)
    for step in Step.objects.filter(workflow_id__in=list(workflow_ids)):
        histories[step.workflow_id][step.number] = from_row(step)
    return histories


def find_elsewhere(using: str, workflow_id: str, number: int) -> Recorded | None:
    """The checkpoint that a transaction on another database left there, beside the rows it wrote."""
    step = Step.objects.using(using).filter(workflow_id=workflow_id, number=number).first()
    return None if step is None else from_row(step)
