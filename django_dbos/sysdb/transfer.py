"""A workflow as a document: everything that the tables hold of it, written down and read back somewhere else."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db.models import Field, JSONField, Model

from ..exceptions import InvalidOption, WorkflowIDInUse
from ..models import Event, EventHistory, Message, Step, StreamEntry, Workflow
from ..states import ACTIVE, WorkflowStatus
from . import vendor
from .control import batches, levels, quoted, statuses_of
from .executors import wake_workers

#: What a document says first, so that nobody takes something else for one.
FORMAT: Final = "django-dbos workflows"
VERSION: Final = 1

#: Key of a document -> (model, the column that says to which workflow a row belongs). Workflows come first.
_TABLES: Final[dict[str, tuple[type[Model], str]]] = {
    "workflows": (Workflow, "id"),
    "steps": (Step, "workflow_id"),
    "messages": (Message, "destination_id"),
    "events": (Event, "workflow_id"),
    "event_history": (EventHistory, "workflow_id"),
    "stream_entries": (StreamEntry, "workflow_id"),
}


def export(workflow_id: str, *, export_children: bool = True) -> dict[str, Any]:
    """Everything that the tables hold of a workflow and of its children, as they were at one moment."""
    with vendor.transaction():
        vendor.begin(vendor.alias(), isolation_level="REPEATABLE READ", read_only=True)
        statuses_of([workflow_id])
        ids = [each for level in levels([workflow_id]) for each in level] if export_children else [workflow_id]
        tables = {key: _written(model, column, ids) for key, (model, column) in _TABLES.items()}
    return {"format": FORMAT, "version": VERSION, "root": workflow_id, **tables}


def _written(model: type[Model], column: str, workflow_ids: Collection[str]) -> list[dict[str, Any]]:
    names = [field.attname for field in model._meta.concrete_fields]
    rows: list[dict[str, Any]] = []
    for batch in batches(workflow_ids):
        found = model._default_manager.filter(**{f"{column}__in": batch}).order_by("pk").values(*names)
        rows += [{name: _plain(value) for name, value in row.items()} for row in found]
    return rows


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def restore(document: Mapping[str, Any]) -> str:
    """Write a document's workflows, in one commit; the id of the first. Nothing is written if one of them is there.

    What was running belongs to nobody here: it goes back to its queue, and continues behind its last recorded step.
    """
    rows = {key: [_read(model, row) for row in document[key]] for key, (model, _) in _checked(document).items()}
    workflows = [row for row in rows["workflows"] if isinstance(row, Workflow)]
    for row in workflows:
        if row.status == WorkflowStatus.PENDING:
            row.status, row.executor_id = WorkflowStatus.ENQUEUED, ""
    with vendor.transaction():
        _refuse_conflicts(workflows)
        for key, (model, _) in _TABLES.items():
            model._default_manager.bulk_create(rows[key], batch_size=100)
        if any(row.status in ACTIVE for row in workflows):
            wake_workers()
    return str(document["root"])


def _checked(document: Any) -> dict[str, tuple[type[Model], str]]:
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise InvalidOption("This is no exported workflow: import_workflow() takes what export_workflow() returned.")
    if document.get("version") != VERSION:
        raise InvalidOption(f"This was exported in version {document.get('version')!r}; {VERSION} can be read here.")
    missing = [key for key in _TABLES if not isinstance(document.get(key), list)]
    if missing:
        raise InvalidOption(f"This exported workflow is not whole: {', '.join(missing)} missing.")
    ids = {row.get("id") for row in document["workflows"] if isinstance(row, Mapping)}
    strays = {
        owner
        for key, (_, column) in _TABLES.items()
        for row in document[key]
        if (owner := _owner(row, column)) not in ids
    }
    if strays or document.get("root") not in ids:
        raise InvalidOption("This exported workflow is not whole: it has rows of workflows that are not in it.")
    return _TABLES


def _owner(row: Any, column: str) -> Any:
    if not isinstance(row, Mapping):
        raise InvalidOption(f"A row of an exported workflow is an object, not {row!r:.300}.")
    return row.get(column)


def _read(model: type[Model], row: Mapping[str, Any]) -> Model:
    fields = {field.attname: field for field in model._meta.concrete_fields}
    unknown = sorted(set(row) - set(fields))
    if unknown:
        raise InvalidOption(f"{model.__name__} has no column {', '.join(unknown)} here: migrate, then import it again.")
    try:
        return model(**{name: _value(fields[name], value) for name, value in row.items()})
    except (ValidationError, TypeError, ValueError) as error:
        raise InvalidOption(f"A row of {model.__name__} cannot be read: {error}") from error


def _value(field: "Field[Any, Any]", value: Any) -> Any:
    return value if isinstance(field, JSONField) else field.to_python(value)


def _refuse_conflicts(workflows: Collection[Workflow]) -> None:
    for batch in batches(row.id for row in workflows):
        if used := list(Workflow.objects.filter(pk__in=batch).values_list("pk", flat=True)):
            raise WorkflowIDInUse(f"In use: {quoted(used)}. Delete what is there first, or leave it.")
    for row in workflows:
        held = Workflow.objects.filter(queue_name=row.queue_name, deduplication_id=row.deduplication_id)
        if row.deduplication_id and held.exists():
            raise InvalidOption(
                f"The deduplication id {row.deduplication_id!r} of workflow {row.id!r} is held by another active "
                f"workflow of the queue {row.queue_name!r}."
            )
