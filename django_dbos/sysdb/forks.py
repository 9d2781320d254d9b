"""Going back to a step: in a copy under a new id, or in place. What lies below the step is kept.

That is: recorded steps, the values that events had, and what was written to streams. Everything is copied inside the
database, for many workflows in one statement.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.db.models import Case, F, Max, Min, Model, Subquery, Value, When
from django.db.models.functions import Coalesce

from ..exceptions import UnfinishedWorkflow, WorkflowIDInUse
from ..models import ApplicationVersion, Event, EventHistory, Message, Step, StreamEntry, Workflow
from ..states import WorkflowStatus, expected
from . import vendor
from .control import AFRESH, batches, quoted, statuses_of
from .executors import wake_workers
from .steps import forget_elsewhere

#: What can be gone back from because it failed; what was cancelled was stopped on purpose.
FAILED: Final = (WorkflowStatus.ERROR, WorkflowStatus.MAX_RECOVERY_ATTEMPTS_EXCEEDED)

#: What a fork takes over from its original; the rest starts afresh.
_INHERITED: Final = (
    "name",
    "class_name",
    "instance_name",
    "inputs",
    "serializer",
    "application_name",
    "authenticated_user",
    "authenticated_roles",
    "assumed_role",
    "attributes",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A copy to be made: of which workflow, under which id, and from which step on it runs."""

    original_id: str
    new_id: str
    start_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How what goes back to a step runs on. None: see ``fork_workflow()``."""

    application_version: str | None = None
    queue_name: str | None = None
    partition_key: str | None = None
    timeout: float | None = None


def fork(
    workflow_id: str,
    new_id: str,
    start_step: int,
    course: Course | None = None,
    replacements: Mapping[str, str] | None = None,
) -> None:
    """Start a copy that has the original's inputs and what lies below ``start_step``, in one commit.

    ``replacements``: what the copied steps name instead of some of the original's children.
    """
    with vendor.transaction():
        fork_all([Fork(original_id=workflow_id, new_id=new_id, start_step=start_step)], course or Course())
        if replacements:
            _replace_children(new_id, replacements)


def fork_all(forks: Sequence[Fork], course: Course) -> None:
    """Start copies, all in one commit. One unknown original, or one id that is in use, and none is made."""
    statuses_of([fork.original_id for fork in forks])
    by_id = {fork.new_id: fork for fork in forks}
    with vendor.transaction():
        for batch in batches(by_id):
            _copy([by_id[new_id] for new_id in batch], course)
        if forks:
            wake_workers()


def _copy(forks: Sequence[Fork], course: Course) -> None:
    used = list(Workflow.objects.filter(pk__in=[fork.new_id for fork in forks]).values_list("pk", flat=True))
    if used:
        raise WorkflowIDInUse(f"In use: {quoted(used)}. A fork needs a new workflow id.")
    lasts = last_steps([fork.original_id for fork in forks])
    plan: list[Any] = []
    for fork in forks:
        plan += [fork.original_id, fork.new_id, _start_step(fork.start_step, lasts.get(fork.original_id))]
    parameters = (*_course_parameters(course), *plan)
    if vendor.execute(_fork_sql(len(forks), course.application_version is None), parameters) < len(forks):
        statuses_of([fork.original_id for fork in forks])  # one was deleted at this moment: it says which
    for sql in (_steps_sql, _events_sql, _history_sql, _streams_sql):
        vendor.execute(sql(len(forks)), plan)


def _start_step(asked: int, last: int | None) -> int:
    """At most the step behind the last one recorded: what a step left behind that was not recorded will come again."""
    return min(asked, (last or 0) + 1)


def last_steps(workflow_ids: Iterable[str]) -> dict[str, int]:
    """The last recorded number of each of these workflows; those without any are missing."""
    steps = Step.objects.filter(workflow_id__in=list(workflow_ids)).order_by().values_list("workflow_id")
    return dict(steps.annotate(last=Max("number")))


def _replace_children(workflow_id: str, replacements: Mapping[str, str]) -> None:
    statuses_of(list(replacements.values()))
    for old, new in replacements.items():
        Step.objects.filter(workflow_id=workflow_id, child_id=old).update(child_id=new)


def failed_among(workflow_ids: Collection[str]) -> list[str]:
    """Those of these workflows that failed, in the given order."""
    statuses = statuses_of(workflow_ids)
    return [each for each in dict.fromkeys(workflow_ids) if statuses[each] in FAILED]


def failed_steps(workflow_ids: Collection[str]) -> dict[str, int]:
    """From which step each of these workflows is to run again.

    That is the last one that was recorded with an error; if it waited for a child, the step that started the child.
    If no step failed it was the body: it runs again behind its last recorded step.
    """
    found: dict[str, int] = {}
    for batch in batches(workflow_ids):
        lasts = last_steps(batch)
        found.update({each: lasts.get(each, 0) + 1 for each in batch})
        errors = Step.objects.filter(workflow_id__in=batch, error__isnull=False).order_by()
        found.update(errors.values_list("workflow_id").annotate(last=Max("number")))
        found.update(_starts_of_children({each: found[each] for each in batch}))
    return found


def _starts_of_children(numbers: dict[str, int]) -> dict[str, int]:
    steps = Step.objects.filter(workflow_id__in=list(numbers)).exclude(child_id="").order_by()
    starts = steps.values_list("workflow_id", "child_id").annotate(first=Min("number"), last=Max("number"))
    return {each: first for each, _child, first, last in starts if last == numbers[each]}


# ---- in place -------------------------------------------------------------------------------------------------


def rewind(workflow_id: str, start_step: int, course: Course) -> None:
    """Let a finished workflow run again from a step on, in one commit.

    What later steps recorded, set and wrote is dropped, and messages that they consumed can be received again. The
    epoch stays, the next claim raises it. Zero rows: it has not finished, which raises UnfinishedWorkflow.
    """
    with vendor.transaction():
        # First the row: from here on nobody else deletes, resumes or claims it.
        rows = Workflow.objects.filter(pk=workflow_id, status__in=expected("rewind"))
        if not rows.update(**AFRESH, **_changed(course)):
            statuses_of([workflow_id])
            raise UnfinishedWorkflow(f"Workflow {workflow_id!r} has not finished: cancel it first, or fork it.")
        start_step = _start_step(start_step, last_steps([workflow_id]).get(workflow_id))
        forget_elsewhere([workflow_id], start_step)
        _drop(workflow_id, start_step)
        vendor.execute(_events_sql(1), (workflow_id, workflow_id, start_step))
        wake_workers()


def _changed(course: Course) -> dict[str, Any]:
    given = {
        "queue_name": course.queue_name,
        "partition_key": course.partition_key,
        "application_version": _latest_if_pinned()
        if course.application_version is None
        else course.application_version,
    }
    return {name: value for name, value in given.items() if value is not None}


def _latest_if_pinned() -> Case:
    # As in _fork_sql(): only what was pinned to a version stays pinned, and to one for which somebody is there.
    newest = ApplicationVersion.objects.order_by("-made_latest_at", "name").values("name")[:1]
    return Case(
        When(application_version="", then=Value("")), default=Coalesce(Subquery(newest), F("application_version"))
    )


def _drop(workflow_id: str, start_step: int) -> None:
    own: dict[str, Any] = {"workflow_id": workflow_id}
    Step.objects.filter(**own, number__gte=start_step).delete()
    EventHistory.objects.filter(**own, step__gte=start_step).delete()
    Event.objects.filter(**own).delete()
    dropped = StreamEntry.objects.filter(**own, step__gte=start_step)
    if dropped.delete()[0]:
        _close_gaps(workflow_id)
    consumed = Message.objects.filter(destination_id=workflow_id, consumed_by_step__gte=start_step)
    consumed.update(consumed_by_step=None)


def _close_gaps(workflow_id: str) -> None:
    """Number the entries of each stream from 0 again: where steps ran side by side, some in the middle were dropped."""
    next_offset: dict[str, int] = {}
    entries = StreamEntry.objects.filter(workflow_id=workflow_id).order_by("key", "offset")
    for key, offset in list(entries.values_list("key", "offset")):
        wanted = next_offset.get(key, 0)
        next_offset[key] = wanted + 1
        if offset != wanted:
            StreamEntry.objects.filter(workflow_id=workflow_id, key=key, offset=offset).update(offset=wanted)


# ---- statements -----------------------------------------------------------------------------------------------


def _plan(forks: int) -> str:
    """The forks as rows (original, new id, start step)."""
    rows = ", ".join(["(%s, %s, %s)"] * forks)
    return f"""(SELECT column1 AS original_id, column2 AS new_id, CAST(column3 AS INTEGER) AS start_step
                FROM (VALUES {rows}) AS v) AS plan"""  # noqa: S608


def _columns(model: type[Model], *left_out: str) -> list[str]:
    columns = (field.column for field in model._meta.concrete_fields)
    return [f'"{column}"' for column in columns if column not in ("workflow_id", *left_out)]


def _copy_sql(model: type[Model], plan: str, step: str) -> str:
    columns = _columns(model)
    return f"""
        INSERT INTO {model._meta.db_table} (workflow_id, {", ".join(columns)})
        SELECT plan.new_id, {", ".join(f"o.{column}" for column in columns)}
        FROM {plan} JOIN {model._meta.db_table} o ON o.workflow_id = plan.original_id AND o.{step} < plan.start_step
    """  # noqa: S608


@cache
def _fork_sql(forks: int, latest_version: bool) -> str:
    # Pinned to a version is only what was; and then to the latest, for which somebody is there.
    version = "CAST(%s AS VARCHAR(255))"
    if latest_version:
        newest = "(SELECT name FROM dbos_applicationversion ORDER BY made_latest_at DESC, name LIMIT 1)"
        version = f"CASE WHEN o.application_version = '' THEN '' ELSE COALESCE({newest}, o.application_version) END"
    inherited = ", ".join(_INHERITED)
    return f"""
        INSERT INTO dbos_workflow (id, status, forked_from_id, queue_name, partition_key, timeout,
                                   application_version, {inherited})
        SELECT plan.new_id, 'ENQUEUED', o.id, CAST(%s AS VARCHAR(255)), CAST(%s AS VARCHAR(255)),
               CAST(%s AS DOUBLE PRECISION), {version}, {", ".join(f"o.{column}" for column in _INHERITED)}
        FROM {_plan(forks)} JOIN dbos_workflow o ON o.id = plan.original_id
    """  # noqa: S608


def _course_parameters(course: Course) -> tuple[Any, ...]:
    version = () if course.application_version is None else (course.application_version,)
    return (course.queue_name or "", course.partition_key or "", course.timeout, *version)


@cache
def _steps_sql(forks: int) -> str:
    return _copy_sql(Step, _plan(forks), "number")


@cache
def _history_sql(forks: int) -> str:
    return _copy_sql(EventHistory, _plan(forks), "step")


@cache
def _events_sql(forks: int) -> str:
    """The value that each event had before its workflow came to the start step."""
    return f"""
        INSERT INTO dbos_event (workflow_id, "key", "value", serializer, updated_at)
        SELECT plan.new_id, o."key", o."value", o.serializer, o.created_at
        FROM {_plan(forks)} JOIN dbos_eventhistory o ON o.workflow_id = plan.original_id AND o.step < plan.start_step
        WHERE NOT EXISTS (
            SELECT 1 FROM dbos_eventhistory later WHERE later.workflow_id = o.workflow_id AND later."key" = o."key"
            AND later.step > o.step AND later.step < plan.start_step)
    """  # noqa: S608


@cache
def _streams_sql(forks: int) -> str:
    # Numbered anew: where steps ran side by side, a later step may have written before an earlier one.
    columns = _columns(StreamEntry, "offset")
    return f"""
        INSERT INTO dbos_streamentry (workflow_id, "offset", {", ".join(columns)})
        SELECT plan.new_id, ROW_NUMBER() OVER (PARTITION BY plan.new_id, o."key" ORDER BY o."offset") - 1,
               {", ".join(f"o.{column}" for column in columns)}
        FROM {_plan(forks)} JOIN dbos_streamentry o ON o.workflow_id = plan.original_id AND o.step < plan.start_step
    """  # noqa: S608
