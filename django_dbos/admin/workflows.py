"""Workflows: the list, the page of one, its steps."""

from typing import Any, Final

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..models import Workflow
from . import cells
from .base import COUNTED
from .filters import MomentRangeFilter, NameFilter, QueueFilter
from .operations import OperationsAdmin
from .steps import steps_page
from .verbs import VERBS

#: The payloads are never read whole: an output may be as big as memory.
PAYLOADS: Final = ("inputs", "output", "error")
#: What is longer cannot be laid out anyway. See serialization.preview().
_READ: Final = 64 * cells.PREVIEW + 1
#: How many children or forks are named.
_RELATIVES: Final = 50


@admin.register(Workflow)
class WorkflowAdmin(OperationsAdmin):
    """Workflows: what they are doing, what they were given, what came out."""

    change_form_template = "admin/dbos/workflow/change_form.html"
    change_list_template = "admin/dbos/workflow/change_list.html"
    list_display = ("pill", "name", "short_id", "queue", "created", "took", "attempts", "executor")
    list_display_links = ("name", "short_id")
    # Only the newest-first index serves an order over a big table.
    sortable_by = ("created",)
    # Makes the box appear; get_search_results() does the search.
    search_fields = ("id__startswith",)
    search_help_text = gettext_lazy("An id, or how it begins")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("pill", "attempts", "queue"),
                    ("created", "started", "completed", "took"),
                    "id",
                    "name",
                    "executor_id",
                )
            },
        ),
        (gettext_lazy("Data"), {"fields": ("shown_inputs", "shown_output", "shown_error")}),
        (gettext_lazy("Relatives"), {"fields": ("parent_link", "children_links", "origin_link", "forks_links")}),
        (
            gettext_lazy("Queue and time limits"),
            {
                "classes": ("collapse",),
                "fields": (
                    ("priority", "partition_key", "deduplication_id"),
                    ("delay_until", "timeout", "deadline"),
                    ("is_debounced", "debounce_deadline", "schedule_name"),
                ),
            },
        ),
        (
            gettext_lazy("Code and caller"),
            {
                "classes": ("collapse",),
                "fields": (
                    ("application_name", "application_version", "epoch"),
                    ("class_name", "instance_name", "serializer"),
                    ("authenticated_user", "authenticated_roles", "assumed_role"),
                    "attributes",
                ),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workflow]:
        """Workflows without their payloads."""
        return super().get_queryset(request).defer(*PAYLOADS)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Workflow | None:
        """One workflow, with the begin of each payload as ``<column>_text``."""
        texts: dict[str, Any] = {f"{column}_text": Left(column, _READ) for column in PAYLOADS}
        if "\0" in object_id:  # PostgreSQL refuses the query
            return None
        return self.get_queryset(request).annotate(**texts).filter(pk=object_id).first()

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        """The filters; without the app ``rangefilter`` (check dbos.E004) those on time have no template."""
        ranges = [("created_at", MomentRangeFilter), ("completed_at", MomentRangeFilter)]
        return ["status", NameFilter, QueueFilter, *(ranges if apps.is_installed("rangefilter") else [])]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Workflow], search_term: str
    ) -> tuple[QuerySet[Workflow], bool]:
        """By id or its begin, as one term: the primary key's index answers."""
        term = search_term.strip()
        return (queryset.filter(pk__startswith=term) if term else queryset), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list."""
        return super().changelist_view(request, {"counted": COUNTED, **(extra_context or {})})

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Workflow | None = None,
    ) -> HttpResponse:
        """The page of one workflow, with its steps and what may be done to it."""
        if obj is not None:
            page, rows = steps_page(obj.pk, request.GET.get("steps"), self.admin_site.name)
            context |= {"steps_page": page, "steps": rows, "tools": self._tools(request, obj)}
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _tools(self, request: HttpRequest, workflow: Workflow) -> list[dict[str, Any]]:
        return [
            {
                "verb": verb,
                "url": f"admin:dbos_workflow_{verb.name}",
                "object_id": quote(workflow.pk),
                "obstacle": "" if verb.is_allowed(workflow.status) else verb.obstacle,
            }
            for verb in VERBS.values()
            if self.may(request, verb)
        ]

    @admin.display(description=gettext_lazy("status"))
    def pill(self, workflow: Workflow) -> str:
        """The status."""
        return cells.pill(workflow.status, workflow.get_status_display())

    @admin.display(description=gettext_lazy("id"))
    def short_id(self, workflow: Workflow) -> str:
        """The id, cut."""
        return cells.short_id(workflow.pk)

    @admin.display(description=gettext_lazy("queue"))
    def queue(self, workflow: Workflow) -> str:
        """The queue and, if there is one, the partition."""
        return " / ".join(part for part in (workflow.queue_name, workflow.partition_key) if part) or cells.EMPTY

    @admin.display(description=gettext_lazy("created"), ordering="created_at")
    def created(self, workflow: Workflow) -> str:
        """When it was asked for."""
        return cells.moment(workflow.created_at)

    @admin.display(description=gettext_lazy("started"))
    def started(self, workflow: Workflow) -> str:
        """When it was claimed first."""
        return cells.moment(workflow.started_at)

    @admin.display(description=gettext_lazy("completed"))
    def completed(self, workflow: Workflow) -> str:
        """When it ended."""
        return cells.moment(workflow.completed_at)

    @admin.display(description=gettext_lazy("duration"))
    def took(self, workflow: Workflow) -> str:
        """From its start to its end, or to now."""
        return cells.duration(workflow.started_at, workflow.completed_at)

    @admin.display(description=gettext_lazy("executor"))
    def executor(self, workflow: Workflow) -> str:
        """The process that has or had it, cut."""
        return cells.short_id(workflow.executor_id) if workflow.executor_id else cells.EMPTY

    @admin.display(description=gettext_lazy("inputs"))
    def shown_inputs(self, workflow: Any) -> str:
        """The arguments."""
        return cells.payload(workflow.inputs_text, workflow.serializer)

    @admin.display(description=gettext_lazy("output"))
    def shown_output(self, workflow: Any) -> str:
        """The result."""
        return cells.payload(workflow.output_text, workflow.serializer)

    @admin.display(description=gettext_lazy("error"))
    def shown_error(self, workflow: Any) -> str:
        """The error, its traceback folded."""
        return cells.failure(workflow.error_text, workflow.serializer)

    @admin.display(description=gettext_lazy("parent"))
    def parent_link(self, workflow: Workflow) -> str:
        """The workflow that started it."""
        return cells.workflow_link(workflow.parent_id or "", self.admin_site.name)

    @admin.display(description=gettext_lazy("children"))
    def children_links(self, workflow: Workflow) -> str:
        """The workflows that it started."""
        return self._links(Workflow.objects.filter(parent_id=workflow.pk))

    @admin.display(description=gettext_lazy("forked from"))
    def origin_link(self, workflow: Workflow) -> str:
        """The workflow of which it is a copy."""
        return cells.workflow_link(workflow.forked_from_id or "", self.admin_site.name)

    @admin.display(description=gettext_lazy("forks"))
    def forks_links(self, workflow: Workflow) -> str:
        """The copies that were made of it."""
        return self._links(Workflow.objects.filter(forked_from_id=workflow.pk))

    def _links(self, relatives: QuerySet[Workflow]) -> str:
        """One line for each, oldest first, and how many more there are."""
        rows = list(relatives.order_by("created_at", "pk").only("name", "status")[: _RELATIVES + 1])
        lines = [(self._link(row), cells.pill(row.status, row.get_status_display())) for row in rows[:_RELATIVES]]
        more = _("and more") if len(rows) > _RELATIVES else ""
        if not lines:
            return cells.EMPTY
        return format_html_join(
            "\n", '<div class="dbos-relative">{} {}</div>', [*lines, *([(more, "")] if more else [])]
        )

    def _link(self, workflow: Workflow) -> str:
        return cells.workflow_link(workflow.pk, self.admin_site.name, workflow.name)
