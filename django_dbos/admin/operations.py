"""Cancel, resume and fork, from the list and from a workflow's page: permission, confirm page, deed, LogEntry."""

from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, Literal

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.models import LogEntry
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.widgets import AdminTextInputWidget
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import Count, Max, QuerySet
from django.db.transaction import atomic
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..conf import conf
from ..exceptions import NonExistentWorkflow
from ..models import Step, Workflow
from ..states import WorkflowStatus
from .base import ReadOnlyAdmin
from .verbs import CANCEL, FORK, RESUME, VERBS, Verb

#: What one request can do: each workflow is a transaction of its own, and the browser waits.
LIMIT: Final = 5_000
#: How many workflows the confirm page names.
_SAMPLE: Final = 10

Outcome = Literal["done", "refused", "gone"]


class ConfirmForm(forms.Form):
    """What is asked before anything is done."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=500,
        widget=AdminTextInputWidget,
        help_text=gettext_lazy("Optional; it is kept in the history of each workflow."),
    )


class ForkForm(ConfirmForm):
    """What is asked before a fork."""

    start_step = forms.IntegerField(
        label=gettext_lazy("First step to run again"),
        min_value=1,
        initial=1,
        help_text=gettext_lazy("1: all of them."),
    )
    field_order = ("start_step", "reason")


class OperationsAdmin(ReadOnlyAdmin):
    """The verbs, each with a permission of its own (``dbos.cancel_workflow``, ...)."""

    actions = ("cancel_workflows", "resume_workflows", "fork_workflows")
    confirm_template = "admin/dbos/workflow/confirm.html"

    def has_cancel_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        """dbos.cancel_workflow"""
        return self.may(request, CANCEL)

    def has_resume_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        """dbos.resume_workflow"""
        return self.may(request, RESUME)

    def has_fork_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        """dbos.fork_workflow"""
        return self.may(request, FORK)

    def may(self, request: HttpRequest, verb: Verb) -> bool:
        """Whether the user holds the permission of a verb."""
        codename = get_permission_codename(verb.name, self.opts)
        return request.user.has_perm(f"{self.opts.app_label}.{codename}")

    # From the list.

    @admin.action(permissions=["cancel"], description=gettext_lazy("Cancel the selected workflows"))
    def cancel_workflows(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> HttpResponse | None:
        """Stop them at their next step."""
        return self._operate_on_many(request, queryset, CANCEL)

    @admin.action(permissions=["resume"], description=gettext_lazy("Resume the selected workflows"))
    def resume_workflows(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> HttpResponse | None:
        """Let them go on after their last finished step."""
        return self._operate_on_many(request, queryset, RESUME)

    @admin.action(permissions=["fork"], description=gettext_lazy("Fork the selected workflows from the start"))
    def fork_workflows(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> HttpResponse | None:
        """Run a copy of each, from the first step."""
        return self._operate_on_many(request, queryset, FORK)

    def _operate_on_many(self, request: HttpRequest, queryset: QuerySet[Workflow], verb: Verb) -> HttpResponse | None:
        if queryset.order_by()[: LIMIT + 1].count() > LIMIT:
            text = _("More than %d workflows are selected: narrow the filters, and take them in parts.") % LIMIT
            self.message_user(request, text, messages.ERROR)
            return None
        form = ConfirmForm(request.POST if "confirm" in request.POST else None)
        if not form.is_valid():
            return self._confirm(request, verb, form, queryset, self._action_fields(request))
        # The ids are read before the first deed: a fork may itself match the filter.
        ids = list(queryset.order_by("created_at", "pk").values_list("pk", flat=True))
        outcomes = Counter(self._perform(request, verb, each, form.cleaned_data)[0] for each in ids)
        self._report(request, verb, outcomes)
        return None

    def _action_fields(self, request: HttpRequest) -> list[tuple[str, str]]:
        """What the confirm page posts back. "All of the list" is the filter in the address, not a list of ids."""
        across = request.POST.get("select_across", "0")
        selected = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)
        return [
            ("action", request.POST.get("action", "")),
            ("select_across", across),
            *((helpers.ACTION_CHECKBOX_NAME, each) for each in (selected[:1] if across == "1" else selected)),
        ]

    def _report(self, request: HttpRequest, verb: Verb, outcomes: Counter[Outcome]) -> None:
        refused, gone = outcomes["refused"], outcomes["gone"]
        parts = [str(verb.done % outcomes["done"])]
        if refused:
            text = ngettext("%d was left as it is.", "%d were left as they are.", refused) % refused
            parts.append(f"{text} {verb.obstacle}")
        if gone:
            parts.append(ngettext("%d no longer exists.", "%d no longer exist.", gone) % gone)
        self.message_user(request, " ".join(parts), messages.SUCCESS if outcomes["done"] else messages.WARNING)

    # From a workflow's page.

    def get_urls(self) -> list[URLPattern]:
        """One address for each verb, before the admin's own, of which one matches anything."""
        urls = [
            path(
                f"<path:object_id>/{verb.name}/",
                self.admin_site.admin_view(partial(self._operate_on_one, verb=verb)),
                name=f"dbos_workflow_{verb.name}",
            )
            for verb in VERBS.values()
        ]
        return [*urls, *super().get_urls()]

    def _operate_on_one(self, request: HttpRequest, object_id: str, *, verb: Verb) -> HttpResponseBase:
        if not (self.has_view_permission(request) and self.may(request, verb)):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        workflow_id = unquote(object_id)
        if self.get_object(request, workflow_id) is None:
            raise Http404(_("There is no workflow with the id %s.") % workflow_id)
        form = self._form_for_one(request, verb, workflow_id)
        if not form.is_valid():
            rows = self.get_queryset(request).filter(pk=workflow_id)
            return self._confirm(request, verb, form, rows, [], workflow_id)
        return self._perform_one(request, verb, workflow_id, form.cleaned_data)

    def _form_for_one(self, request: HttpRequest, verb: Verb, workflow_id: str) -> ConfirmForm:
        data = request.POST if "confirm" in request.POST else None
        if not verb.has_start_step:
            return ConfirmForm(data)
        last = Step.objects.filter(workflow_id=workflow_id).aggregate(last=Max("number"))["last"] or 0
        form = ForkForm(data, initial={"start_step": request.POST.get("start_step", 1)})
        form.fields["start_step"] = forms.IntegerField(
            label=form.fields["start_step"].label,
            min_value=1,
            max_value=last + 1,
            help_text=_("1: all of them. The last recorded step is %d.") % last,
        )
        return form

    def _perform_one(
        self, request: HttpRequest, verb: Verb, workflow_id: str, answers: dict[str, Any]
    ) -> HttpResponseRedirect:
        outcome, new_id = self._perform(request, verb, workflow_id, answers)
        self._report(request, verb, Counter([outcome]))
        return HttpResponseRedirect(self._page(request, new_id or workflow_id))

    def _page(self, request: HttpRequest, workflow_id: str) -> str:
        url = reverse("admin:dbos_workflow_change", args=[quote(workflow_id)], current_app=self.admin_site.name)
        kept: dict[str, Any] = {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts}
        return str(add_preserved_filters(kept, url))

    # Both.

    def _perform(
        self, request: HttpRequest, verb: Verb, workflow_id: str, answers: dict[str, Any]
    ) -> tuple[Outcome, str]:
        """Do it to one workflow and note it in its history, in one commit; what stops one stops no other."""
        start_step = answers.get("start_step", 1)
        try:
            with _transactions():
                # Locked, so that the status that the history names is the one that was changed.
                workflow = Workflow.objects.select_for_update().only("name", "status").get(pk=workflow_id)
                new_id = verb.apply(workflow_id, start_step)
                if new_id is None:
                    return "refused", ""
                text = verb.log_message(
                    new_id=new_id, start_step=start_step, status=workflow.status, reason=answers["reason"]
                )
                self.log_change(request, workflow, text)
                return "done", new_id
        except (Workflow.DoesNotExist, NonExistentWorkflow):
            return "gone", ""

    def _confirm(
        self,
        request: HttpRequest,
        verb: Verb,
        form: ConfirmForm,
        queryset: QuerySet[Workflow],
        hidden: list[tuple[str, str]],
        workflow_id: str = "",
    ) -> TemplateResponse:
        statuses = queryset.order_by().values("status").annotate(number=Count("pk")).values_list("status", "number")
        number = sum(each for _status, each in statuses)
        context = {
            **self.admin_site.each_context(request),
            "title": verb.question % number,
            "opts": self.opts,
            "media": self.media,
            "verb": verb,
            "form": form,
            "hidden": hidden,
            "number": number,
            "blocked": sum(each for status, each in statuses if not verb.is_allowed(status)),
            "statuses": [(WorkflowStatus(status).label, status, each) for status, each in statuses],
            "sample": queryset.only("name", "status")[:_SAMPLE],
            "unnamed": max(number - _SAMPLE, 0),
            "back": self._page(request, workflow_id) if workflow_id else request.get_full_path(),
        }
        # Links on the page must lead to this site if there are several.
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.confirm_template, context)


def _transactions() -> ExitStack:
    """One on the system database, and one on the database of the admin's log if that is another."""
    stack = ExitStack()
    for alias in dict.fromkeys([conf.DATABASE, router.db_for_write(LogEntry)]):
        stack.enter_context(atomic(using=alias))
    return stack
