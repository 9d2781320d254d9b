"""What an operator does to workflows: cancel, resume, delete, delay, and change what is said of them.

Each change names the state that it expects; zero rows mean that the workflow was in another one, and nothing
happened. Bulk calls first make sure that every id is known, so that one unknown id changes nothing.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from django.db.models.functions import Now

from ..exceptions import NonExistentWorkflow, UnfinishedWorkflow
from ..hub import interruption_of, outcome_of
from ..models import Event, EventHistory, Message, Step, StreamEntry, Workflow
from ..states import ACTIVE, FINISHED, WAITING, WorkflowStatus, expected
from . import vendor
from .executors import wake_workers
from .steps import forget_elsewhere

#: How many workflows one statement is about; SQLite takes no more than so many parameters.
BATCH: Final = 300
#: How many ids an error names.
_NAMED: Final = 5


def batches(workflow_ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids in their order, each once, as many at a time as one statement takes."""
    remaining = iter(dict.fromkeys(workflow_ids))
    while batch := list(islice(remaining, BATCH)):
        yield batch


def quoted(workflow_ids: Collection[str]) -> str:
    """Some ids for a message: the first few of them."""
    named = ", ".join(repr(each) for each in islice(workflow_ids, _NAMED))
    return named if len(workflow_ids) <= _NAMED else f"{named} and {len(workflow_ids) - _NAMED} more"


def refuse_unknown(workflow_ids: Collection[str]) -> None:
    """Raise NonExistentWorkflow that names these ids, if there are any."""
    if workflow_ids:
        plural = "s" if len(workflow_ids) > 1 else ""
        raise NonExistentWorkflow(f"There is no workflow with the id{plural} {quoted(workflow_ids)}.")


def statuses_of(workflow_ids: Collection[str]) -> dict[str, str]:
    """Where each of these workflows stands; raises NonExistentWorkflow if one is unknown."""
    found = _find(workflow_ids)
    refuse_unknown([each for each in dict.fromkeys(workflow_ids) if each not in found])
    return found


def _find(workflow_ids: Iterable[str], *, lock: bool = False) -> dict[str, str]:
    """Where those of these workflows stand that exist; with ``lock`` they stay there until the transaction ends."""
    found: dict[str, str] = {}
    for batch in batches(workflow_ids):
        rows = Workflow.objects.filter(pk__in=batch).order_by("pk")
        found.update((rows.select_for_update() if lock else rows).values_list("pk", "status"))
    return found


def _exists_or_raise(workflow_id: str) -> None:
    if not Workflow.objects.filter(pk=workflow_id).exists():
        refuse_unknown([workflow_id])


# ---- cancel and resume ----------------------------------------------------------------------------------------


def cancel(workflow_id: str) -> bool:
    """Stop a workflow at its next durable operation. False: it had finished before."""
    return cancel_all([workflow_id]) == 1


def cancel_all(workflow_ids: Collection[str]) -> int:
    """Stop workflows at their next durable operation; how many there were. The others had finished before."""
    return _cancel_active(statuses_of(workflow_ids))


def _cancel_active(statuses: Mapping[str, str]) -> int:
    active = [each for each, status in statuses.items() if status in ACTIVE]
    return sum(_cancel_batch(batch) for batch in batches(active))


def _cancel_batch(workflow_ids: list[str]) -> int:
    with vendor.transaction():
        cancelled = Workflow.objects.filter(pk__in=workflow_ids, status__in=expected("cancel")).update(
            status=WorkflowStatus.CANCELLED, deduplication_id="", completed_at=Now(), updated_at=Now()
        )
        if cancelled:
            _wake(channel for each in workflow_ids for channel in (interruption_of(each), outcome_of(each)))
    return cancelled


def _wake(channels: Iterable[str]) -> None:
    channels = list(channels)
    vendor.notify(*channels)
    vendor.wake_on_commit(*channels)


def cancel_trees(workflow_ids: Collection[str]) -> int:
    """Stop workflows, then their children, then the children of those; how many there were in all.

    Outside a transaction each level is committed before the next is looked for: a parent that is cancelled starts
    no more children. Done again, it finds those that are left; so it may die half-way.
    """
    statuses_of(workflow_ids)
    return sum(_cancel_active(_find(level)) for level in levels(workflow_ids))


def levels(workflow_ids: Collection[str]) -> Iterator[list[str]]:
    """These workflows, then their children, then the children of those, to the last; each workflow once.

    Each level is looked for when it is asked for.
    """
    seen: set[str] = set()
    level = list(dict.fromkeys(workflow_ids))
    while level:
        yield level
        seen.update(level)
        level = [each for each in children_of(level) if each not in seen]


def children_of(workflow_ids: Collection[str]) -> list[str]:
    """The ids of the children of these workflows, whatever became of them."""
    found: list[str] = []
    for batch in batches(workflow_ids):
        found += Workflow.objects.filter(parent_id__in=batch).order_by("created_at", "pk").values_list("pk", flat=True)
    return found


def resume(workflow_id: str, queue_name: str | None = None) -> bool:
    """Put an unfinished, cancelled or dead-lettered workflow back on its queue. False: it has a result or an error."""
    return resume_all([workflow_id], queue_name) == 1


def resume_all(workflow_ids: Collection[str], queue_name: str | None = None) -> int:
    """Put workflows back on their queues, or on another one; how many there were. The others are left as they are.

    An execution that still runs somewhere loses its ownership with the next claim.
    """
    statuses_of(workflow_ids)
    with vendor.transaction():
        resumed = sum(_resume_batch(batch, queue_name) for batch in batches(workflow_ids))
        if resumed:
            wake_workers()
    return resumed


def _resume_batch(workflow_ids: list[str], queue_name: str | None) -> int:
    moved = {} if queue_name is None else {"queue_name": queue_name}
    return Workflow.objects.filter(pk__in=workflow_ids, status__in=expected("resume")).update(**AFRESH, **moved)


#: What a workflow is from which a worker starts to count anew. The epoch stays: the next claim raises it.
AFRESH: Final[dict[str, Any]] = {
    "status": WorkflowStatus.ENQUEUED,
    "executor_id": "",
    "attempts": 0,
    "deduplication_id": "",
    "is_debounced": False,
    "deadline": None,
    "delay_until": None,
    "output": None,
    "error": None,
    "completed_at": None,
    "updated_at": Now(),
}


# ---- delete ---------------------------------------------------------------------------------------------------


def delete_all(workflow_ids: Collection[str], *, delete_children: bool = False) -> int:
    """Delete finished workflows with everything that belongs to them, in one commit; how many there were.

    Raises UnfinishedWorkflow, and deletes nothing, if one of them is active: its executor would go on with the step
    it is at.
    """
    statuses_of(workflow_ids)
    with vendor.transaction():
        doomed = [each for level in levels(workflow_ids) for each in level] if delete_children else workflow_ids
        # In the order of their ids: two operators who lock the same rows wait for each other, and get on.
        statuses = _find(sorted(doomed), lock=True)
        active = [each for each, status in statuses.items() if status in ACTIVE]
        if active:
            raise UnfinishedWorkflow(f"Not finished: {quoted(active)}. Cancel what is to be deleted first.")
        return sum(_delete_batch(batch) for batch in batches(statuses))


def _delete_batch(workflow_ids: list[str]) -> int:
    for owned in (Step, Event, EventHistory, StreamEntry):
        owned.objects.filter(workflow_id__in=workflow_ids).delete()
    Message.objects.filter(destination_id__in=workflow_ids).delete()
    forget_elsewhere(workflow_ids)
    # Not through Django's collector: it would read every row that refers to these.
    rows = Workflow.objects.filter(pk__in=workflow_ids, status__in=FINISHED)
    return rows._raw_delete(vendor.alias())


# ---- what waits, and what is said of a workflow ------------------------------------------------------------------


def delay(workflow_id: str, *, until: datetime | None = None, seconds: float = 0.0) -> bool:
    """Let a waiting workflow wait until a moment, or for so many seconds from now by the database's clock.

    False: it does not wait any more, and is left as it is.
    """
    moment = Now() + timedelta(seconds=seconds) if until is None else until
    return _change_waiting(workflow_id, status=WorkflowStatus.DELAYED, delay_until=moment)


def set_priority(workflow_id: str, priority: int) -> bool:
    """Change how urgent a waiting workflow is. False: it does not wait any more, and is left as it is."""
    return _change_waiting(workflow_id, priority=priority)


def _change_waiting(workflow_id: str, **values: Any) -> bool:
    with vendor.transaction():
        waiting = Workflow.objects.filter(pk=workflow_id, status__in=WAITING)
        if not waiting.update(**values, updated_at=Now()):
            _exists_or_raise(workflow_id)
            return False
        wake_workers()
    return True


def update_attributes(workflow_id: str, attributes: Mapping[str, Any], *, merge: bool) -> None:
    """Replace a workflow's attributes, or put these on top of them; two who merge at the same time both succeed."""
    with vendor.transaction():
        row = Workflow.objects.filter(pk=workflow_id).select_for_update().values_list("attributes", flat=True).first()
        if row is None:
            refuse_unknown([workflow_id])
        merged = {**(row or {}), **attributes} if merge else dict(attributes)
        Workflow.objects.filter(pk=workflow_id).update(attributes=merged, updated_at=Now())
