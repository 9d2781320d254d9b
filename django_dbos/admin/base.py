"""What every page of the console has in common: it shows, it never edits, and it stays fast on a big table."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.functional import cached_property

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _Paginator = Paginator[Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _Paginator = Paginator

#: A list counts and pages this many rows; older ones are reached with a filter.
COUNTED = 10_000


class CappedPaginator(_Paginator):
    """Counts up to one more than ``COUNTED``: counting millions of rows would take longer than showing fifty."""

    @cached_property
    def count(self) -> int:
        """The number of rows, or ``COUNTED + 1`` for more than that."""
        rows: Any = self.object_list
        return int(rows.order_by()[: COUNTED + 1].count())


class ReadOnlyAdmin(_ModelAdmin):
    """Rows that are looked at: nobody adds, edits or deletes them here, superusers included."""

    list_per_page = 50
    show_full_result_count = False
    # Facets count the whole table once for each choice of each filter.
    show_facets = admin.ShowFacets.NEVER
    paginator = CappedPaginator

    class Media:
        css = {"all": ("dbos/admin.css",)}

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows are written by code."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """State changes are verbs with a guard, never a form over columns."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The ORM's cascade would load every step of every row."""
        return False
