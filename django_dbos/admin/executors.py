"""Executors: the processes that run workflows."""

from django.contrib import admin
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..models import Executor
from . import cells
from .base import ReadOnlyAdmin


@admin.register(Executor)
class ExecutorAdmin(ReadOnlyAdmin):
    """Executors: where they run, what they serve, when they were last heard of."""

    list_display = ("id", "pill", "host", "pid", "version", "served", "started", "heard")
    sortable_by = ()
    list_filter = ("state",)
    fields = ("id", "pill", "host", "pid", "version", "served", "started", "heard")

    @admin.display(description=gettext_lazy("state"))
    def pill(self, executor: Executor) -> str:
        """The state."""
        return cells.pill(executor.state, executor.get_state_display())

    @admin.display(description=gettext_lazy("version"))
    def version(self, executor: Executor) -> str:
        """The application's version; most projects have none."""
        return executor.application_version or cells.EMPTY

    @admin.display(description=gettext_lazy("queues"))
    def served(self, executor: Executor) -> str:
        """The queues that it listens to."""
        return ", ".join(executor.queues) or cells.EMPTY

    @admin.display(description=gettext_lazy("started"))
    def started(self, executor: Executor) -> str:
        """When the process started."""
        return cells.moment(executor.started_at)

    @admin.display(description=gettext_lazy("heartbeat"))
    def heard(self, executor: Executor) -> str:
        """How long ago it said that it is alive."""
        return _("%s ago") % cells.duration_text(timezone.now() - executor.heartbeat_at)
