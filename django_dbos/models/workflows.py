"""Workflows and their steps."""

from typing import Any

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from .. import serialization
from ..exceptions import DeserializationError
from ..states import ACTIVE, FINISHED, WorkflowStatus
from .base import SystemManager, SystemQuerySet


def _decoded(text: str | None, serializer: str) -> Any:
    """A payload; the text itself if it cannot be read here."""
    try:
        return serialization.loads(text, serializer)
    except DeserializationError:
        return text


def _decoded_error(text: str | None, serializer: str) -> BaseException | None:
    return None if text is None else serialization.load_error(text, serializer)


_FAILED = (WorkflowStatus.ERROR, WorkflowStatus.CANCELLED, WorkflowStatus.MAX_RECOVERY_ATTEMPTS_EXCEEDED)


class WorkflowQuerySet(SystemQuerySet["Workflow"]):
    """What one asks about workflows."""

    def pending(self) -> "WorkflowQuerySet":
        """Owned by an executor that runs it, or waits in it."""
        return self.filter(status=WorkflowStatus.PENDING)

    def enqueued(self) -> "WorkflowQuerySet":
        """Waiting for a worker."""
        return self.filter(status=WorkflowStatus.ENQUEUED)

    def active(self) -> "WorkflowQuerySet":
        """Neither finished nor given up."""
        return self.filter(status__in=ACTIVE)

    def finished(self) -> "WorkflowQuerySet":
        """Ended, one way or another."""
        return self.filter(status__in=FINISHED)

    def succeeded(self) -> "WorkflowQuerySet":
        """Ended with a result."""
        return self.filter(status=WorkflowStatus.SUCCESS)

    def failed(self) -> "WorkflowQuerySet":
        """Ended with an error, cancelled, or recovered too often."""
        return self.filter(status__in=_FAILED)

    def named(self, name: str) -> "WorkflowQuerySet":
        """Runs of one function."""
        return self.filter(name=name)

    def in_queue(self, name: str) -> "WorkflowQuerySet":
        """Enqueued on this queue, whatever became of it."""
        return self.filter(queue_name=name)

    def owned_by(self, executor_id: str) -> "WorkflowQuerySet":
        """Last claimed by this executor."""
        return self.filter(executor_id=executor_id)


class Workflow(models.Model):
    """One execution of a workflow function: what was asked, where it stands, what came out."""

    id = models.CharField(_("id"), primary_key=True, max_length=255)
    name = models.CharField(_("name"), max_length=255)
    class_name = models.CharField(_("class"), max_length=255, blank=True, default="", db_default="")
    instance_name = models.CharField(_("instance"), max_length=255, blank=True, default="", db_default="")
    status = models.CharField(_("status"), max_length=32, choices=WorkflowStatus.choices)
    inputs = models.TextField(_("inputs"), blank=True, default="", db_default="")
    output = models.TextField(_("output"), null=True, blank=True)  # noqa: DJ001 - NULL: no result yet
    error = models.TextField(_("error"), null=True, blank=True)  # noqa: DJ001 - NULL: no error
    serializer = models.CharField(_("serializer"), max_length=255, default="json", db_default="json")

    queue_name = models.CharField(_("queue"), max_length=255, blank=True, default="", db_default="")
    priority = models.IntegerField(_("priority"), default=0, db_default=0)
    deduplication_id = models.CharField(_("deduplication id"), max_length=255, blank=True, default="", db_default="")
    partition_key = models.CharField(_("partition key"), max_length=255, blank=True, default="", db_default="")
    delay_until = models.DateTimeField(_("delayed until"), null=True, blank=True)

    executor_id = models.CharField(_("executor"), max_length=255, blank=True, default="", db_default="")
    epoch = models.IntegerField(_("epoch"), default=0, db_default=0)
    attempts = models.IntegerField(_("attempts"), default=0, db_default=0)
    application_version = models.CharField(_("version"), max_length=255, blank=True, default="", db_default="")
    application_name = models.CharField(_("application"), max_length=255, blank=True, default="", db_default="")

    timeout = models.FloatField(_("timeout"), null=True, blank=True, help_text=_("Seconds from start to close."))
    deadline = models.DateTimeField(_("deadline"), null=True, blank=True)

    parent = models.ForeignKey(
        "self",
        models.DO_NOTHING,
        verbose_name=_("parent"),
        related_name="children",
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
    )
    forked_from = models.ForeignKey(
        "self",
        models.DO_NOTHING,
        verbose_name=_("forked from"),
        related_name="forks",
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
    )
    schedule_name = models.CharField(_("schedule"), max_length=255, blank=True, default="", db_default="")

    authenticated_user = models.CharField(_("user"), max_length=255, blank=True, default="", db_default="")
    authenticated_roles = models.JSONField(_("roles"), blank=True, default=list, db_default=[])
    assumed_role = models.CharField(_("assumed role"), max_length=255, blank=True, default="", db_default="")
    attributes = models.JSONField(_("attributes"), blank=True, default=dict, db_default={})

    is_debounced = models.BooleanField(_("debounced"), default=False, db_default=False)
    debounce_deadline = models.DateTimeField(_("debounce deadline"), null=True, blank=True)

    #: Whether a process somewhere wants to be told at once what becomes of this workflow.
    is_awaited = models.BooleanField(_("awaited"), default=False, db_default=False)

    created_at = models.DateTimeField(_("created"), db_default=Now())
    updated_at = models.DateTimeField(_("updated"), db_default=Now())
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    completed_at = models.DateTimeField(_("completed"), null=True, blank=True)

    objects = SystemManager.from_queryset(WorkflowQuerySet)()

    class Meta:
        verbose_name = _("workflow")
        verbose_name_plural = _("workflows")
        ordering = ("-created_at", "-id")
        permissions = (
            ("cancel_workflow", _("Can cancel workflow")),
            ("resume_workflow", _("Can resume workflow")),
            ("fork_workflow", _("Can fork workflow")),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("queue_name", "deduplication_id"),
                condition=~Q(deduplication_id=""),
                name="dbos_workflow_deduplicated",
            ),
        )
        indexes = (
            models.Index(
                fields=("queue_name", "priority", "created_at", "id"),
                condition=Q(status=WorkflowStatus.ENQUEUED),
                name="dbos_workflow_to_claim",
            ),
            models.Index(
                fields=("queue_name", "executor_id"),
                condition=Q(status=WorkflowStatus.PENDING),
                name="dbos_workflow_pending",
            ),
            models.Index(
                fields=("delay_until",),
                condition=Q(status=WorkflowStatus.DELAYED),
                name="dbos_workflow_to_ripen",
            ),
            models.Index(
                fields=("deadline",),
                condition=Q(status__in=sorted(ACTIVE), deadline__isnull=False),
                name="dbos_workflow_overdue",
            ),
            models.Index(F("created_at").desc(), F("id").desc(), name="dbos_workflow_newest"),
            models.Index("name", F("created_at").desc(), name="dbos_workflow_newest_of_name"),
            models.Index(
                fields=("completed_at",), condition=Q(completed_at__isnull=False), name="dbos_workflow_to_prune"
            ),
            models.Index(
                "status", F("created_at").desc(), condition=Q(status__in=sorted(_FAILED)), name="dbos_workflow_failed"
            ),
            models.Index(fields=("parent",), condition=Q(parent__isnull=False), name="dbos_workflow_children"),
            models.Index(fields=("forked_from",), condition=Q(forked_from__isnull=False), name="dbos_workflow_forks"),
            models.Index(
                fields=("schedule_name", "created_at"), condition=~Q(schedule_name=""), name="dbos_workflow_of_schedule"
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.id}"

    @property
    def is_finished(self) -> bool:
        """Whether the workflow has ended, one way or another."""
        return self.status in FINISHED

    @property
    def call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments: (args, kwargs). If they cannot be read here: the text that is stored, as the only one."""
        if not self.inputs:
            return (), {}
        try:
            return serialization.load_call(self.inputs, self.serializer)
        except DeserializationError:
            return (self.inputs,), {}

    @property
    def result(self) -> Any:
        """What the workflow returned, None without a result. If it cannot be read here: the text that is stored."""
        return _decoded(self.output, self.serializer)

    @property
    def exception(self) -> BaseException | None:
        """The error with which the workflow ended, if it did. What cannot be rebuilt here is a RecordedError."""
        return _decoded_error(self.error, self.serializer)


class Step(models.Model):
    """The checkpoint of one finished operation of a workflow."""

    pk = models.CompositePrimaryKey("workflow_id", "number")
    workflow = models.ForeignKey(
        Workflow, models.CASCADE, verbose_name=_("workflow"), related_name="steps", db_constraint=False, db_index=False
    )
    number = models.PositiveIntegerField(_("number"))
    name = models.CharField(_("name"), max_length=255)
    output = models.TextField(_("output"), null=True, blank=True)  # noqa: DJ001 - NULL: it ended with an error
    error = models.TextField(_("error"), null=True, blank=True)  # noqa: DJ001 - NULL: it ended with a result
    serializer = models.CharField(_("serializer"), max_length=255, default="json", db_default="json")
    child_id = models.CharField(_("child"), max_length=255, blank=True, default="", db_default="")
    attempts = models.PositiveIntegerField(_("attempts"), default=1, db_default=1)
    executor_id = models.CharField(_("executor"), max_length=255, blank=True, default="", db_default="")
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    completed_at = models.DateTimeField(_("completed"), null=True, blank=True)

    objects = SystemManager["Step"]()

    class Meta:
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        ordering = ("workflow_id", "number")

    def __str__(self) -> str:
        return f"{self.number} {self.name}"

    @property
    def result(self) -> Any:
        """What the step returned, None without a result. If it cannot be read here: the text that is stored."""
        return _decoded(self.output, self.serializer)

    @property
    def exception(self) -> BaseException | None:
        """The error with which the step ended, if it did. What cannot be rebuilt here is a RecordedError."""
        return _decoded_error(self.error, self.serializer)
