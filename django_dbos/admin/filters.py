"""The list's filters. None of them looks for its choices in the big table."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.forms import BaseForm
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from rangefilter.filters import DateTimeRangeFilter

from ..models import Queue, Workflow
from ..queues import declared_queues
from ..registry import TEMPORARY, workflow_registry


class _KnownValueFilter(admin.SimpleListFilter):
    """A column's value, out of those the code knows; a value in the address counts even if it is not among them."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """The known values and the one in the address."""
        current = self.used_parameters.get(self.parameter_name or "")
        values = {*self.known(), *([str(current)] if current else [])}
        return [(value, value) for value in sorted(values)]

    def known(self) -> Iterable[str]:
        """What to offer."""
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> QuerySet[Workflow]:
        """Rows with exactly this value."""
        value = self.value()
        return queryset.filter(**{str(self.parameter_name): value}) if value else queryset


class NameFilter(_KnownValueFilter):
    """Workflows of one name; the names are those of the code."""

    title = _("name")
    parameter_name = "name"

    def known(self) -> Iterable[str]:
        """See _KnownValueFilter.known()."""
        # Those that are made for steps would be as many again; they are found by what is in the address.
        return [name for name in workflow_registry.names() if not name.startswith(TEMPORARY)]


class QueueFilter(_KnownValueFilter):
    """Workflows of one queue; the queues are those of the code and those that a worker has written down."""

    title = _("queue")
    parameter_name = "queue_name"

    def known(self) -> Iterable[str]:
        """See _KnownValueFilter.known()."""
        return {*declared_queues(), *Queue.objects.values_list("name", flat=True)}


class MomentRangeFilter(DateTimeRangeFilter):  # type: ignore[misc]
    """From one time to another. A date alone is enough; what cannot be read finds nothing, and says so.

    The parent ignores a form with an error, and an action on "all" of the list would touch rows that the operator
    thought were filtered out.
    """

    def get_form(self, request: HttpRequest) -> BaseForm:
        """The form, with the time filled in where only the date was given."""
        for bound, time in ((self.lookup_kwarg_gte, "00:00:00"), (self.lookup_kwarg_lte, "23:59:59.999999")):
            if self._given(f"{bound}_0") and not self._given(f"{bound}_1"):
                self.used_parameters[f"{bound}_1"] = time
        form: BaseForm = super().get_form(request)
        return form

    def queryset(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> QuerySet[Workflow]:
        """Rows within the range."""
        if self.form.is_bound and not self.form.is_valid():
            return queryset.none()
        rows: QuerySet[Workflow] = super().queryset(request, queryset)
        return rows

    def _given(self, name: str) -> str:
        value = self.used_parameters.get(name, "")
        return str(value[-1] if isinstance(value, list) and value else value or "")
