"""Schedules as rows: declare them, fire a tick."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.db.models.functions import Now

from ..conf import conf
from ..models import Schedule
from . import vendor
from .workflows import Submission, submit


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A schedule as the code declares it."""

    name: str
    workflow_name: str
    cron: str
    timezone: str
    mode: str
    queue_name: str


def declare(declarations: Sequence[Declaration]) -> None:
    """Write down what the code declares. A changed cron or zone resets the cursor: an edit never back-fires."""
    for declaration in declarations:
        row, is_new = Schedule.objects.get_or_create(
            name=declaration.name,
            defaults={
                "workflow_name": declaration.workflow_name,
                "cron": declaration.cron,
                "timezone": declaration.timezone,
                "mode": declaration.mode,
                "queue_name": declaration.queue_name,
            },
        )
        if not is_new:
            _update(row, declaration)


def _update(row: Schedule, declaration: Declaration) -> None:
    if (row.cron, row.timezone) != (declaration.cron, declaration.timezone):
        row.last_fired_at = None
    row.workflow_name = declaration.workflow_name
    row.cron, row.timezone = declaration.cron, declaration.timezone
    row.mode, row.queue_name = declaration.mode, declaration.queue_name
    row.save()


def active() -> tuple[list[Schedule], datetime | None]:
    """Every schedule that fires, and the database's time if there are any."""
    rows: list[Any] = list(Schedule.objects.filter(status="ACTIVE").annotate(read_at=Now()))
    return rows, rows[0].read_at if rows else None


def tick_id(name: str, scheduled_at: datetime) -> str:
    """The id of the workflow that a tick starts: the primary key makes it one, however many workers tick."""
    return f"sched-{name}-{scheduled_at:%Y-%m-%dT%H:%M:%SZ}"


def fire(schedule: Schedule, scheduled_at: datetime, *, inputs: str, serializer: str) -> bool:
    """Enqueue the run of one tick and move the cursor, in one commit. False: another worker was first."""
    with vendor.transaction():
        is_new = submit(
            Submission(
                id=tick_id(schedule.name, scheduled_at),
                name=schedule.workflow_name,
                inputs=inputs,
                serializer=serializer,
                queue_name=schedule.queue_name,
                schedule_name=schedule.name,
                application_name=conf.APPLICATION_NAME,
            )
        )
        if is_new:
            older = Q(last_fired_at__isnull=True) | Q(last_fired_at__lt=scheduled_at)
            # Zero rows: a later tick has been fired already; the cursor never goes back.
            Schedule.objects.filter(older, name=schedule.name, cron=schedule.cron, timezone=schedule.timezone).update(
                last_fired_at=scheduled_at
            )
    return is_new
