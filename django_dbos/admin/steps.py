"""The steps of a workflow, as its page shows them: a screen of them at a time."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.core.paginator import Page, Paginator
from django.db.models.functions import Left

from ..models import Step
from . import cells

#: Steps on one screen.
PER_PAGE: Final = 100
#: How much of an output is shown, in characters.
_PREVIEW: Final = 500
#: How much of an output or an error is read: what is longer cannot be laid out anyway. See serialization.preview().
_READ: Final = {"output": 64 * _PREVIEW + 1, "error": 262_144}
_COLUMNS: Final = ("number", "name", "attempts", "started_at", "completed_at", "child_id", "executor_id", "serializer")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """A row of the table, ready to be shown."""

    number: int
    name: str
    attempts: int
    started: str
    duration: str
    result: str
    failed: bool
    child: str
    executor: str


def steps_page(workflow_id: str, number: str | None, site: str) -> tuple[Page[Any], list[StepRow]]:
    """A page of the steps, and its rows; a number that makes no sense is the nearest page."""
    texts: dict[str, Any] = {f"{column}_text": Left(column, length) for column, length in _READ.items()}
    steps = Step.objects.filter(workflow_id=workflow_id).order_by("number").values(*_COLUMNS, **texts)
    page = Paginator(steps, PER_PAGE).get_page(number)
    return page, [_row(step, site) for step in page]


def _row(step: dict[str, Any], site: str) -> StepRow:
    failed = step["error_text"] is not None
    show = cells.failure if failed else cells.payload
    return StepRow(
        number=step["number"],
        name=step["name"],
        attempts=step["attempts"],
        started=cells.moment(step["started_at"]),
        duration=_took(step["started_at"], step["completed_at"]),
        result=show(step["error_text"] if failed else step["output_text"], step["serializer"], _PREVIEW),
        failed=failed,
        child=cells.workflow_link(step["child_id"], site),
        executor=cells.short_id(step["executor_id"]) if step["executor_id"] else cells.EMPTY,
    )


def _took(started: datetime | None, completed: datetime | None) -> str:
    # A recorded step is over: without its end there is no duration, and it does not grow.
    return cells.duration(started, completed) if completed else cells.EMPTY
