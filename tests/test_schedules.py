"""Schedules: ticks by croniter, one run each."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_dbos import Queue, Runtime, SchedulerMode, scheduled, workflow
from django_dbos.clock import now
from django_dbos.exceptions import InvalidOption
from django_dbos.models import Schedule, Workflow
from django_dbos.runtime.scheduler import Scheduler
from django_dbos.schedules import Cron, _declared, declared_schedules
from django_dbos.sysdb import schedules
from tests.support import eventually

database = pytest.mark.django_db(transaction=True)

TICKS = Queue("ticks")
seen: list[tuple[datetime, datetime]] = []


@scheduled("* * * * * *", queue="ticks")
@workflow
def every_second(scheduled_at: datetime, started_at: datetime) -> str:
    seen.append((scheduled_at, started_at))
    return scheduled_at.isoformat()


@scheduled("0 3 * * *", timezone="Europe/Prague", mode=SchedulerMode.EXACTLY_ONCE_PER_INTERVAL)
@workflow
def nightly(scheduled_at: datetime, started_at: datetime) -> str:
    return scheduled_at.isoformat()


#: Declared for the tests of this file only: elsewhere they would fire in every runtime.
DECLARED = {name: _declared.pop(name) for name in ("every_second", "nightly")}


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    seen.clear()
    for name, declaration in DECLARED.items():
        monkeypatch.setitem(_declared, name, declaration)


def runs(name: str) -> list[str]:
    return list(Workflow.objects.filter(schedule_name=name).order_by("pk").values_list("pk", flat=True))


@database
def test_each_tick_starts_one_run_with_its_time_however_many_workers_there_are() -> None:
    with Runtime(), Runtime(), Runtime():
        eventually(lambda: len(seen) >= 2)
    ticks = [tick for tick, _ in seen]
    assert len(ticks) == len(set(ticks))
    first = Workflow.objects.filter(schedule_name="every_second").earliest("pk")
    assert first.pk == f"sched-every_second-{min(ticks):%Y-%m-%dT%H:%M:%SZ}"
    assert first.queue_name == "ticks"
    assert all(tick <= started < tick + timedelta(seconds=2) for tick, started in seen)
    row = Schedule.objects.get(name="every_second")
    assert row.last_fired_at == max(datetime.fromisoformat(pk[-20:]) for pk in runs("every_second"))


@database
def test_a_worker_writes_down_what_the_code_declares() -> None:
    with Runtime():
        eventually(lambda: Schedule.objects.count() == len(declared_schedules()))
    row = Schedule.objects.get(name="nightly")
    assert (row.cron, row.timezone, row.mode, row.status) == (
        "0 3 * * *",
        "Europe/Prague",
        "EXACTLY_ONCE_PER_INTERVAL",
        "ACTIVE",
    )


@database
def test_without_a_scheduler_nothing_fires() -> None:
    with Runtime(scheduler=False):
        pass
    assert not Schedule.objects.exists()


@database
def test_missed_ticks_are_made_up_in_the_mode_that_says_so() -> None:
    schedules.declare(declared_schedules())
    Schedule.objects.filter(name="nightly").update(last_fired_at=now() - timedelta(days=3, minutes=1))
    Schedule.objects.filter(name="every_second").update(last_fired_at=now() - timedelta(days=1))
    Scheduler().tick()
    assert len(runs("nightly")) == 3
    assert len(runs("every_second")) <= 1


@database
def test_a_schedule_never_fired_before_makes_nothing_up() -> None:
    Scheduler().tick()
    assert runs("nightly") == []


@database
def test_a_paused_schedule_does_not_fire() -> None:
    schedules.declare(declared_schedules())
    Schedule.objects.update(status="PAUSED", last_fired_at=now() - timedelta(days=3))
    Scheduler().tick()
    assert not Workflow.objects.exists()


@database
def test_a_changed_cron_resets_the_cursor_and_never_fires_back() -> None:
    schedules.declare(declared_schedules())
    Schedule.objects.filter(name="nightly").update(cron="0 4 * * *", last_fired_at=now() - timedelta(days=3))
    Scheduler().tick()
    assert runs("nightly") == []
    assert Schedule.objects.get(name="nightly").cron == "0 3 * * *"


@database
def test_the_cursor_never_goes_back() -> None:
    schedules.declare(declared_schedules())
    row = Schedule.objects.get(name="nightly")
    late, early = datetime(2026, 5, 2, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
    assert schedules.fire(row, late, inputs="[[],{}]", serializer="json")
    assert schedules.fire(row, early, inputs="[[],{}]", serializer="json")
    assert not schedules.fire(row, early, inputs="[[],{}]", serializer="json")
    row.refresh_from_db()
    assert row.last_fired_at == late


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("*/15 * * * *", "UTC", "2026-11-20T10:07:00+00:00", "2026-11-20T10:15:00+00:00"),
        ("0 9 * * Mon", "UTC", "2026-11-20T10:00:00+00:00", "2026-11-23T09:00:00+00:00"),
        ("30 0 9 * * *", "UTC", "2026-11-20T09:00:00+00:00", "2026-11-20T09:00:30+00:00"),
        ("0 9 1 January *", "UTC", "2026-11-20T10:00:00+00:00", "2027-01-01T09:00:00+00:00"),
        ("0 9 * * *", "Asia/Tokyo", "2026-11-20T10:00:00+00:00", "2026-11-21T00:00:00+00:00"),
        ("0 9 * * *", "America/New_York", "2026-07-01T14:00:00+00:00", "2026-07-02T13:00:00+00:00"),
    ],
)
def test_the_next_tick_is_where_the_expression_says_in_its_zone(
    cron: str, zone: str, after: str, expected: str
) -> None:
    assert Cron(cron, zone).next_after(datetime.fromisoformat(after)).isoformat() == expected


@pytest.mark.parametrize("cron", ["", "* * * *", "* * * * * * *", "61 * * * *", "nonsense", None, "0 0 32 * *"])
def test_a_bad_cron_is_refused_at_the_decorator(cron: Any) -> None:
    with pytest.raises(InvalidOption, match="cron expression"):
        scheduled(cron)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", None])
def test_a_bad_zone_is_refused_at_the_decorator(zone: Any) -> None:
    with pytest.raises(InvalidOption, match="IANA time zone"):
        scheduled("* * * * *", timezone=zone)


def test_only_a_workflow_can_be_scheduled() -> None:
    with pytest.raises(InvalidOption, match="@workflow"):
        scheduled("* * * * *")(len)


@database
def test_what_the_code_no_longer_declares_does_not_fire() -> None:
    Schedule.objects.create(
        name="of old", workflow_name="nightly", cron="* * * * *", mode="EXACTLY_ONCE_PER_INTERVAL", last_fired_at=now()
    )
    Schedule.objects.update(last_fired_at=now() - timedelta(days=1))
    Scheduler().tick()
    assert runs("of old") == []
