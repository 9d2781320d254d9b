"""Queues: the limits in force, and whether they are paused."""

from typing import Any

from django.contrib import admin
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..models import Queue
from . import cells
from .base import ReadOnlyAdmin


def _words(limits: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(limits.items()) if value is not None) or cells.EMPTY


@admin.register(Queue)
class QueueAdmin(ReadOnlyAdmin):
    """Queues that a worker has written down."""

    list_display = ("name", "limits_in_force", "pill", "updated")
    fields = ("name", "limits_in_force", "declared_limits", "overridden_limits", "pill", "created", "updated")

    @admin.display(description=gettext_lazy("state"))
    def pill(self, queue: Queue) -> str:
        """Whether workers take from it. The tick and the cross of a boolean would say the opposite of good and bad."""
        return cells.pill("paused", _("Paused")) if queue.is_paused else cells.pill("active", _("Active"))

    @admin.display(description=gettext_lazy("limits in force"))
    def limits_in_force(self, queue: Queue) -> str:
        """What the code declares, with an operator's overrides on top."""
        return _words(queue.limits)

    @admin.display(description=gettext_lazy("declared limits"))
    def declared_limits(self, queue: Queue) -> str:
        """What the code declares."""
        return _words(queue.declared)

    @admin.display(description=gettext_lazy("overrides"))
    def overridden_limits(self, queue: Queue) -> str:
        """What an operator has put in its place."""
        return _words(queue.overrides)

    @admin.display(description=gettext_lazy("created"))
    def created(self, queue: Queue) -> str:
        """When it was first written down."""
        return cells.moment(queue.created_at)

    @admin.display(description=gettext_lazy("updated"))
    def updated(self, queue: Queue) -> str:
        """When its limits last changed."""
        return cells.moment(queue.updated_at)
