"""Schedules: what starts by the clock."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from ..models import Schedule
from . import cells
from .base import ReadOnlyAdmin


@admin.register(Schedule)
class ScheduleAdmin(ReadOnlyAdmin):
    """Schedules that a worker has written down."""

    list_display = ("name", "workflow_name", "cron", "timezone", "mode", "pill", "fired")
    list_filter = ("status",)
    fields = ("name", "workflow_name", "cron", "timezone", "mode", "queue", "pill", "fired", "shown_context")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        """Schedules; the context is read on the page of one only."""
        return super().get_queryset(request).defer("context")

    @admin.display(description=gettext_lazy("status"))
    def pill(self, schedule: Schedule) -> str:
        """The status."""
        return cells.pill(schedule.status, schedule.get_status_display())

    @admin.display(description=gettext_lazy("last fired"), ordering="last_fired_at")
    def fired(self, schedule: Schedule) -> str:
        """The last tick that started a workflow."""
        return cells.moment(schedule.last_fired_at)

    @admin.display(description=gettext_lazy("queue"))
    def queue(self, schedule: Schedule) -> str:
        """Where its workflows wait."""
        return schedule.queue_name or cells.EMPTY

    @admin.display(description=gettext_lazy("context"))
    def shown_context(self, schedule: Schedule) -> str:
        """What its workflows are given beside the time."""
        return cells.payload(schedule.context, schedule.serializer)
