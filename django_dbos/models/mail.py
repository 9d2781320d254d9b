"""What workflows say: messages to them, events and streams from them."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from .base import SystemManager
from .workflows import Workflow


class Message(models.Model):
    """Something sent to a workflow, until (and after) one of its steps consumes it."""

    id = models.CharField(_("id"), primary_key=True, max_length=255)
    destination = models.ForeignKey(
        Workflow,
        models.CASCADE,
        verbose_name=_("destination"),
        related_name="messages",
        db_constraint=False,
        db_index=False,
    )
    topic = models.CharField(_("topic"), max_length=255, blank=True, default="", db_default="")
    payload = models.TextField(_("payload"))
    serializer = models.CharField(_("serializer"), max_length=255, default="json", db_default="json")
    idempotency_key = models.CharField(_("idempotency key"), max_length=255, blank=True, default="", db_default="")
    created_at = models.DateTimeField(_("created"), db_default=Now())
    consumed_by_step = models.PositiveIntegerField(_("consumed by step"), null=True, blank=True)

    objects = SystemManager["Message"]()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ("created_at", "id")
        constraints = (
            models.UniqueConstraint(
                fields=("destination", "idempotency_key"),
                condition=~Q(idempotency_key=""),
                name="dbos_message_idempotent",
            ),
        )
        indexes = (
            models.Index(
                fields=("destination", "topic", "created_at", "id"),
                condition=Q(consumed_by_step__isnull=True),
                name="dbos_message_to_receive",
            ),
            models.Index(fields=("destination", "created_at"), name="dbos_message_of_workflow"),
        )

    def __str__(self) -> str:
        return f"{self.topic or '-'} -> {self.destination_id}"


class Event(models.Model):
    """The last value that a workflow set for a key."""

    pk = models.CompositePrimaryKey("workflow_id", "key")
    workflow = models.ForeignKey(
        Workflow, models.CASCADE, verbose_name=_("workflow"), related_name="events", db_constraint=False, db_index=False
    )
    key = models.CharField(_("key"), max_length=255)
    value = models.TextField(_("value"))
    serializer = models.CharField(_("serializer"), max_length=255, default="json", db_default="json")
    updated_at = models.DateTimeField(_("updated"), db_default=Now())

    objects = SystemManager["Event"]()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")

    def __str__(self) -> str:
        return self.key


class EventHistory(models.Model):
    """Every value that a workflow set for a key, with the step that set it."""

    pk = models.CompositePrimaryKey("workflow_id", "key", "step")
    workflow = models.ForeignKey(
        Workflow,
        models.CASCADE,
        verbose_name=_("workflow"),
        related_name="event_history",
        db_constraint=False,
        db_index=False,
    )
    key = models.CharField(_("key"), max_length=255)
    step = models.PositiveIntegerField(_("step"))
    value = models.TextField(_("value"))
    serializer = models.CharField(_("serializer"), max_length=255, default="json", db_default="json")
    created_at = models.DateTimeField(_("created"), db_default=Now())

    objects = SystemManager["EventHistory"]()

    class Meta:
        verbose_name = _("event history")
        verbose_name_plural = _("event histories")

    def __str__(self) -> str:
        return f"{self.key} at step {self.step}"


class StreamEntry(models.Model):
    """One value of a stream that a workflow writes and others read."""

    pk = models.CompositePrimaryKey("workflow_id", "key", "offset")
    workflow = models.ForeignKey(
        Workflow,
        models.CASCADE,
        verbose_name=_("workflow"),
        related_name="stream_entries",
        db_constraint=False,
        db_index=False,
    )
    key = models.CharField(_("key"), max_length=255)
    offset = models.PositiveIntegerField(_("offset"))
    value = models.TextField(_("value"))
    serializer = models.CharField(_("serializer"), max_length=255, default="json", db_default="json")
    step = models.PositiveIntegerField(_("step"))
    is_end = models.BooleanField(_("end of stream"), default=False, db_default=False)
    created_at = models.DateTimeField(_("created"), db_default=Now())

    objects = SystemManager["StreamEntry"]()

    class Meta:
        verbose_name = _("stream entry")
        verbose_name_plural = _("stream entries")

    def __str__(self) -> str:
        return f"{self.key}[{self.offset}]"
