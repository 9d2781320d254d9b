"""What runs workflows: queues, schedules, executors, versions."""

from typing import Any

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from ..states import ExecutorState, ScheduleStatus
from .base import SystemManager


class Queue(models.Model):
    """A queue's limits: what the code declares, and what an operator has put in their place."""

    name = models.CharField(_("name"), primary_key=True, max_length=255)
    declared = models.JSONField(_("declared limits"), blank=True, default=dict, db_default={})
    overrides = models.JSONField(_("overrides"), blank=True, default=dict, db_default={})
    is_paused = models.BooleanField(_("paused"), default=False, db_default=False)
    created_at = models.DateTimeField(_("created"), db_default=Now())
    updated_at = models.DateTimeField(_("updated"), db_default=Now())

    objects = SystemManager["Queue"]()

    class Meta:
        verbose_name = _("queue")
        verbose_name_plural = _("queues")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def limits(self) -> dict[str, Any]:
        """The limits in force: an operator's overrides on top of what the code declares."""
        return {**self.declared, **self.overrides}


class Schedule(models.Model):
    """A workflow that starts by the clock."""

    name = models.CharField(_("name"), primary_key=True, max_length=255)
    workflow_name = models.CharField(_("workflow"), max_length=255)
    cron = models.CharField(_("cron"), max_length=255)
    timezone = models.CharField(_("time zone"), max_length=64, default="UTC", db_default="UTC")
    context = models.TextField(_("context"), null=True, blank=True)  # noqa: DJ001 - NULL: no context
    serializer = models.CharField(_("serializer"), max_length=255, default="json", db_default="json")
    mode = models.CharField(_("mode"), max_length=64)
    queue_name = models.CharField(_("queue"), max_length=255, blank=True, default="", db_default="")
    status = models.CharField(
        _("status"),
        max_length=16,
        choices=ScheduleStatus.choices,
        default=ScheduleStatus.ACTIVE,
        db_default=ScheduleStatus.ACTIVE.value,
    )
    last_fired_at = models.DateTimeField(_("last fired"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=Now())
    updated_at = models.DateTimeField(_("updated"), db_default=Now())

    objects = SystemManager["Schedule"]()

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Executor(models.Model):
    """One process that runs workflows, from its start to its end. An id is never used twice."""

    id = models.CharField(_("id"), primary_key=True, max_length=255)
    host = models.CharField(_("host"), max_length=255, blank=True, default="", db_default="")
    pid = models.PositiveIntegerField(_("process"))
    application_version = models.CharField(_("version"), max_length=255, blank=True, default="", db_default="")
    queues = models.JSONField(_("queues"), blank=True, default=list, db_default=[])
    state = models.CharField(_("state"), max_length=16, choices=ExecutorState.choices, default=ExecutorState.RUNNING)
    started_at = models.DateTimeField(_("started"), db_default=Now())
    heartbeat_at = models.DateTimeField(_("heartbeat"), db_default=Now())

    objects = SystemManager["Executor"]()

    class Meta:
        verbose_name = _("executor")
        verbose_name_plural = _("executors")
        ordering = ("-started_at",)

    def __str__(self) -> str:
        return self.id


class ApplicationVersion(models.Model):
    """A version of the application that has run here; the latest is the one made latest last."""

    name = models.CharField(_("name"), primary_key=True, max_length=255)
    first_seen_at = models.DateTimeField(_("first seen"), db_default=Now())
    made_latest_at = models.DateTimeField(_("made latest"), db_default=Now())

    objects = SystemManager["ApplicationVersion"]()

    class Meta:
        verbose_name = _("application version")
        verbose_name_plural = _("application versions")
        ordering = ("-made_latest_at",)

    def __str__(self) -> str:
        return self.name


class EventDispatchState(models.Model):
    """Where an outside event source was read up to."""

    pk = models.CompositePrimaryKey("service_name", "workflow_name", "key")
    service_name = models.CharField(_("service"), max_length=255)
    workflow_name = models.CharField(_("workflow"), max_length=255)
    key = models.CharField(_("key"), max_length=255)
    value = models.TextField(_("value"), null=True, blank=True)  # noqa: DJ001 - NULL: nothing kept
    update_seq = models.DecimalField(_("sequence"), max_digits=38, decimal_places=0, null=True, blank=True)
    update_time = models.DecimalField(_("time"), max_digits=38, decimal_places=15, null=True, blank=True)

    objects = SystemManager["EventDispatchState"]()

    class Meta:
        verbose_name = _("event dispatch state")
        verbose_name_plural = _("event dispatch states")

    def __str__(self) -> str:
        return f"{self.service_name} {self.key}"
