"""Schedules: workflows that start by the clock, once per tick whatever number of workers there is."""

import re
from calendar import day_name, month_name
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ParamSpec, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter

from .exceptions import InvalidOption
from .hub import SCHEDULES, hub
from .sysdb.schedules import Declaration
from .workflows import definition_of

P = ParamSpec("P")
R = TypeVar("R")


class SchedulerMode(StrEnum):
    """What becomes of ticks that passed while no worker was there."""

    #: They are made up.
    EXACTLY_ONCE_PER_INTERVAL = "EXACTLY_ONCE_PER_INTERVAL"
    #: They are not.
    EXACTLY_ONCE_PER_INTERVAL_WHEN_ACTIVE = "EXACTLY_ONCE_PER_INTERVAL_WHEN_ACTIVE"


_declared: dict[str, Declaration] = {}


def scheduled(
    cron: str,
    *,
    mode: SchedulerMode = SchedulerMode.EXACTLY_ONCE_PER_INTERVAL_WHEN_ACTIVE,
    timezone: str = "UTC",
    queue: str = "",
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Start a workflow at each tick of ``cron`` (five fields, or six with the seconds first).

    Put it above ``@workflow``. The workflow is called with ``(scheduled_at, started_at)``: the tick, and when the
    scheduler came to it, both in UTC. The run of a tick has the id ``sched-<name>-<UTC time>``.
    """
    check_cron(cron)
    check_timezone(timezone)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = definition_of(function).name
        _declared[name] = Declaration(
            name=name,
            workflow_name=name,
            cron=cron,
            timezone=timezone,
            mode=SchedulerMode(mode).value,
            queue_name=queue,
        )
        hub.wake(SCHEDULES)
        return function

    return decorate


def forget_schedule(name: str) -> None:
    """Unlearn a schedule, if this process knows it: it does not fire here any more."""
    _declared.pop(name, None)
    hub.wake(SCHEDULES)


def declared_schedules() -> list[Declaration]:
    """Every schedule that the code of this process declares."""
    return list(_declared.values())


def check_cron(cron: object) -> None:
    """Raises InvalidOption unless this is a cron expression of five or six fields."""
    text = _abbreviated(cron) if isinstance(cron, str) else ""
    fields = text.split()
    if len(fields) not in (5, 6) or not croniter.is_valid(text, second_at_beginning=len(fields) == 6):
        raise InvalidOption(
            f"{cron!r} is not a cron expression: minute hour day-of-month month day-of-week, "
            "optionally with the second in front."
        )


# croniter knows months and days by three letters only.
_NAMES = re.compile(rf"\b({'|'.join([*month_name[1:], *day_name])})\b", re.IGNORECASE)


def _abbreviated(cron: str) -> str:
    return _NAMES.sub(lambda name: name[0][:3], cron)


def check_timezone(name: str) -> None:
    """Raises InvalidOption unless this is the name of a time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        raise InvalidOption(f"{name!r} is not an IANA time zone such as 'Europe/Prague'.") from error


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a time zone."""

    expression: str
    timezone: str

    def ticks_after(self, moment: datetime) -> Iterator[datetime]:
        """The ticks after ``moment``, in UTC, in order and without end."""
        has_seconds = len(self.expression.split()) == 6
        local = moment.astimezone(ZoneInfo(self.timezone))
        ticks: Any = croniter(_abbreviated(self.expression), local, ret_type=datetime, second_at_beginning=has_seconds)
        while True:
            yield ticks.get_next(datetime).astimezone(UTC)

    def next_after(self, moment: datetime) -> datetime:
        """The first tick after ``moment``, in UTC."""
        return next(self.ticks_after(moment))
