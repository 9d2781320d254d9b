"""Timers: whatever the clock decides happens in the dispatcher's own loop, when it is due."""

from .. import clock
from ..conf import conf
from ..sysdb import timers

# SQLite compares milliseconds.
_SLACK = 0.001


class Timers:
    """Knows when the next delay is over and the next deadline passes; looks for new ones once per POLL_INTERVAL.

    Where no workflow has a delay or a deadline, that look is all that it costs.
    """

    def __init__(self) -> None:
        self._look_at = 0.0

    def tick(self) -> None:
        """Do what is due, if there can be something."""
        if clock.monotonic() < self._look_at:
            return
        due = timers.next_due()
        changed = 0
        if due.delay is not None and due.delay <= 0:
            changed += timers.ripen()
        if due.deadline is not None and due.deadline <= 0:
            changed += timers.cancel_overdue()
        self._look_at = clock.monotonic() + (0 if changed else self._pause(due))

    def seconds(self) -> float:
        """In how many seconds there can be something to do again."""
        return max(self._look_at - clock.monotonic(), 0)

    def _pause(self, due: timers.Due) -> float:
        """Until the next one is due; one that is due and did not change is another worker's at this moment."""
        ahead = [seconds for seconds in (due.delay, due.deadline) if seconds is not None and seconds > 0]
        return min([conf.POLL_INTERVAL, *(seconds + _SLACK for seconds in ahead)])
