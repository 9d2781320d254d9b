"""Versions of the application as rows: which have run here, which is the latest, and which nobody serves."""

from datetime import datetime, timedelta

from django.db.models import Count, QuerySet
from django.db.models.functions import Now

from ..conf import conf
from ..exceptions import UnknownVersion
from ..models import ApplicationVersion, Executor, Workflow
from ..states import ExecutorState, WorkflowStatus
from . import vendor

# SQLite's clock has milliseconds, and a clock may be set back: the one that was made latest last comes first all
# the same.
_NEXT = timedelta(milliseconds=1)


def register(name: str) -> bool:
    """Write down that a version runs here; a new one is the latest from now on. False: it was known before.

    Two workers that register the same new version at a time write one row: whoever comes second changes nothing.
    """
    with vendor.transaction():
        if ApplicationVersion.objects.filter(pk=name).exists():
            return False
        row = ApplicationVersion(name=name, first_seen_at=vendor.current_time(), made_latest_at=_next_moment())
        ApplicationVersion.objects.bulk_create([row], ignore_conflicts=True)
        return True


def make_latest(name: str) -> None:
    """Make a known version the latest; zero rows mean that it is unknown, which raises UnknownVersion."""
    with vendor.transaction():
        if not ApplicationVersion.objects.filter(pk=name).update(made_latest_at=_next_moment()):
            raise UnknownVersion(
                f"No worker of version {name!r} has ever started here: there is nothing to make latest."
            )


def _next_moment() -> datetime:
    newest = latest()
    now = vendor.current_time()
    return now if newest is None else max(now, newest.made_latest_at + _NEXT)


def listed() -> list[ApplicationVersion]:
    """Every version, the latest first."""
    return list(ApplicationVersion.objects.order_by("-made_latest_at", "name"))


def latest() -> ApplicationVersion | None:
    """The latest version; None if none was ever registered."""
    return ApplicationVersion.objects.order_by("-made_latest_at", "name").first()


def _live_workers() -> QuerySet[Executor]:
    """Executors that take work. One that only carries a web process's direct calls serves no queue."""
    since = Now() - timedelta(seconds=conf.HEARTBEAT_TIMEOUT)
    return Executor.objects.filter(state=ExecutorState.RUNNING, heartbeat_at__gte=since).exclude(queues=[])


def is_outdated(name: str) -> bool:
    """Whether another version is the latest, and a worker of it is alive."""
    newest = latest()
    if newest is None or newest.name == name:
        return False
    return _live_workers().filter(application_version=newest.name).exists()


def unserved() -> dict[str, int]:
    """How many workflows wait for each version that no live worker serves; "" stands for those of no version."""
    served = set(_live_workers().values_list("application_version", flat=True).distinct())
    waiting = (
        Workflow.objects.filter(status__in=(WorkflowStatus.ENQUEUED, WorkflowStatus.DELAYED))
        .order_by()
        .values_list("application_version")
        .annotate(count=Count("pk"))
    )
    # Any live worker takes what has no version.
    return {name: count for name, count in sorted(waiting) if not (name in served or (not name and served))}
