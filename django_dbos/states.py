"""The states of a workflow, and the one table of the transitions that are allowed between them."""

from typing import Final

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class WorkflowStatus(TextChoices):
    """Where a workflow stands."""

    DELAYED = "DELAYED", _("Delayed")
    ENQUEUED = "ENQUEUED", _("Enqueued")
    PENDING = "PENDING", _("Pending")
    SUCCESS = "SUCCESS", _("Success")
    ERROR = "ERROR", _("Error")
    CANCELLED = "CANCELLED", _("Cancelled")
    MAX_RECOVERY_ATTEMPTS_EXCEEDED = "MAX_RECOVERY_ATTEMPTS_EXCEEDED", _("Max recovery attempts exceeded")


class ExecutorState(TextChoices):
    """Where a process that runs workflows stands."""

    RUNNING = "running", _("Running")
    DRAINING = "draining", _("Draining")
    STOPPED = "stopped", _("Stopped")
    LOST = "lost", _("Lost")


class ScheduleStatus(TextChoices):
    """Whether a schedule fires."""

    ACTIVE = "ACTIVE", _("Active")
    PAUSED = "PAUSED", _("Paused")


_S = WorkflowStatus

WAITING: Final = frozenset({_S.DELAYED, _S.ENQUEUED})
ACTIVE: Final = frozenset({_S.DELAYED, _S.ENQUEUED, _S.PENDING})
FINISHED: Final = frozenset({_S.SUCCESS, _S.ERROR, _S.CANCELLED, _S.MAX_RECOVERY_ATTEMPTS_EXCEEDED})

#: verb -> (the states it expects, the state it leads to). A verb that finds another state changes nothing.
TRANSITIONS: Final[dict[str, tuple[frozenset[WorkflowStatus], WorkflowStatus]]] = {
    "ripen": (frozenset({_S.DELAYED}), _S.ENQUEUED),
    "claim": (frozenset({_S.ENQUEUED}), _S.PENDING),
    "release": (frozenset({_S.PENDING}), _S.ENQUEUED),
    "recover": (frozenset({_S.PENDING}), _S.ENQUEUED),
    "succeed": (frozenset({_S.PENDING}), _S.SUCCESS),
    "fail": (frozenset({_S.PENDING}), _S.ERROR),
    "dead_letter": (frozenset({_S.PENDING}), _S.MAX_RECOVERY_ATTEMPTS_EXCEEDED),
    "cancel": (ACTIVE, _S.CANCELLED),
    "resume": (frozenset(_S) - {_S.SUCCESS, _S.ERROR}, _S.ENQUEUED),
    "rewind": (FINISHED, _S.ENQUEUED),
    "delay": (WAITING, _S.DELAYED),
}


def expected(verb: str) -> frozenset[WorkflowStatus]:
    """The states from which ``verb`` is allowed."""
    return TRANSITIONS[verb][0]


def allows(verb: str, status: str) -> bool:
    """Whether ``verb`` may be applied to a workflow in ``status``."""
    return status in TRANSITIONS[verb][0]
