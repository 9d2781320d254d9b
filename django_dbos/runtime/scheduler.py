"""The scheduler: enqueues the run of each tick. Any number of workers may tick; a run's id makes it one."""

from datetime import datetime, timedelta

from .. import clock, serialization
from ..hub import SCHEDULES
from ..models import Schedule
from ..schedules import Cron, SchedulerMode, declared_schedules
from ..sysdb import schedules
from ..sysdb.schedules import Declaration
from .service import Service

#: How often the table is read again, in seconds.
_SYNC_INTERVAL = 5.0


class Scheduler(Service):
    """Sleeps until the next tick of any schedule, then fires what is due."""

    name = "scheduler"
    channels = (SCHEDULES,)

    def __init__(self) -> None:
        super().__init__()
        self._schedules: list[Schedule] = []
        self._declared: list[Declaration] = []
        self._cursors: dict[tuple[str, str, str], datetime] = {}
        self._sync_at = 0.0
        self._offset = timedelta()

    def tick(self) -> float:
        """See Service.tick()."""
        if self.was_woken or clock.monotonic() >= self._sync_at:
            self._sync()
        due = [self._fire(schedule) for schedule in self._schedules]
        now = self._now()
        until_next = min(((tick - now).total_seconds() for tick in due), default=_SYNC_INTERVAL)
        return max(min(until_next, self._sync_at - clock.monotonic()), 0)

    def _now(self) -> datetime:
        """The database's time, so that a worker with a wrong clock fires when all others do."""
        return clock.now() + self._offset

    def _sync(self) -> None:
        new = [declaration for declaration in declared_schedules() if declaration not in self._declared]
        if new:
            schedules.declare(new)
            self._declared = declared_schedules()
        rows, now = schedules.active()
        if now is not None:
            self._offset = now - clock.now()
        # What the code no longer declares does not fire, though its row, and its history, are still there.
        declared = {declaration.name for declaration in declared_schedules()}
        self._schedules = [row for row in rows if row.name in declared]
        self._sync_at = clock.monotonic() + _SYNC_INTERVAL

    def _fire(self, schedule: Schedule) -> datetime:
        """Enqueue every tick of a schedule that is due; the next one that is not."""
        key = (schedule.name, schedule.cron, schedule.timezone)
        cursor = self._cursors.setdefault(key, self._first_cursor(schedule))
        for tick in Cron(schedule.cron, schedule.timezone).ticks_after(cursor):
            now = self._now()
            if tick > now or self.is_stopping:
                return tick
            inputs, serializer = serialization.dump_call((tick, now), {})
            schedules.fire(schedule, tick, inputs=inputs, serializer=serializer)
            self._cursors[key] = tick
        raise AssertionError("ticks have no end")

    def _first_cursor(self, schedule: Schedule) -> datetime:
        """From where on ticks are due when this scheduler sees a schedule for the first time."""
        now = self._now()
        is_made_up = schedule.mode == SchedulerMode.EXACTLY_ONCE_PER_INTERVAL
        return schedule.last_fired_at or now if is_made_up else now
